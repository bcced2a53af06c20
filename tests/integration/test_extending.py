"""The sink of docs/add-a-sink.md runs beside the built-in sinks, from the page's own blocks."""

import sys

import oracle
import pytest
import yaml
from pages import blocks, loaded

from streamscore import score_stream, sinks
from streamscore.clients import kafka
from streamscore.config import keys
from streamscore.errors import StreamError
from streamscore.system import failpoints


@pytest.fixture
def page(root):
    """The path of the page."""
    return root / "docs" / "add-a-sink.md"


@pytest.fixture
def files(page, tmp_path, monkeypatch):
    """Return a function that parses the page's configuration section with a value for its key."""
    scope = dict(vars(keys))
    exec(blocks(page, "python")[2], scope)  # noqa: S102 (the page's own code)
    (text,) = blocks(page, "yaml")
    default = yaml.safe_load(text)["files"]
    scope["Files"].model_rebuild(_types_namespace=scope)
    return lambda **given: scope["Files"].model_validate(default | given)


def test_sink_of_the_page_is_written_once_whatever_fails(
    spark, own, page, files, small_models, outcomes, tmp_path, monkeypatch
):
    """The sink's folders hold the outcomes of the predictions topic, also after a fault halfway."""
    monkeypatch.setitem(sys.modules, "outcome_files", None)
    module = loaded(blocks(page, "python")[0], tmp_path / "outcome_files.py")
    config = own(oracle.listed(small_models), "stream.available_now=true", "stream.max_events_per_batch=200")
    config = config.model_copy(update={"files": files(folder=str(tmp_path / "outcomes"))})
    configured = sinks.configured

    def with_entry(config):
        scope = {"config": config, "OutcomeFiles": module.OutcomeFiles}
        exec(blocks(page, "python")[1], scope)  # noqa: S102 (the page's own code)
        return [*configured(config), *scope["files"]]

    monkeypatch.setattr(sinks, "configured", with_entry)
    assert len(with_entry(config)) == len(configured(config)) + 1
    assert len(with_entry(config.model_copy(update={"files": files()}))) == len(configured(config))
    kafka.ensure(config.kafka, config.kafka.topics.input)
    ledger = oracle.Ledger(seed=1)
    oracle.send(config, ledger.next_messages(500))
    score_stream.check(config)
    with monkeypatch.context() as armed:
        armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
        armed.setenv("STREAMSCORE_FAULT", "files-half:raise:2")
        with pytest.raises(StreamError, match="while writing to the folder .*outcomes: "):
            score_stream.run(spark, config)
    failpoints.arm(0)
    score_stream.run(spark, config)

    identity = ["event_id", "model", "model_version", "prediction"]
    rows = spark.read.json(f"{tmp_path / 'outcomes'}/*/*").select(*identity).collect()
    assert sorted(map(tuple, rows)) == sorted(tuple(outcome[name] for name in identity) for outcome in outcomes(config))
    assert len(rows) == 2 * len(ledger.good)
    assert oracle.faults(oracle.judge(spark, config, ledger, small_models)) == {}

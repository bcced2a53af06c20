"""replay_topic on the real servers: a stretch gives the live statistics, and nothing else changes."""

import json
import logging
import shutil
import time
import uuid
from pathlib import Path

import oracle
import pytest
from confluent_kafka import TopicPartition
from jobs import written
from typer.testing import CliRunner

from streamscore import cli, replay_topic, score_stream
from streamscore import config as configuration
from streamscore.cli.options import of_run
from streamscore.clients import elasticsearch, kafka, topic_records
from streamscore.config.types import iso_time
from streamscore.errors import CheckpointError, ConfigError, InputError, ModelError, StreamError
from streamscore.launch.runner import run_job
from streamscore.stream import runs
from streamscore.stream.stop import StopRequest
from streamscore.system import failpoints

MINUTE = 60_000
START = (round(time.time() * 1_000) - 120 * MINUTE) // (10 * MINUTE) * 10 * MINUTE
"""Time of the first message: a window of ten minutes begins."""


@pytest.fixture(autouse=True)
def logged(caplog):
    """Let the log reach the test."""
    logging.getLogger("streamscore").propagate = True
    caplog.set_level(logging.INFO, "streamscore")


@pytest.fixture(scope="module")
def make(make_own, small_models, tmp_path_factory):
    """Return a function that fills a topic with 900 messages over 60 minutes, and returns the configuration."""

    def filled():
        config = make_own(
            f"t{uuid.uuid4().hex[:8]}",
            tmp_path_factory.mktemp("replay"),
            oracle.listed(small_models),
            "stream.available_now=true",
            "stream.max_events_per_batch=250",
            "elasticsearch.retry_seconds=0",
        )
        kafka.ensure(config.kafka, *(getattr(config.kafka.topics, name) for name in ("input", "predictions")))
        producer = kafka.producer(config.kafka)
        for number, (key, value) in enumerate(oracle.Ledger(7).next_messages(900)):
            producer.produce(config.kafka.topics.input, value, key, timestamp=START + number * 4_000)
        assert producer.flush(30) == 0
        return config

    return filled


@pytest.fixture(scope="module")
def world(make, spark):
    """A topic that was scored live, for tests that leave it as it is."""
    config = make()
    score_stream.check(config)
    score_stream.run(spark, config)
    return config


@pytest.fixture(scope="module")
def unscored(make):
    """A topic that no job has scored, for tests that leave it as it is."""
    return make()


@pytest.fixture
def break_off(spark, monkeypatch):
    """Return a function that replays until a fault at a point ends it; the next run has none."""

    def run(config, point):
        with monkeypatch.context() as armed:
            armed.setenv("STREAMSCORE_TEST_FAULTS", "1")
            armed.setenv("STREAMSCORE_FAULT", point)
            with pytest.raises(StreamError, match="not committed; the same command goes on"):
                replay_topic.run(spark, config)

    yield run
    failpoints.arm(0)


def asked(config, begin=0, end=60, **more):
    """Return the configuration that asks for the stretch between two minutes, under a new name."""
    name = more.pop("name", f"r{uuid.uuid4().hex[:8]}")
    replay = {"name": name, "begin": START + begin * MINUTE, "end": START + end * MINUTE, **more}
    return config.model_validate({**config.model_dump(), "replay": config.replay.model_dump() | replay})


def replayed(spark, config):
    """Replay, and return the summary."""
    replay_topic.check(config)
    return replay_topic.run(spark, config)


def statistics_of_run(config):
    """Return the statistics of the run that a configuration asks for."""
    return oracle.statistics(runs.of_config(config))


def require_equal(found, expected):
    """Compare statistics window by window: counts exactly, sums up to rounding."""
    assert found.keys() == expected.keys()
    assert [key for key in found if not oracle.same_statistics(found[key], expected[key])] == []


def everything(config):
    """Return all that a replay must leave as it is: offsets, documents, and the checkpoint's files."""
    topics = config.kafka.topics
    names = [topics.input, topics.predictions, topics.rejected]
    files = {path: path.read_bytes() for path in Path(config.stream.checkpoint).rglob("*") if path.is_file()}
    with elasticsearch.client(config.elasticsearch) as client:
        found = {}
        for index in config.elasticsearch.indices:
            client.indices.refresh(index=index)
            hits = client.search(index=index, size=10_000, seq_no_primary_term=True)["hits"]["hits"]
            found[index] = {hit["_id"]: (hit["_seq_no"], hit["_source"]) for hit in hits}
            found[index, "mapping"] = client.indices.get_mapping(index=index).body
    return {name: topic_records.extent(config.kafka, name) for name in names}, files, found


def test_stretch_gives_the_live_statistics_and_leaves_everything_else_alone(spark, world, small_models):
    """A stretch of whole windows, with a candidate, in other batches than live: the statistics are the live ones."""
    before = everything(world)
    config = asked(world, 10, 40, models=[{"name": "lr2", "uri": small_models["lr"]}])
    config = config.model_copy(update={"stream": config.stream.model_copy(update={"max_events_per_batch": 130})})
    summary = replayed(spark, config)

    live = {
        key: statistic
        for key, statistic in oracle.statistics(world).items()
        if key[2] < 86_400 and START + 10 * MINUTE <= key[3] < START + 40 * MINUTE
    }
    found = {key: statistic for key, statistic in statistics_of_run(config).items() if key[2] < 86_400}
    require_equal({key: statistic for key, statistic in found.items() if key[0] != "lr2"}, live)
    require_equal(
        {("lr", *key[1:]): statistic for key, statistic in found.items() if key[0] == "lr2"},
        {key: statistic for key, statistic in live.items() if key[0] == "lr"},
    )
    assert everything(world) == before
    assert (summary["events"], summary["complete"], summary["lag"]) == (450, True, 0)
    assert summary["batches"] >= 4
    assert not runs.of_config(config).elasticsearch.documents


@pytest.mark.parametrize("point", ["entry:raise:2", "quality-half:raise:2", "stop"])
def test_interrupted_run_goes_on_and_counts_each_event_once(spark, world, break_off, point):
    """Whatever point of a batch breaks off, the same command gives the live statistics of the whole topic."""
    config = asked(world)
    if point == "stop":
        stop = StopRequest()
        summary = replay_topic.run(spark, config, stop, lambda _: stop.ask("a test"))
        assert not summary["complete"]
        assert 0 < summary["events"] < 900
    else:
        break_off(config, point)
    (half,) = [each for each in runs.all_of(config) if each.run.name == config.replay.name]
    assert 0 < half.done < 900
    assert half.state.endswith("%, stopped" if point == "stop" else f"%, process {half.process}")  # the JVM goes on
    replayed(spark, config)

    require_equal(statistics_of_run(config), oracle.statistics(world))
    assert replayed(spark, config)["events"] == 0  # complete: nothing is left to do


def test_documents_and_rejected_messages_of_a_run(spark, world, documents):
    """With --documents the run's documents are the live ones; rejected messages and batches are there in any case."""
    config = asked(world, documents=True)
    replayed(spark, config)
    own = runs.of_config(config).elasticsearch

    assert documents(config, own.index) == documents(world, world.elasticsearch.index)
    assert documents(config, own.rejected_index) == documents(world, world.elasticsearch.rejected_index)
    require_equal(statistics_of_run(config), oracle.statistics(world))
    with elasticsearch.client(own) as client:
        client.indices.refresh(index=own.status_index)
        hits = client.search(index=own.status_index, size=100)["hits"]["hits"]
    assert sum(hit["_source"]["events"] for hit in hits) == 900


def drop(config, until):
    """Delete the records before a minute, as retention does."""
    topic = config.kafka.topics.input
    kept = topic_records.stretch(config.kafka, topic, START + until * MINUTE, START + 100 * MINUTE)
    client = kafka.admin(config.kafka)
    doomed = [TopicPartition(topic, partition, offset) for partition, offset in kept.begin.items()]
    for future in client.delete_records(doomed).values():
        future.result()


def test_what_retention_has_dropped_is_said(spark, make, caplog):
    """A stretch whose beginning is gone is scored from what is left, with a warning; one that is gone is refused."""
    world = make()
    drop(world, 20)
    config = asked(world, 10, 40)
    summary = replayed(spark, config)
    assert "may have dropped the beginning of the stretch: partition 0 no longer holds its first" in caplog.text
    assert f"begins at {iso_time(START + 20 * MINUTE)[:16]}" in caplog.text
    assert summary["events"] == 300
    later = topic_records.stretch(world.kafka, world.kafka.topics.input, START + 25 * MINUTE, START + 40 * MINUTE)
    assert (later.records, later.dropped) == (225, {})
    assert "not in order" not in caplog.text
    with pytest.raises(InputError, match=r"no record from .* to .* \(partition 0 no longer holds its first"):
        replay_topic.check(asked(world, 5, 15))


def test_records_that_retention_drops_while_a_run_is_interrupted(spark, make, break_off):
    """A run whose rest is gone is not completed with a part of it."""
    config = asked(make())
    break_off(config, "quality:raise:2")
    drop(config, 50)

    with pytest.raises(InputError, match="retention has dropped [0-9,]+ records of the topic"):
        replay_topic.run(spark, config)


def test_records_behind_the_end_that_belong_to_the_stretch_are_told(spark, own, small_models, caplog):
    """A record that is dated ahead ends its partition's part early, and a warning says that others follow."""
    config = own(oracle.listed(small_models), "kafka.partitions=1")
    kafka.ensure(config.kafka, *(getattr(config.kafka.topics, name) for name in ("input", "predictions")))
    producer = kafka.producer(config.kafka)
    for number, (key, value) in enumerate(oracle.Ledger(3).next_messages(30)):
        minute = 50 if number == 10 else number
        producer.produce(config.kafka.topics.input, value, key, timestamp=START + minute * MINUTE)
    assert producer.flush(30) == 0
    summary = replayed(spark, asked(config, 0, 20))

    assert summary["events"] == 10
    assert "of the first records behind the end of the stretch, 9 are earlier than" in caplog.text


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        ({"begin": 100, "end": 200}, InputError, "has no record from .* to .*in UTC"),
        ({"models": [{"name": "lr2", "uri": "/nowhere/at/all"}]}, ModelError, "/nowhere/at/all"),
    ],
    ids=["no events", "refused model"],
)
def test_wrong_arguments_leave_nothing_behind(spark, unscored, wrong, error, message):
    """A stretch without events, and a model that the gate refuses: no index and no run is made."""
    config = asked(unscored, **wrong)
    with pytest.raises(error, match=message):
        replayed(spark, config)

    assert config.replay.name not in elasticsearch.runs(config.elasticsearch)
    assert config.replay.name not in [each.run.name for each in runs.all_of(config)]


def test_run_belongs_to_its_arguments_its_topic_and_its_folder(spark, make, small_models):
    """Another stretch or model, a recreated topic, and a lost folder: the run of that name does not go on."""
    world = make()
    config = asked(world, 0, 10)
    name = config.replay.name
    replayed(spark, config)
    with pytest.raises(ConfigError, match=r"other arguments: --to \(.*Z instead of .*Z\)\. Give the new run another"):
        replay_topic.check(asked(world, 0, 20, name=name))
    with pytest.raises(ConfigError, match="other arguments: the models"):
        replay_topic.check(asked(world, 0, 10, name=name, models=[{"name": "lr2", "uri": small_models["lr"]}]))

    folder = runs.folder(config, config.replay.name)
    moved = folder.rename(folder.with_name(f"{folder.name}-moved"))
    with pytest.raises(CheckpointError, match="holds statistics of another run"):
        replay_topic.run(spark, config)
    shutil.rmtree(folder)
    moved.rename(folder)
    kafka.delete(world.kafka, world.kafka.topics.input)
    kafka.ensure(world.kafka, world.kafka.topics.input)
    with pytest.raises(CheckpointError, match="deleted and created again since the run"):
        replay_topic.check(config)


@pytest.fixture
def as_file(world, tmp_path):
    """The world's configuration as a file."""
    file = tmp_path / "world.yml"
    file.write_text(written(world))
    return str(file)


@pytest.fixture
def command(as_file):
    """Return a function that runs a command with the world's configuration."""
    return lambda *words: CliRunner().invoke(cli.app, [*words, "--config", as_file])


@pytest.mark.usefixtures("spark")
def test_commands_show_list_and_delete_a_run(world, command, as_file, small_models, tmp_path):
    """The commands quality and report show the run; list names it; delete removes its indices and its folder alone."""
    config = asked(world, 10, 40, models=[{"name": "lr2", "uri": small_models["lr"]}])
    name, summary = config.replay.name, tmp_path / "summary.json"
    stretch = ["--from", iso_time(config.replay.begin), "--to", str(config.replay.end)]
    candidate = ["--model", f"lr2={small_models['lr']}", "--json", str(summary)]
    run_job(replay_topic.JOB, ["--config", as_file, *stretch, "--name", name, *candidate])
    other = asked(world, 10, 40, name=f"{name}-other")
    run_job(replay_topic.JOB, ["--config", as_file, *stretch, "--name", other.replay.name])
    assert json.loads(summary.read_text())["models"].keys() == {"lr", "svm", "lr2"}
    live = json.loads(command("quality", "--range", "all", "--json").stdout)
    shown = json.loads(command("quality", "--run", name, "--json").stdout)
    scored = {model["name"]: model["scored"] for model in shown["models"]}
    statistic = [value for key, value in statistics_of_run(config).items() if key[0] == "lr" and key[2] == 10]

    assert shown["range"] == "all"
    assert scored["lr"] == sum(part.scored for part in statistic) < live["models"][0]["scored"]
    compared = [json.loads(line) for line in command("compare", "--run", name, "--json").stdout.splitlines()]
    same = next(each for each in compared if each["challenger"] == "lr2")
    labelled = sum(part.labelled for part in statistic)
    assert {each["champion"] for each in compared} == {"lr"}
    assert (same["n"], same["n10"], same["n01"], same["difference"]["value"]) == (labelled, 0, 0, 0)
    report = tmp_path / "report.html"
    assert command("report", "--out", str(report), "--run", name).exit_code == 0
    assert f"Replay: {name}" in report.read_text()
    listed = json.loads(command("replay", "list", "--json").stdout)["runs"]
    (entry,) = [each for each in listed if each["name"] == name]
    assert entry["records"] == entry["scored"] == 450
    assert entry["complete"]
    assert [model["name"] for model in entry["models"]] == ["lr", "svm", "lr2"]
    assert entry["from"] == iso_time(START + 10 * MINUTE)
    assert f"{name} " in command("replay", "list").stdout

    page = configuration.load(as_file, of_run(configuration.load(as_file), name))
    assert page.elasticsearch.indices == runs.of_config(config).elasticsearch.indices
    assert page.dashboard.time_range == "all"

    before = everything(world)
    done = command("replay", "delete", name)
    own = runs.of_config(config).elasticsearch
    assert [line.removeprefix("deleted ") for line in done.stdout.splitlines()] == [
        *own.indices,
        str(runs.folder(config, name)),
    ]
    assert not runs.folder(config, name).exists()
    assert elasticsearch.compare(own) == list(own.indices)
    assert everything(world) == before
    assert name not in elasticsearch.runs(world.elasticsearch)
    assert statistics_of_run(other)
    for words in (["replay", "delete", name], ["quality", "--run", name], ["report", "--out", "x", "--run", name]):
        failed = command(*words)
        assert failed.exception.exit_code == 2
        assert f"there is no run {name!r}; there are: " in str(failed.exception)
        assert f"{name}-other" in str(failed.exception)


def test_run_that_is_being_scored_is_not_deleted(spark, unscored):
    """The deletion names the process."""
    config = asked(unscored, 0, 20)

    def delete(_totals):
        with pytest.raises(CheckpointError, match=r"is being scored by process [0-9]+: stop that first"):
            runs.delete(config, config.replay.name)

    assert replay_topic.run(spark, config, watch=delete)["complete"]

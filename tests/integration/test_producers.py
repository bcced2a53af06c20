"""Common forms of messages and files, on the real servers."""

import json
import logging

import oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from streamscore import score_stream, seed_topic
from streamscore.clients import kafka
from streamscore.errors import InputError


def score(spark, config):
    """Score the topic and return the summary."""
    score_stream.check(config)
    return score_stream.run(spark, config)


def test_lists_with_labels_by_name_in_an_envelope_are_seeded_and_scored(spark, own, small_models, outcomes, tmp_path):
    """One configuration serves both jobs."""
    vectors = [[float(place == n) for place in range(110)] for n in range(100)]
    labels = ["no" if n % 3 else "yes" for n in range(100)]
    pq.write_table(pa.table({"label": pa.array(labels).dictionary_encode(), "features": vectors}), tmp_path / "rows")
    config = own(
        *("stream.available_now=true", f"seed.source={tmp_path / 'rows'}", oracle.listed(small_models)),
        *("message.root=payload.after", 'message.label_values={"no": 0, "yes": 1}', "message.vector_form=dense"),
    )
    seed_topic.check(config)
    seeded = seed_topic.run(spark, config)
    summary = score(spark, config)

    assert (seeded["sent"], summary["events"], summary["scored"], summary["labelled"]) == (100, 100, 100, 100)
    assert sum(outcome["label"] for outcome in outcomes(config)) == len(small_models) * 34


def test_label_of_another_name_is_told(spark, own, small_models, produce, caplog):
    """A warning follows a thousand scored messages without the configured label field."""
    config = own("stream.available_now=true", oracle.listed(small_models), "message.text_numbers=true")
    vector = {"type": 0, "size": "110", "indices": [1], "values": ["1.5"]}
    kafka.ensure(config.kafka, config.kafka.topics.input)
    produce(config.kafka, config.kafka.topics.input, [json.dumps({"Label": "1", "features": vector})] * 1_000)
    with caplog.at_level(logging.WARNING, "streamscore"):
        summary = score(spark, config)

    assert (summary["scored"], summary["labelled"], summary["rejected"]) == (1_000, 0, 0)
    (warning,) = [text for text in caplog.messages if "message.label_field" in text]
    assert "no message has the field 'label'" in warning
    assert "they have 'Label', 'features'." in warning


def test_codec_that_is_missing_is_found_before_the_topic_is_made(own, tmp_path):
    """The fault leaves no topic behind."""
    rows = pa.table({"label": [1.0], "features": ["(110,[8],[12.0])"]})
    pq.write_table(rows, tmp_path / "rows", compression="brotli")
    config = own(f"seed.source={tmp_path / 'rows'}")

    with pytest.raises(InputError, match="BROTLI"):
        seed_topic.check(config)
    assert config.kafka.topics.input not in kafka.names(config.kafka)

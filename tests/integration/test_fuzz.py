"""Thousands of mutated messages through one real stream: none stops it, and none is judged wrongly."""

import random

import oracle
import reference

from streamscore import score_stream
from streamscore.clients import kafka

SEED = 20261124
COUNT = 3000


def test_mutated_messages_through_the_stream(spark, own, small_models, consume, outcomes):
    """Every message is scored or rejected as in the reference implementation, and its bytes are kept."""
    config = own(
        oracle.listed(small_models),
        "stream.available_now=true",
        "stream.max_rejected_share=null",
        "message.max_bytes=2000",
    )
    kafka.ensure(config.kafka, config.kafka.topics.input)
    generator = random.Random(SEED)
    sent = {}
    for number in range(COUNT):
        message = oracle.message(generator.choice([0.0, 1.0, None]), oracle.vector(generator))
        sent[f"m-{number}"] = message if number % 5 == 0 else reference.mutated(generator, message)
    oracle.send(config, sent.items())
    score_stream.check(config)
    summary = score_stream.run(spark, config)

    expected = {key: reference.verdict(value, oracle.SIZE, 2000) for key, value in sent.items()}
    rejected = {key.decode(): (value, dict(headers)["reason"].decode()) for key, value, headers in consume(
        config.kafka, config.kafka.topics.rejected
    )}  # fmt: skip
    scored = [outcome["key"] for outcome in outcomes(config)]
    wrong = {
        key: (sent[key], verdict.reason, rejected.get(key))
        for key, verdict in expected.items()
        if (verdict.reason is None) != (key not in rejected)
    }

    assert wrong == {}, f"seed {SEED}"
    assert summary["events"] == COUNT
    assert sorted(scored) == sorted([key for key, verdict in expected.items() if verdict.reason is None] * 2)
    assert all(value == sent[key] for key, (value, _) in rejected.items())
    assert 500 < len(rejected) < COUNT - 500

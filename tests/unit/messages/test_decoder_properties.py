"""The decoder agrees with the reference implementation on arbitrary messages."""

import json
import random

import reference
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F
from shapes import shape

from streamscore.messages import decoder

SIZE, MAX_BYTES = 6, 2000
SAME_STAGE = [{"not_json", "duplicate_name"}, {"bad_label", "bad_features"}]
"""Reasons whose choice depends on the order of the text, which the reference ignores."""


def verdicts(spark, values):
    """Return the decoder's verdicts on messages of six features."""
    decoder.register(spark, "decode_property", shape(max_bytes=MAX_BYTES), SIZE)
    rows = spark.createDataFrame(list(enumerate(values)), "i int, value binary")
    decoded = rows.select("i", F.expr("decode_property(value)").alias("d")).orderBy("i").collect()
    return [
        reference.Verdict(d.reason, d.label, tuple(d.features.toArray()) if d.reason is None else None)
        for d in (row["d"] for row in decoded)
    ]


def agree(found, expected):
    """Compare two verdicts."""
    return found == expected or any({found.reason, expected.reason} <= stage for stage in SAME_STAGE)


def disagreements(spark, values):
    """Return the messages on which decoder and reference differ, with both verdicts."""
    expected = [reference.verdict(value, SIZE, MAX_BYTES) for value in values]
    found = verdicts(spark, values)
    return [case for case in zip(values, found, expected, strict=True) if not agree(*case[1:])]


# No shrinking: a Spark job per step would take minutes, and the messages are small.
QUICK = settings(deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate])

numbers = st.one_of(
    st.floats(), st.integers(-(2**40), 2**40), st.integers(-1, 7), st.none(), st.booleans(), st.text(max_size=3)
)
features = st.fixed_dictionaries(
    {},
    optional={
        "type": st.one_of(st.sampled_from([0, 1]), numbers),
        "size": st.one_of(st.just(SIZE), numbers),
        "indices": st.one_of(
            st.lists(st.integers(0, SIZE - 1), unique=True).map(sorted), st.lists(numbers, max_size=4)
        ),
        "values": st.one_of(st.lists(st.floats(-9, 9), max_size=7), st.lists(numbers, max_size=4)),
        "other": st.recursive(numbers, lambda inner: st.lists(inner, max_size=2)),
    },
)
documents = st.fixed_dictionaries(
    {},
    optional={
        "label": st.one_of(st.sampled_from([0, 1, 0.5]), numbers),
        "features": st.one_of(features, numbers),
        "more": numbers,
    },
)


@given(batch=st.lists(documents, min_size=50, max_size=200))
@settings(QUICK, max_examples=15)
def test_documents_of_every_shape(spark, batch):
    """The verdicts agree on JSON of every shape, with NaN and Infinity and with wrong types anywhere."""
    values = [json.dumps(document).encode() for document in batch]
    assert disagreements(spark, values) == []


@given(seed=st.integers(0, 2**32))
@settings(QUICK, max_examples=5)
def test_mutated_messages(spark, seed):
    """The verdicts agree on good messages with changed bytes, tokens or slices."""
    generator = random.Random(seed)
    good = (
        b'{"label":1.0,"features":{"type":0,"size":6,"indices":[0,2,5],"values":[1.0,-2.5e-3,7]},"t":"\\u00e9\xc3\xa9"}'
    )
    values = [reference.mutated(generator, good) for _ in range(1000)]
    assert disagreements(spark, values) == []

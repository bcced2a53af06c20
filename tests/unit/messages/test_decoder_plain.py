"""The decoder's fast path equals the strict path to the bit; a leading space forces the latter."""

import json
import random
import struct

import pytest
import reference
from pyspark.sql import functions as F
from shapes import shape

from streamscore.messages import decoder

SIZE = 6


@pytest.fixture
def both_ways(spark):
    """Return a function that decodes messages with the fast path, where it applies, and with the strict path."""

    def decode(values):
        decoder.register(spark, "decode_plain", shape(max_bytes=2000), SIZE)
        rows = spark.createDataFrame([(i, b, b" " + b) for i, b in enumerate(values)], "i int, a binary, b binary")
        return [
            (seen(row["a"]), seen(row["b"]))
            for row in rows.select(
                "i", F.expr("decode_plain(a)").alias("a"), F.expr("decode_plain(b)").alias("b")
            ).orderBy("i").collect()
        ]  # fmt: skip

    return decode


def seen(decoded):
    """Return a decoded message with doubles as bits."""
    vector = decoded["features"]
    numbers = struct.pack(f">{len(vector.values)}d", *vector.values)
    indices = tuple(getattr(vector, "indices", ()))
    label = None if decoded["label"] is None else struct.pack(">d", decoded["label"])
    return decoded["reason"], label, type(vector).__name__, indices, numbers


def plain(*values, label="1.0", indices=None, size=SIZE):
    """Return a message of the plain form with the given texts as numbers."""
    places = ",".join(map(str, range(len(values)) if indices is None else indices))
    vector = f'{{"type":0,"size":{size},"indices":[{places}],"values":[{",".join(values)}]}}'
    return (f'{{"label":{label},"features":{vector}}}').encode()


def test_numbers_are_the_same_to_the_last_bit(both_ways):
    """Numbers of all kinds are equal to the last bit on both paths."""
    chance = random.Random(3)
    texts = ["0", "-0", "-0.0", "0.1", "1e5", "1E-5", "-2.5e+3", "5e-324", "1.7976931348623157e308", "9007199254740993"]
    texts += [
        "9007199254740993.0",
        "0.30000000000000004",
        "123456789012345678",
        "1234567890123456789",
        "2.2250738585072011e-308",
    ]
    texts += [repr(struct.unpack(">d", chance.randbytes(8))[0]) for _ in range(2_000)]
    texts += [str(round(chance.uniform(-1e6, 1e6), chance.randint(0, 15))) for _ in range(2_000)]
    texts = [text for text in texts if "n" not in text]
    values = [plain(text, label=text) for text in texts]

    for text, (short, strict) in zip(texts, both_ways(values), strict=True):
        assert short == strict, text
        assert short[0] is None
        expected = 0.0 if text == "-0" else float(text)
        assert short[4] == struct.pack(">d", expected)


def test_what_is_not_plain_and_good_is_judged_by_the_strict_way(both_ways):
    """Bad messages get the strict path's reasons."""
    broken = {
        plain("01"): "not_json",
        plain("1."): "not_json",
        plain("-"): "not_json",
        plain("1e"): "not_json",
        plain("1e999"): "not_finite",
        plain("NaN"): "not_finite",
        plain("1", label='"1"'): "bad_label",
        plain("1", "2", indices=[1, 1]): "bad_features",
        plain("1", indices=[6]): "bad_features",
        plain("1", indices=["01"]): "not_json",
        plain("1", indices=[-1]): "bad_features",
        plain("1", "2", indices=[0]): "bad_features",
        plain("1", size=7): "wrong_size",
        plain("1") + b"x": "not_json",
        plain("1")[:-1]: "not_json",
        b'{"features":{"type":1,"values":[1,2,3,4,5]}}': "wrong_size",
        b'{"features":{"type":1,"values":[1,2,3,4,5,6,]}}': "not_json",
    }
    assert [short[0] for short, _ in both_ways(broken)] == list(broken.values())


def test_good_messages_of_other_forms_are_read_too(both_ways):
    """Good messages of other forms are decoded by the strict path."""
    good = [
        plain(),
        b'{"features":{"type":0,"size":6,"indices":[2,5],"values":[1.5,-2]}}',
        b'{"label":0,"features":{"type":1,"values":[1,2,3,4,5,6.5]}}',
        b'{"features":{"size":6,"type":0,"values":[1.5],"indices":[2]},"label":null}',
        json.dumps({"label": 1, "features": {"type": 0, "size": 6, "indices": [1], "values": [0.1]}}).encode(),
    ]
    for short, strict in both_ways(good):
        assert short == strict
        assert short[0] is None


@pytest.mark.parametrize("seed", range(3))
def test_mutated_plain_messages(both_ways, seed):
    """Both paths agree on mutated plain messages."""
    generator = random.Random(seed)
    good = plain("1.0", "-2.5e-3", "7", indices=[0, 2, 5])
    values = [value for value in (reference.mutated(generator, good) for _ in range(2_000)) if len(value) < 1_900]

    for value, (short, strict) in zip(values, both_ways(values), strict=True):
        # A byte-order mark counts only at the start, where the space stands.
        assert short == strict or value.startswith(b"\xef\xbb\xbf"), value

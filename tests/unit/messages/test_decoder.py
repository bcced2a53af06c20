"""The decoder: accepted and rejected messages, with the reasons."""

import json
import math
import random
import string
import struct

import pytest
from pyspark.ml.linalg import Vectors, VectorUDT
from pyspark.sql import functions as F
from pyspark.sql.types import StructField, StructType
from shapes import shape

from streamscore.messages import decoder
from streamscore.schema import REASONS

SIZE = 6


def message(features: str, label: str = '"label":1.0,') -> str:
    """Return a message of the default form."""
    return f'{{{label}"features":{features}}}'


def sparse(indices="[1,4]", values="[0.5,2.0]", size="6", type_="0") -> str:
    """Return a sparse vector in Spark's format."""
    return f'{{"type":{type_},"size":{size},"indices":{indices},"values":{values}}}'


GOOD = Vectors.sparse(6, [1, 4], [0.5, 2.0])

ACCEPTED = {
    "as Spark writes it": (message(sparse()), 1.0, GOOD),
    "no label": (message(sparse(), ""), None, GOOD),
    "null label": (message(sparse(), '"label":null,'), None, GOOD),
    "whole-number label": (message(sparse(), '"label":0,'), 0.0, GOOD),
    "negative label": (message(sparse(), '"label":-1.5,'), -1.5, GOOD),
    "label last": ('{"features":' + sparse() + ',"label":1.0}', 1.0, GOOD),
    "unknown fields": ('{"a":{"b":[1,{"c":null}]},"x":"y","features":' + sparse() + ',"z":true}', None, GOOD),
    "unknown fields in the vector": (
        message('{"note":[1],"type":0,"size":6,"indices":[1,4],"values":[0.5,2]}'),
        1.0,
        GOOD,
    ),
    "vector's fields in any order": (message('{"values":[0.5,2.0],"indices":[1,4],"size":6,"type":0}'), 1.0, GOOD),
    "white space everywhere": (' \n\t{ "features" : ' + sparse().replace(",", " , ") + " }\r\n ", None, GOOD),
    "exponents": (message(sparse(values="[5e-1,0.2E+1]")), 1.0, GOOD),
    "whole numbers as values": (message(sparse(values="[1,-2]")), 1.0, Vectors.sparse(6, [1, 4], [1.0, -2.0])),
    "no set value": (message(sparse("[]", "[]")), 1.0, Vectors.sparse(6, [], [])),
    "an explicit zero": (message(sparse(values="[0.0,-0.0]")), 1.0, Vectors.sparse(6, [1, 4], [0.0, -0.0])),
    "every place set": (
        message(sparse("[0,1,2,3,4,5]", "[1,2,3,4,5,6]")),
        1.0,
        Vectors.sparse(6, range(6), [1, 2, 3, 4, 5, 6]),
    ),
    "dense": (message('{"type":1,"values":[0,1,2,3,4,5.5]}'), 1.0, Vectors.dense([0, 1, 2, 3, 4, 5.5])),
    "dense with null size": (
        message('{"type":1,"size":null,"indices":null,"values":[0,1,2,3,4,5]}'),
        1.0,
        Vectors.dense(range(6)),
    ),
    "smallest and largest doubles": (
        message(sparse(values="[4.9e-324,1.7976931348623157e308]")),
        1.0,
        Vectors.sparse(6, [1, 4], [5e-324, 1.7976931348623157e308]),
    ),
    "underflow to zero": (message(sparse(values="[1e-400,1]")), 1.0, Vectors.sparse(6, [1, 4], [0.0, 1.0])),
    "names with escapes": ('{"\\u0066eatures":' + sparse() + ',"l\\u0061bel":1}', 1.0, GOOD),
    "text of every plane in another field": ('{"t":"é€😀\\ud83d\\ude00","features":' + sparse() + "}", None, GOOD),
}

REJECTED = {
    "no value": (None, "tombstone"),
    "longer than allowed": (message(sparse()) + " " * 1000, "too_large"),
    "not UTF-8, stray byte": (b'{"features":"\xff"}', "not_utf8"),
    "not UTF-8, overlong": (b'{"a":"\xc0\xaf"}', "not_utf8"),
    "not UTF-8, surrogate": (b'{"a":"\xed\xa0\x80"}', "not_utf8"),
    "not UTF-8, beyond the last plane": (b'{"a":"\xf4\x90\x80\x80"}', "not_utf8"),
    "not UTF-8, cut off": (message(sparse()).encode() + b"\xe2\x82", "not_utf8"),
    "Latin-1": ('{"a":"é"}'.encode("latin-1"), "not_utf8"),
    "empty": ("", "not_json"),
    "white space only": (" \n", "not_json"),
    "byte-order mark": (b"\xef\xbb\xbf" + message(sparse()).encode(), "not_json"),
    "UTF-16": (message(sparse()).encode("utf-16-le"), "not_json"),
    "a NUL byte": (message(sparse()) + "\x00", "not_json"),
    "an array": ("[]", "not_json"),
    "a number": ("42", "not_json"),
    "null": ("null", "not_json"),
    "text": ("hello", "not_json"),
    "cut off": (message(sparse())[:-8], "not_json"),
    "cut off in a name": ('{"feat', "not_json"),
    "a second document": (message(sparse()) * 2, "not_json"),
    "garbage after it": (message(sparse()) + "x", "not_json"),
    "a comma too many": (message(sparse()).replace("}}", "},}"), "not_json"),
    "a comma too few": ('{"label":1 "features":' + sparse() + "}", "not_json"),
    "single quotes": (message(sparse()).replace('"', "'"), "not_json"),
    "a name without quotes": ("{label:1}", "not_json"),
    "a comment": ("/* c */" + message(sparse()), "not_json"),
    "a leading zero": (message(sparse(values="[01,2]")), "not_json"),
    "a leading plus": (message(sparse(values="[+1,2]")), "not_json"),
    "a bare point": (message(sparse(values="[1.,2]")), "not_json"),
    "a hexadecimal number": (message(sparse(values="[0x1,2]")), "not_json"),
    "a control character in text": ('{"a":"\x01"}', "not_json"),
    "an unknown escape": ('{"a":"\\x"}', "not_json"),
    "NaN in a field that is not ours": ('{"a":NaN,"features":' + sparse() + "}", "not_json"),
    "label twice": ('{"label":1,"label":0,"features":' + sparse() + "}", "duplicate_name"),
    "features twice": ('{"features":' + sparse() + ',"features":' + sparse() + "}", "duplicate_name"),
    "values twice": (message('{"type":1,"values":[0,1,2,3,4,5],"values":[1,1,1,1,1,1]}'), "duplicate_name"),
    "twice, once escaped": ('{"label":1,"\\u006cabel":0,"features":' + sparse() + "}", "duplicate_name"),
    "label as text": (message(sparse(), '"label":"1",'), "bad_label"),
    "label as a truth value": (message(sparse(), '"label":true,'), "bad_label"),
    "label as an array": (message(sparse(), '"label":[1],'), "bad_label"),
    "label as an object": (message(sparse(), '"label":{"v":1},'), "bad_label"),
    "label not finite": (message(sparse(), '"label":1e999,'), "bad_label"),
    "label NaN": (message(sparse(), '"label":NaN,'), "bad_label"),
    "no features": ('{"label":1.0}', "bad_features"),
    "an empty object": ("{}", "bad_features"),
    "null features": (message("null"), "bad_features"),
    "features as an array": (message("[1,2]"), "bad_features"),
    "features as text": (message('"(6,[1],[2])"'), "bad_features"),
    "no type": (message('{"size":6,"indices":[1],"values":[1]}'), "bad_features"),
    "unknown type": (message(sparse(type_="2")), "bad_features"),
    "type as text": (message(sparse(type_='"0"')), "bad_features"),
    "no size": (message('{"type":0,"indices":[1],"values":[1]}'), "bad_features"),
    "negative size": (message(sparse(size="-1")), "bad_features"),
    "size as a fraction": (message(sparse(size="6.0")), "bad_features"),
    "size beyond an int": (message(sparse(size="99999999999")), "bad_features"),
    "no indices": (message('{"type":0,"size":6,"values":[1]}'), "bad_features"),
    "null indices": (message(sparse(indices="null")), "bad_features"),
    "indices as an object": (message(sparse(indices="{}")), "bad_features"),
    "index as a fraction": (message(sparse(indices="[1,4.0]")), "bad_features"),
    "index as text": (message(sparse(indices='[1,"4"]')), "bad_features"),
    "index beyond an int": (message(sparse(indices="[1,3000000000]")), "bad_features"),
    "index null": (message(sparse(indices="[1,null]")), "bad_features"),
    "index twice": (message(sparse(indices="[4,4]")), "bad_features"),
    "indices unsorted": (message(sparse(indices="[4,1]")), "bad_features"),
    "index negative": (message(sparse(indices="[-1,4]")), "bad_features"),
    "index out of range": (message(sparse(indices="[1,6]")), "bad_features"),
    "fewer values than indices": (message(sparse(values="[1]")), "bad_features"),
    "more values than indices": (message(sparse(values="[1,2,3]")), "bad_features"),
    "no values": (message('{"type":1}'), "bad_features"),
    "null values": (message(sparse(values="null")), "bad_features"),
    "null among the values": (message(sparse(values="[1,null]")), "bad_features"),
    "text among the values": (message(sparse(values='[1,"2"]')), "bad_features"),
    "an array among the values": (message(sparse(values="[1,[2]]")), "bad_features"),
    "a larger vector": (message(sparse(size="7")), "wrong_size"),
    "a smaller vector": (message(sparse(size="5")), "wrong_size"),
    "a shorter dense vector": (message('{"type":1,"values":[1,2]}'), "wrong_size"),
    "an empty dense vector": (message('{"type":1,"values":[]}'), "wrong_size"),
    "NaN": (message(sparse(values="[NaN,1]")), "not_finite"),
    "Infinity": (message(sparse(values="[1,Infinity]")), "not_finite"),
    "minus Infinity": (message(sparse(values="[1,-Infinity]")), "not_finite"),
    "a number beyond a double": (message(sparse(values="[1,1e999]")), "not_finite"),
    "NaN, but cut off": (message(sparse(values="[NaN,1]"))[:-1], "not_json"),
    "NaN in a larger vector": (message(sparse(values="[NaN,1]", size="7")), "wrong_size"),
    "bad label and NaN": (message(sparse(values="[NaN,1]"), '"label":"x",'), "bad_label"),
    "a second document after a bad one": ('{"label":"x"}{}', "not_json"),
}


def as_bytes(value):
    """Return a message as bytes."""
    return value.encode() if isinstance(value, str) else value


def register(spark, name="decode_test", form="spark", max_bytes=1000):
    """Register a decoder for vectors of six features."""
    decoder.register(spark, name, shape(form, max_bytes), SIZE)
    return name


def decoded(spark, values, form="spark", max_bytes=1000):
    """Decode messages in one job and return the rows in order."""
    name = register(spark, form=form, max_bytes=max_bytes)
    rows = spark.createDataFrame([(i, as_bytes(value)) for i, value in enumerate(values)], "i int, value binary")
    return [row["d"] for row in rows.select("i", F.expr(f"{name}(value)").alias("d")).orderBy("i").collect()]


def bits(vector):
    """Return a vector's numbers as bits, which distinguish -0.0 from 0.0."""
    return type(vector), vector.size, [struct.pack(">d", value) for value in vector.toArray()]


@pytest.fixture(scope="module")
def accepted(spark):
    """The decoded good cases, by name."""
    return dict(zip(ACCEPTED, decoded(spark, [case[0] for case in ACCEPTED.values()]), strict=True))


@pytest.fixture(scope="module")
def rejected(spark):
    """The decoded bad cases, by name."""
    return dict(zip(REJECTED, decoded(spark, [case[0] for case in REJECTED.values()]), strict=True))


def colliding_names(count):
    """Return names of eight bytes with the same hash in Jackson's table of names (``ByteQuadsCanonicalizer``).

    Jackson mixes in its seed only after both halves of such a name, so the names do not depend on the seed.
    """
    generator, word, names = random.Random(1), 0xFFFFFFFF, set()
    letters = [ord(letter) for letter in string.ascii_letters + string.digits]
    while len(names) < count:
        second = int.from_bytes(bytes(generator.choices(letters, k=4)), "big")
        mixed = (0x12345678 - 33 * second) & word
        mixed ^= mixed >> 9 ^ mixed >> 18 ^ mixed >> 27  # undoes x ^ x >>> 9
        first = mixed
        for _ in range(9):
            first = (mixed - (first >> 15)) & word  # undoes x + (x >>> 15)
        name = first.to_bytes(4, "big") + second.to_bytes(4, "big")
        if set(name) <= set(letters) and (first + (first >> 15)) & word == mixed:
            names.add(name.decode())
    return sorted(names)


def test_names_that_collide_stop_nothing(spark):
    """Names with colliding hashes do not damage the parser's shared table."""
    colliding = colliding_names(602)
    fresh = [f"n{number}" for number in range(600)]
    parts = [colliding[:600], ["a", colliding[600]], ["b", colliding[601]], fresh[:260], fresh[260:], []]
    values = [json.dumps({**dict.fromkeys(names, 0), "features": [6, [1, 4], [0.5, 2.0]]}) for names in parts]
    name = register(spark, form="triple", max_bytes=100_000)
    rows = spark.createDataFrame(list(enumerate(map(str.encode, values))), "i int, value binary").coalesce(1)
    found = [row["d"] for row in rows.select("i", F.expr(f"{name}(value)").alias("d")).orderBy("i").collect()]

    assert [(row["reason"], row["features"]) for row in found] == [(None, GOOD)] * len(parts)


@pytest.mark.parametrize("name", ACCEPTED)
def test_good_message_keeps_its_label_and_features(accepted, name):
    """Label and features of a good message are exact to the last bit."""
    _, label, features = ACCEPTED[name]
    row = accepted[name]

    assert (row.reason, row.detail) == (None, None)
    assert row.label == label
    assert bits(row.features) == bits(features)


@pytest.mark.parametrize("name", REJECTED)
def test_bad_message_gets_its_reason_and_no_label(rejected, name):
    """A bad message has a reason of the closed list, a detail, no label and an empty vector."""
    row = rejected[name]

    assert row.reason == REJECTED[name][1]
    assert row.detail
    assert row.label is None
    assert row.features == Vectors.sparse(SIZE, [], [])


def test_every_reason_is_in_the_closed_list_and_occurs():
    """The cases above cover exactly the closed list of reasons."""
    assert {reason for _, reason in REJECTED.values()} == set(REASONS)


def test_detail_never_repeats_the_message(spark):
    """The detail never repeats content of the message, which may be confidential."""
    secret = "s3cr3t"
    values = [f'{{"{secret}":1', f'{{"label":"{secret}","features":1}}', f'{{"{secret}":1,"{secret}":2}}', secret]

    assert all(secret not in row.detail for row in decoded(spark, values))


def test_nesting_beyond_the_parser_s_limit_is_rejected(spark):
    """A message nested beyond the parser's limit is rejected without a stack overflow."""
    deep = '{"a":' + "[" * 2000 + "]" * 2000 + "}"

    assert decoded(spark, [deep], max_bytes=100_000)[0].reason == "not_json"


def test_number_of_a_thousand_digits_is_judged(spark):
    """A number of a thousand digits is handled quickly."""
    rows = decoded(
        spark, [message(sparse(values=f"[1,{'9' * 5000}]")), message(sparse(size="9" * 900))], max_bytes=100_000
    )

    assert [row.reason for row in rows] == ["not_json", "bad_features"]


def test_long_vectors_grow_the_buffers(spark):
    """Vectors longer than the initial buffers are decoded."""
    name = "decode_long"
    decoder.register(spark, name, shape(max_bytes=100_000), 500)
    vector = Vectors.sparse(500, list(range(0, 500, 2)), [i / 7 for i in range(250)])
    text = json.dumps(
        {"features": {"type": 0, "size": 500, "indices": vector.indices.tolist(), "values": vector.values.tolist()}}
    )
    rows = spark.createDataFrame([(text.encode(),)], "value binary")

    assert bits(rows.select(F.expr(f"{name}(value).features")).first()[0]) == bits(vector)


TRIPLES = {
    '{"label":0,"features":[6,[1,4],[0.5,2.0]]}': None,
    '{"features":[6,[],[]]}': None,
    '{"features":[6,[1,4]]}': "bad_features",
    '{"features":[6,[1],[1],[]]}': "bad_features",
    '{"features":[]}': "bad_features",
    '{"features":{"type":0}}': "bad_features",
    '{"features":["6",[1],[1]]}': "bad_features",
    '{"features":[7,[1],[1]]}': "wrong_size",
    '{"features":[6,[1],[NaN]]}': "not_finite",
}


def test_triple_form(spark):
    """The triple format (size, indices, values) is decoded."""
    rows = decoded(spark, TRIPLES, form="triple")

    assert [row.reason for row in rows] == list(TRIPLES.values())
    assert bits(rows[0].features) == bits(GOOD)


DENSES = {
    '{"label":0,"features":[0,0.5,0,0,2,0]}': None,
    '{"features":[]}': "wrong_size",
    '{"features":[1,2,3]}': "wrong_size",
    '{"features":6}': "bad_features",
    '{"features":[0,0.5,0,0,"2",0]}': "bad_features",
    '{"features":[0,0.5,0,0,1e400,0]}': "not_finite",
}


def test_dense_form(spark):
    """The dense format, an array of all values, is decoded."""
    rows = decoded(spark, DENSES, form="dense")

    assert [row.reason for row in rows] == list(DENSES.values())
    assert bits(rows[0].features) == bits(Vectors.dense([0, 0.5, 0, 0, 2, 0]))


def test_numbers_are_read_as_from_json_reads_them(spark):
    """Doubles of every magnitude in Spark's format are read to the last bit."""
    generator = random.Random(20261124)
    doubles = [
        value for (value,) in struct.iter_unpack("<d", generator.randbytes(8 * 6 * 2000)) if math.isfinite(value)
    ]
    vectors = [(Vectors.dense(doubles[i : i + SIZE]),) for i in range(0, len(doubles) - SIZE, SIZE)]
    frame = spark.createDataFrame(vectors, StructType([StructField("features", VectorUDT())]))
    name = register(spark, max_bytes=10_000)
    pairs = frame.select(
        "features", F.expr(f"{name}(cast(to_json(struct(features)) as binary)).features").alias("read")
    )

    assert all(bits(row["features"]) == bits(row["read"]) for row in pairs.collect())

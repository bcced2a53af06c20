"""The message formats: the configuration lists all, and docs/add-a-message-format.md adds one."""

import json
import os
import re
import shutil
import subprocess
import sys
from typing import get_args

import pytest

from streamscore.config import Message
from streamscore.local import java
from streamscore.messages import formats

MODULE = '''
from streamscore.messages.formats.base import message_with, vector_arguments, vector_parts

JAVA = """
package streamscore;

import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import java.io.IOException;

final class ShortForm extends VectorForm {
    private static final long serialVersionUID = 1L;

    void read(JsonParser parser, Reading reading) throws IOException {
        reading.isSparse();
        if (parser.currentToken() != JsonToken.START_OBJECT) {
            reading.badFeatures("the features are not an object");
            reading.skip(parser);
            return;
        }
        while (parser.nextToken() != JsonToken.END_OBJECT) {
            String name = parser.getCurrentName();
            parser.nextToken();
            if (name.equals("n")) {
                reading.readSize(parser);
            } else if (name.equals("i")) {
                reading.readIndices(parser);
            } else if (name.equals("v")) {
                reading.readValues(parser);
            } else {
                reading.skip(parser);
            }
        }
    }
}
"""


def encode(label, features, shape):
    from pyspark.sql import functions as F

    size, indices, values = vector_parts(features)
    return message_with(F.to_json(F.struct(size.alias("n"), indices.alias("i"), values.alias("v"))), label, shape)


def decoder_arguments(shape, size):
    return vector_arguments("ShortForm", shape, size)
'''

PROGRAM = """
import json, sys
from pathlib import Path
from pyspark.ml.linalg import Vectors
from pyspark.sql import SparkSession, functions as F
from streamscore.config import load
from streamscore.local import java
from streamscore.messages import decoder, formats

jar = Path(sys.argv[1]) / decoder.jar_name()
decoder.compile_jar(jar, java.find().executable)
spark = SparkSession.builder.master("local[1]").config("spark.jars", str(jar)).config("spark.ui.enabled", "false")
spark = spark.config("spark.driver.host", "127.0.0.1").config("spark.driver.bindAddress", "127.0.0.1").getOrCreate()
message = load("local", ["message.vector_form=short"]).message
decoder.register(spark, "decode_short", message, 6)
vectors = [(1.0, Vectors.sparse(6, [1, 4], [0.5, 2.0])), (None, Vectors.sparse(6, [], []))]
rows = spark.createDataFrame(vectors, ["label", "features"])
text = formats.format_of(message).encode(F.col("label"), F.col("features"), message)
texts = [row["text"] for row in rows.select(text.alias("text")).collect()]
values = [(value.encode(),) for value in [*texts, '{"features":[6]}', '{"features":{"n":7,"i":[1],"v":[1]}}']]
decoded = spark.createDataFrame(values, "value binary").select(F.expr("decode_short(value)").alias("d")).collect()
answer = [[d.label, str(d.features) if d.reason is None else None, d.reason] for d in (row["d"] for row in decoded)]
print(json.dumps({"texts": texts, "decoded": answer}))
"""


def edit(path, old, new):
    """Replace a text that occurs once in a file."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")


def files(folder):
    """Return the content of every file of a folder by its path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


@pytest.fixture
def tree(root, tmp_path):
    """A copy of the project's files that a new format may change."""
    for folder in ("jobs", "resources"):
        shutil.copytree(root / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def test_configuration_allows_the_formats_of_the_table():
    """The configuration, which must not import the table of formats, allows the same names."""
    assert get_args(Message.model_fields["vector_form"].annotation) == tuple(formats.VECTORS)


def test_raw_columns_win_over_the_vector_form(make_config):
    """With raw columns the vector's format has no effect."""
    raw = make_config("message.fields='n INT'", "message.vector_form=triple").message

    assert formats.format_of(raw) is formats.columns
    assert formats.format_of(make_config("message.vector_form=triple").message) is formats.triple


def test_format_is_added_as_the_page_says(root, tree, tmp_path_factory):
    """The page's steps change at most four files, all named, after which the format is encoded and decoded."""
    page = (root / "docs" / "add-a-message-format.md").read_text(encoding="utf-8")
    named = {path.replace("NAME", "short") for path in re.findall(r"^\d\. `([^`]+)`", page, re.MULTILINE)}
    package = tree / "jobs" / "streamscore"
    table = package / "messages" / "formats" / "__init__.py"
    environment = {**os.environ, **java.environment(java.find()), "PYTHONPATH": str(tree / "jobs")}
    before = files(tree)

    def run(code, *arguments):
        command = [sys.executable, "-B", "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tree, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()[-1]

    (table.parent / "short.py").write_text(MODULE, encoding="utf-8")
    edit(table, "dense, spark, triple\n", "dense, short, spark, triple\n")
    edit(table, '    "dense": dense,\n', '    "dense": dense,\n    "short": short,\n')
    edit(package / "config" / "models.py", '"triple", "dense"]', '"triple", "dense", "short"]')
    (new_name,) = re.findall(r"python -c '(.+)'", page)
    jobs = tree / "resources" / "jobs.yml"
    (old_jar,) = re.findall(r"streamscore-decoder-\w+\.jar", jobs.read_text(encoding="utf-8"))
    edit(jobs, old_jar, run(new_name))
    after = files(tree)

    touched = {path for path in after if after[path] != before.get(path)}
    assert touched == named
    assert len(touched) <= 4

    answer = json.loads(run(PROGRAM, str(tmp_path_factory.mktemp("jar"))))
    assert answer["texts"] == [
        '{"label":1.0,"features":{"n":6,"i":[1,4],"v":[0.5,2.0]}}',
        '{"features":{"n":6,"i":[],"v":[]}}',
    ]
    assert answer["decoded"] == [
        [1.0, "(6,[1,4],[0.5,2.0])", None],
        [None, "(6,[],[])", None],
        [None, None, "bad_features"],
        [None, None, "wrong_size"],
    ]

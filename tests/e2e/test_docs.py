"""Commands of the documents that need something which is not here: they run against a stand-in."""

import re
import shlex

import pytest

from streamscore import coordinates, decoder

STAND_IN = """#!/bin/bash
printf '%q ' "$@" >> "$CALLS"
echo >> "$CALLS"
"""


@pytest.fixture
def calls(shell, root, tmp_path):
    """Return a function that runs a block of a document and returns how it called a program that is not here."""

    def run(document: str, word: str, program: str) -> list[list[str]]:
        blocks = re.findall(r"```bash\n(.*?)```", (root / "docs" / document).read_text(encoding="utf-8"), re.DOTALL)
        (block,) = (block for block in blocks if word in block)
        stand_in = tmp_path / "bin" / program
        stand_in.parent.mkdir()
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        made = tmp_path / "calls"
        done = shell(f'set -euo pipefail; PATH="{stand_in.parent}:$PATH"\n{block}', cwd=root, env={"CALLS": str(made)})
        assert done.returncode == 0, done.stderr
        return [shlex.split(line) for line in made.read_text().splitlines()]

    return run


@pytest.mark.usefixtures("jars")
def test_the_two_jars_that_databricks_lacks_are_copied(calls, root):
    """And no other: Kafka and Delta are built in there."""
    (connector,) = (jar for jar in coordinates.SPARK_JARS if jar.group == "org.elasticsearch")
    names = [f"{connector.name}-{connector.version}.jar", decoder.jar_name()]
    copied = calls("databricks.md", "streamscore jars", "databricks")

    assert [call[:3] for call in copied] == [["fs", "cp", "--overwrite"]] * 2
    assert sorted(target.rpartition("/")[2] for *_, target in copied) == sorted(names)
    for *_, source, target in copied:
        assert source.endswith(target.rpartition("/")[2])
        assert (root / source).is_file()

"""Commands of the documents that need absent programs: they run against stand-ins."""

import base64
import re
import shlex
import shutil
import zipfile

import pytest

from streamscore import config, train_models
from streamscore.data import criteo
from streamscore.messages import decoder
from streamscore.models import registry
from streamscore.spark import maven

STAND_IN = """#!/bin/bash
printf '%q ' "$@" >> "$CALLS"
echo >> "$CALLS"
"""


@pytest.fixture
def calls(shell, root, tmp_path):
    """Return a function that runs a document's block, and returns its output and its calls of a program."""

    def run(document: str, word: str, program: str, cwd=root, **env: str) -> tuple[str, list[list[str]]]:
        blocks = re.findall(r"```bash\n(.*?)```", (root / "docs" / document).read_text(encoding="utf-8"), re.DOTALL)
        (block,) = (block for block in blocks if word in block)
        stand_in = tmp_path / "bin" / program
        stand_in.parent.mkdir()
        stand_in.write_text(STAND_IN)
        stand_in.chmod(0o755)
        made = tmp_path / "calls"
        prepared = f'set -euo pipefail; PATH="{stand_in.parent}:$PATH"\n{block}'
        done = shell(prepared, cwd=cwd, env={"CALLS": str(made), **env})
        assert done.returncode == 0, done.stderr
        return done.stdout, [shlex.split(line) for line in made.read_text().splitlines()]

    return run


@pytest.mark.usefixtures("jars")
def test_the_two_jars_that_databricks_lacks_are_copied(calls, root):
    """No other jar is copied, because Databricks includes Kafka and Delta."""
    (connector,) = (jar for jar in maven.SPARK_JARS if jar.group == "org.elasticsearch")
    names = [f"{connector.name}-{connector.version}.jar", decoder.jar_name()]
    _, copied = calls("databricks.md", "streamscore jars", "databricks")

    assert [call[:3] for call in copied] == [["fs", "cp", "--overwrite"]] * 2
    assert sorted(target.rpartition("/")[2] for *_, target in copied) == sorted(names)
    for *_, source, target in copied:
        assert source.endswith(target.rpartition("/")[2])
        assert (root / source).is_file()


@pytest.mark.usefixtures("jars")
def test_the_two_files_for_a_cluster_are_made(calls, root, make_config, as_file, tmp_path):
    """The zipped wheel and the decoder's jar get the names in the printed line."""
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "dist").symlink_to(root / "dist")
    output, made = calls("cluster.md", "streamscore.zip", "make", cwd=clone, STREAMSCORE_CONFIG=as_file(make_config()))

    assert made == [["wheel"]]
    for name, entry in (("streamscore.zip", "streamscore/__init__.py"), ("streamscore-decoder.jar", "MessageDecoder")):
        assert f" {name} " in output
        with zipfile.ZipFile(clone / name) as archive:
            assert any(entry in name for name in archive.namelist())


def test_spark_submit_knows_the_options_in_the_cluster_document(shell, root):
    """The options for a driver in the cluster are valid, and the named files exist."""
    text = (root / "docs" / "cluster.md").read_text(encoding="utf-8")
    known = set(re.findall(r"--[a-z-]+", shell(["spark-submit", "--help"]).stderr))
    (added,) = (block for block in re.findall(r"```text\n(.*?)```", text, re.DOTALL) if "--deploy-mode" in block)
    used = set(re.findall(r"--[a-z-]+", added))
    named = set(re.findall(r"(?:requirements|jobs)/[\w.]+", text))

    assert {"--archives", "--conf", "--deploy-mode", "--files"} == used <= known
    assert len(named) == 2
    assert all((root / name).is_file() for name in named)


@pytest.fixture
def registry_of_two(spark, own, tmp_path):
    """A configuration with a new registry that holds two versions of each default model."""
    config = own(
        f"state_dir={tmp_path / 'state'}",
        *("train.rows=3000", "train.test_rows=500", "train.hash_size=256", "spark.master=local[2]"),
        *("train.lr.max_iter=2", "train.svm.max_iter=2"),
    )
    for seed in (1, 2):
        again = config.model_copy(update={"train": config.train.model_copy(update={"seed": seed})})
        train_models.run(spark, again)
    return config


def test_every_command_of_the_models_document_runs(shell, root, registry_of_two, as_file, tmp_path):
    """The commands run in order: check, sign, promote, roll back, and train with the feature stages inside."""
    text = (root / "docs" / "models.md").read_text(encoding="utf-8")
    env = {"STREAMSCORE_CONFIG": as_file(registry_of_two)}
    with registry.downloaded(registry_of_two, registry.resolve(registry_of_two, "models:/streamscore-lr/1")) as model:
        shutil.copytree(model, tmp_path / "forest")
    printed = {}
    for block in re.findall(r"```bash\n(.*?)```", text, re.DOTALL):
        for command in block.splitlines():
            done = shell(command.replace("/models/forest", "forest"), cwd=tmp_path, env=env)
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
            printed[command] = done.stdout + done.stderr

    assert "version 2" in printed["streamscore models list"]
    assert "8 golden rows reproduce" in printed["streamscore models check lr"]
    assert "nothing was loaded" in printed["streamscore models check models:/streamscore-svm/1 --files-only"]
    assert "streamscore.json.sig" in printed["streamscore models sign /models/forest --key training.pem"]
    assert "version 2 -> 2" in printed["streamscore models promote lr 2"]
    assert "version 2 -> 1" in printed["streamscore models rollback lr"]
    assert "registered streamscore-svm_raw, version 1" in printed["streamscore train --raw-models"]


def test_configurations_of_the_models_document_are_valid(root, tmp_path):
    """The longer configuration fits the columns of the training."""
    text = (root / "docs" / "models.md").read_text(encoding="utf-8")
    short, signed, long = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "training.pub").write_text(base64.b64encode(bytes(range(32))).decode())
    (tmp_path / "short.yml").write_text(short)
    (tmp_path / "signed.yml").write_text(signed.replace("/etc/streamscore", str(tmp_path)))
    (tmp_path / "long.yml").write_text(long)

    assert [model.trust for model in config.load(str(tmp_path / "short.yml")).models] == ["manifest", "unsigned"]
    assert config.load(str(tmp_path / "signed.yml")).signatures.raw_keys == (bytes(range(32)),)
    assert config.load(str(tmp_path / "long.yml")).message.columns == criteo.FIELDS

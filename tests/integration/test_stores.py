"""The extras of the stores of MLflow's artifacts: their locked packages install and are all that MLflow needs."""

import os
import re
import subprocess
import sys
from importlib.metadata import distributions

import pytest

from streamscore.models import artifacts

OPENED = """
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository
get_artifact_repository("s3://bucket/model")._get_s3_client()
get_artifact_repository("gs://bucket/model")
get_artifact_repository("wasbs://container@account.blob.core.windows.net/model")
get_artifact_repository("abfss://container@account.dfs.core.windows.net/model")
"""


def entries(path):
    """Return the entries of a lock file, with their hashes, by package."""
    text = path.read_text()
    return {re.match(r"[\w.-]+", entry)[0]: entry for entry in re.split(r"\n(?=[a-z])", text)}


def test_messages_name_the_packages_of_the_extras(root):
    """What a message says to install is what the extra of that name has."""
    named = {extra: set(packages.split()) for _, packages, extra in artifacts._CLIENTS.values()}
    setup = (root / "setup.py").read_text()
    extras = {extra: re.search(rf'^        "{extra}": \[(.*)\]', setup, re.MULTILINE)[1] for extra in named}

    assert {extra: set(re.findall(r'"([\w-]+)[><=]', listed)) for extra, listed in extras.items()} == named
    assert set().union(*named.values()) <= entries(root / "requirements" / "stores.lock").keys()


@pytest.mark.timeout(600)
def test_mlflow_opens_the_stores_with_the_locked_packages(root, tmp_path):
    """Beside what is installed for the tests, the extras' packages are enough; without them the first store fails."""
    installed = {re.sub("[_.]", "-", package.metadata["Name"]).lower() for package in distributions()}
    stores = entries(root / "requirements" / "stores.lock")
    # boto3 refuses the python-dateutil of the other locks.
    added = [entry for name, entry in stores.items() if name not in installed or name == "python-dateutil"]
    (tmp_path / "added.txt").write_text("\n".join(added))
    where = ["--target", str(tmp_path / "packages"), "--no-deps", "--no-compile", "--only-binary", ":all:"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--require-hashes", *where]
    subprocess.run([*pip, "-r", str(tmp_path / "added.txt")], check=True)
    account = "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=a2V5;EndpointSuffix=core.windows.net"
    environment = {**os.environ, "AWS_DEFAULT_REGION": "eu-west-1", "AZURE_STORAGE_CONNECTION_STRING": account}

    def opened(**more):
        done = subprocess.run(
            [sys.executable, "-c", OPENED], check=False, capture_output=True, text=True, env={**environment, **more}
        )
        return done.returncode, done.stderr

    assert "No module named 'boto3'" in opened()[1]
    code, errors = opened(PYTHONPATH=str(tmp_path / "packages"))
    assert code == 0, errors

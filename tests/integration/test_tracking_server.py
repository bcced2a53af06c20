"""The registry behind a real MLflow tracking server, which also stores the models' files."""

import random
import sysconfig
import time
from pathlib import Path

import oracle
import pytest
import requests
from jobs import Job
from pyspark.ml import PipelineModel

from streamscore import models
from streamscore.config import Model
from streamscore.local.ports import free_port
from streamscore.models import training_log
from streamscore.models.training_log import Trained


@pytest.fixture
def tracking_server(tmp_path):
    """The address of a new server with its own store and files."""
    port = free_port()
    server = Job(
        [
            *(str(Path(sysconfig.get_path("scripts")) / "mlflow"), "server", "--workers", "1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{tmp_path / 'mlflow.db'}"),
            *("--artifacts-destination", str(tmp_path / "artifacts")),
        ],
        cwd=tmp_path,
    )
    server.wait_until(lambda: answers(f"http://127.0.0.1:{port}/health"))
    yield f"http://127.0.0.1:{port}"
    server.kill()


def answers(address):
    """Return whether a server answers."""
    try:
        return requests.get(address, timeout=2).ok
    except requests.RequestException:
        time.sleep(0.5)
        return False


def test_model_goes_to_the_server_and_comes_back_through_the_gate(spark, own, small_models, tracking_server):
    """A model is logged, signed, registered and promoted on the server, and resolved and loaded from it."""
    config = own(f"mlflow.tracking_uri={tracking_server}")
    pipeline = PipelineModel.load(small_models["lr"])
    generator = random.Random(5)
    vectors = [oracle.vector(generator) for _ in range(3)]
    example = spark.createDataFrame([(vector,) for vector in vectors], ["features"]).limit(1)
    (made,) = training_log.log_training(
        config,
        {},
        {"auc": 0.7},
        {"data_sha256": "made up"},
        {"lr": Trained(pipeline, example, "prediction", "served-lr", vectors, {"auc": 0.7})},
        lambda model, folder: models.sign(spark, folder, model.golden, model.metrics, {}),
    )
    served = models.load_one(spark, config, Model(name="lr", uri="models:/served-lr@champion"))

    assert made.version == served.version == "1"
    assert served.size == oracle.SIZE

"""Models replaced while the stream runs: the old one serves until the new one is accepted, and no event has both."""

import base64
import itertools
import os
import random
import signal
import socket
import threading
import time
import uuid
from collections import defaultdict
from types import SimpleNamespace

import mlflow
import oracle
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from pyspark.ml import Pipeline
from pyspark.ml.classification import LogisticRegression
from pyspark.ml.linalg import Vectors

from streamscore import models, score_stream
from streamscore.clients import elasticsearch, kafka
from streamscore.errors import ModelError
from streamscore.models import checks, mlflow_connection, registry, training_log
from streamscore.models.training_log import Trained
from streamscore.models.watch import ModelWatch


@pytest.fixture
def register(spark, own):
    """Return a function that trains a model of a given size and registers it as a new version with the alias."""

    def train(config, seed, size=oracle.SIZE, name="lr", key=None):
        generator = random.Random(seed)
        rows = [
            (
                float(generator.random() < 0.5),
                Vectors.sparse(size, sorted((i, generator.random()) for i in generator.sample(range(size), 9))),
            )
            for _ in range(200)
        ]
        data = spark.createDataFrame(rows, ["label", "features"])
        model = Pipeline(stages=[LogisticRegression(maxIter=3)]).fit(data)
        golden = [row["features"] for row in data.limit(3).collect()]
        names = config.mlflow.registered_names.model_dump()
        return training_log.log_training(
            config,
            {"seed": seed},
            {},
            {},
            {name: Trained(model, data.select("features").limit(1), "prediction", names[name])},
            lambda _model, folder: models.sign(spark, folder, golden, {}, {}, key=key),
        )[0]

    return train


@pytest.fixture
def watch(spark, own, register):
    """A watch on the aliases of two models at version 1, and a function that polls until a condition holds."""
    names = {model: f"watch-{model}-{uuid.uuid4().hex[:8]}" for model in ("lr", "svm")}
    config = own(
        *(f"mlflow.registered_names.{model}={name}" for model, name in names.items()),
        f"models=[{', '.join(f'{{name: {model}, uri: models:/{name}@champion}}' for model, name in names.items())}]",
        "stream.model_poll_seconds=0.1",
    )
    for model in names:
        register(config, seed=1, name=model)
    watched = SimpleNamespace(config=config, names=names, watch=ModelWatch(spark, config, models.load(spark, config)))

    def until(condition):
        deadline = time.monotonic() + 90
        while not condition():
            assert time.monotonic() < deadline, (watched.watch.served, watched.watch.refused())
            watched.watch.replaces(watched.watch.served)
            time.sleep(0.05)

    watched.until = until
    watched.versions = lambda: [model.version for model in watched.watch.served]
    watched.refused = lambda: set(watched.watch.refused())
    return watched


def test_version_is_refused_alone_and_judged_again_when_another_alias_moves(watch, register, caplog):
    """Covers a bad version beside a good one, two of another size in succession, and a deleted alias."""
    client = mlflow.MlflowClient(mlflow_connection.tracking_uri(watch.config))
    first = watch.watch.served
    client.delete_registered_model_alias(watch.names["svm"], "champion")
    watch.until(lambda: "keeping the current models" in caplog.text)
    client.set_registered_model_alias(watch.names["svm"], "champion", "1")
    assert not watch.watch.replaces(first)

    register(watch.config, seed=2)
    register(watch.config, seed=2, name="svm")
    client.set_model_version_tag(watch.names["svm"], "2", "manifest_sha256", "of another one")
    watch.until(lambda: watch.versions() == ["2", "1"])
    assert watch.refused() == {"svm:2"}
    assert watch.watch.replaces(first)

    register(watch.config, seed=3, size=90)
    watch.until(lambda: watch.refused() == {"lr:3", "svm:2"})
    assert watch.versions() == ["2", "1"]
    register(watch.config, seed=3, size=90, name="svm")
    assert "take 90 features" not in caplog.text
    watch.until(lambda: watch.versions() == ["3", "3"])
    assert watch.refused() == set()
    assert "take 90 features, those before took 110: messages of another size are rejected" in caplog.text


def test_version_without_its_tag_or_its_signature_does_not_take_over(spark, watch, register, tmp_path):
    """The current version stays in use until a valid version is promoted."""
    client = mlflow.MlflowClient(mlflow_connection.tracking_uri(watch.config))
    register(watch.config, seed=2)
    client.delete_model_version_tag(watch.names["lr"], "2", registry.MANIFEST_TAG)
    watch.until(lambda: watch.refused() == {"lr:2"})
    assert "has no tag manifest_sha256" in watch.watch.refused()["lr:2"]
    assert watch.versions() == ["1", "1"]

    keys = {name: Ed25519PrivateKey.generate() for name in ("ours", "theirs")}
    for name, key in keys.items():
        (tmp_path / name).write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = base64.b64encode(keys["ours"].public_key().public_bytes_raw()).decode()
    signed = {"signatures": watch.config.signatures.model_copy(update={"public_keys": (public,)})}
    signed["models"] = tuple(model.model_copy(update={"trust": "signed"}) for model in watch.config.models[:1])
    config = watch.config.model_copy(update=signed)
    register(config, seed=3, key=tmp_path / "ours")
    watch.watch = ModelWatch(spark, config, models.load(spark, config))
    register(config, seed=4)
    watch.until(lambda: watch.refused() == {"lr:4"})
    assert "there is no signature" in watch.watch.refused()["lr:4"]
    register(config, seed=5, key=tmp_path / "theirs")
    watch.until(lambda: watch.refused() == {"lr:5"})
    assert "none of the 1 keys in signatures.public_keys" in watch.watch.refused()["lr:5"]
    assert watch.versions() == ["3"]
    register(config, seed=6, key=tmp_path / "ours")
    watch.until(lambda: watch.versions() == ["6"])


def test_version_in_use_goes_on_over_a_restart(spark, watch, register, caplog):
    """A job that restarts after a bad version was promoted continues with its previous versions."""
    client = mlflow.MlflowClient(mlflow_connection.tracking_uri(watch.config))
    recorded = [model.identity() for model in watch.watch.served]
    register(watch.config, seed=2)
    client.set_model_version_tag(watch.names["lr"], "2", "manifest_sha256", "of another one")

    assert [model.version for model in models.load(spark, watch.config, recorded)] == ["1", "1"]
    assert "not the manifest that was registered with version 2" in caplog.text
    assert "The versions that were in use before go on: lr 1, svm 1" in caplog.text
    with pytest.raises(ModelError, match="not the manifest that was registered with version 2"):
        models.load(spark, watch.config)
    other = [
        model.model_copy(update={"uri": model.uri.replace("champion", "chamipon")}) for model in watch.config.models
    ]
    with pytest.raises(ModelError, match="chamipon"):
        models.load(spark, watch.config.model_copy(update={"models": tuple(other)}), recorded)
    register(watch.config, seed=3, size=90)
    assert [model.version for model in models.load(spark, watch.config, recorded)] == ["1", "1"]
    assert "but the model 'lr' has 90" in caplog.text
    client.set_model_version_tag(watch.names["lr"], "3", "manifest_sha256", "of another one")
    client.set_model_version_tag(watch.names["lr"], "1", "manifest_sha256", "of another one")
    with pytest.raises(ModelError, match="not the manifest that was registered with version 3"):
        models.load(spark, watch.config, recorded)


def test_version_that_could_not_be_loaded_is_judged_again(watch, register, monkeypatch):
    """A transient failure, such as a lost executor or a full disk, is retried without a move of the alias."""
    require_same = checks.require_same
    left = [2]

    def failing(*given):
        if left[0]:
            left[0] -= 1
            raise OSError("No space left on device")
        require_same(*given)

    monkeypatch.setattr(checks, "require_same", failing)
    register(watch.config, seed=2)
    watch.until(lambda: watch.refused() == {"lr:2"})
    watch.until(lambda: watch.versions() == ["2", "1"])

    assert watch.refused() == set()
    assert left == [0]


def test_version_that_can_never_be_loaded_is_tried_less_and_less(watch, register, monkeypatch):
    """The delay between attempts grows; after the alias moves back nothing is refused."""
    trials = []

    def failing(*_):
        trials.append(time.monotonic())
        raise OSError("No space left on device")

    monkeypatch.setattr(checks, "require_same", failing)
    register(watch.config, seed=2)
    watch.until(lambda: len(trials) == 5)
    waits = [after - before for before, after in itertools.pairwise(trials)]
    client = mlflow.MlflowClient(mlflow_connection.tracking_uri(watch.config))
    client.set_registered_model_alias(watch.names["lr"], "champion", "1")
    watch.until(lambda: watch.refused() == set())

    assert all(wait >= 0.1 * 2**number for number, wait in enumerate(waits)), waits
    assert watch.versions() == ["1", "1"]
    assert len(trials) == 5


def test_registry_that_does_not_answer_holds_up_nothing(spark, watch, caplog):
    """While a registry accepts connections but sends no answer, the stream continues with its models."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        away = watch.config.model_copy(update={"mlflow": watch.config.mlflow.model_copy(update={"tracking_uri": uri})})
        unanswered = ModelWatch(spark, away, watch.watch.served)
        time.sleep(0.2)
        began = time.monotonic()
        assert not unanswered.replaces(unanswered.served)
        silent.accept()[0].close()
        assert time.monotonic() - began < 5
    deadline = time.monotonic() + 90
    while "keeping the current models: MLflow at http://127.0.0.1" not in caplog.text:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert unanswered.refused() == {}


class Director(threading.Thread):
    """A thread that runs a script while the job runs in the main thread, and then stops the job."""

    def __init__(self, script) -> None:
        super().__init__(daemon=True)
        self.script = script
        self.failure = None

    def run(self) -> None:
        """Run the script, then stop the job as a supervisor would."""
        try:
            self.script()
        except BaseException as error:  # noqa: BLE001 (shown by the test)
            self.failure = error
        finally:
            os.kill(os.getpid(), signal.SIGTERM)


def test_alias_moves_while_events_flow(spark, own, register, outcomes):
    """Version 2 replaces 1, version 3 of another size is refused and shown, and the alias moves back to 1."""
    name = f"swap-{os.getpid()}"
    config = own(
        f"mlflow.registered_names.lr={name}",
        f"models=[{{name: lr, uri: models:/{name}@champion}}]",
        "stream.model_poll_seconds=0.5",
        "message.size=110",
    )
    register(config, seed=1)
    kafka.ensure(config.kafka, config.kafka.topics.input)
    score_stream.check(config)
    ledger = oracle.Ledger(seed=3)

    def flow(reached):
        """Send events until a condition holds."""
        deadline = time.monotonic() + 90
        while not reached():
            assert time.monotonic() < deadline
            oracle.send(config, ledger.next_messages(50, share_bad=0))
            time.sleep(0.1)

    def script():
        flow(lambda: "lr:1" in models_in_use(config))
        register(config, seed=2)
        flow(lambda: "lr:2" in models_in_use(config))
        register(config, seed=3, size=90)
        flow(lambda: any("lr:3" in refused for refused in refusals(config)))
        client = mlflow.MlflowClient(mlflow_connection.tracking_uri(config))
        client.set_registered_model_alias(name, "champion", "1")
        flow(lambda: models_in_use(config)[-1] == "lr:1")

    director = Director(script)
    director.start()
    summary = score_stream.run(spark, config)
    assert director.failure is None
    rest = score_stream.run(
        spark, config.model_copy(update={"stream": config.stream.model_copy(update={"available_now": True})})
    )

    per_event = defaultdict(list)
    for outcome in outcomes(config):
        per_event[outcome["key"]].append(outcome["model_version"])
    batches = [status["models"] for status in statuses(config)]
    changes = [models for before, models in zip([None, *batches], batches, strict=False) if models != before]

    assert summary["events"] + rest["events"] == ledger.sent
    assert per_event.keys() == ledger.good.keys()
    assert all(len(found) == 1 for found in per_event.values())
    assert changes == [["lr:1"], ["lr:2"], ["lr:1"]]
    assert elasticsearch.count(config.elasticsearch) == ledger.sent


def statuses(config):
    """Return the status documents in the order of their batches."""
    with elasticsearch.client(config.elasticsearch) as client:
        client.indices.refresh(index=config.elasticsearch.status_index)
        hits = client.search(index=config.elasticsearch.status_index, sort="batch", size=1000)["hits"]["hits"]
    return [hit["_source"] for hit in hits]


def models_in_use(config):
    """Return the models of each batch."""
    return [model for status in statuses(config) for model in status["models"]]


def refusals(config):
    """Return the refused versions of each batch."""
    return [text for status in statuses(config) for text in status["refused"]]

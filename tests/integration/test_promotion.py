"""What is said before a model's alias moves: the comparison of the version with the present one."""

import uuid

import mlflow
import pytest

from streamscore.cli import promotion
from streamscore.clients import elasticsearch
from streamscore.errors import ModelError, ServerError
from streamscore.models import mlflow_connection, registry
from streamscore.quality.comparison import NONE
from streamscore.quality.pairs import PairStatistic

BETTER = PairStatistic(1_000, 150, 50, {0.0: 700, 1.0: 300}, 600)
EVEN = PairStatistic(1_000, 51, 49, {0.0: 700, 1.0: 300}, 600)


@pytest.fixture
def config(own, tmp_path):
    """A configuration whose model has an alias at version 1 of three; and the indices."""
    name = f"promoted-{uuid.uuid4().hex[:8]}"
    config = own(
        f"mlflow.tracking_uri=sqlite:///{tmp_path}/mlflow.db", f"models=[{{name: lr, uri: 'models:/{name}@champion'}}]"
    )
    assert not registry.exists(config, config.models[0].uri)  # imports MLflow with its warnings silenced
    client = mlflow.MlflowClient(mlflow_connection.tracking_uri(config))
    client.create_registered_model(name)
    for _ in range(3):
        client.create_model_version(name, str(tmp_path))
    client.set_registered_model_alias(name, "champion", "1")
    elasticsearch.ensure(config.elasticsearch)
    return config


def put(config, version, sums):
    """Store the comparison of a version with version 1, as the job does."""
    address = config.models[0].uri.removesuffix("@champion")
    of = {
        "champion": "lr",
        "champion_version": "1",
        "champion_uri": f"{address}/1",
        "model": "next",
        "model_version": version,
        "model_uri": f"{address}/{version}",
    }
    document = {"@timestamp": 0, "seconds": 0, "topic": "ml", "stream": "s", "pair": f"lr:1:next:{version}", "batch": 0}
    with elasticsearch.client(config.elasticsearch) as client:
        client.index(
            index=config.elasticsearch.quality_index,
            document={**document, **of, **NONE.after(sums, 0.05).to_document()},
            refresh=True,
        )


def test_promotion_names_the_comparison_and_can_require_the_verdict(config):
    """A version with the verdict passes; one without it, and one that was not compared, are refused."""
    put(config, "2", BETTER)
    put(config, "3", EVEN)
    better, even = (promotion.compared(config, "lr", version, required=True) for version in "23")

    assert promotion.described(config, better, "lr", "2").startswith("next 2 against lr 1: accuracy +10.00 [")
    assert "better (after 1,000 events)" in promotion.described(config, better, "lr", "2")
    assert "no verdict yet" in promotion.described(config, even, "lr", "3")
    promotion.require_better(config, better, "lr", "2")
    for found, version in ((even, "3"), (None, "4")):
        with pytest.raises(
            ModelError, match=f"--if-better: there is no verdict that version {version} of lr is better"
        ):
            promotion.require_better(config, found, "lr", version)
    assert promotion.compared(config, "lr", "4", required=True) is None
    assert "did not score the same events" in promotion.described(config, None, "lr", "4")


def test_elasticsearch_out_of_reach_matters_only_if_the_verdict_is_required(config, caplog):
    """Without --if-better the alias can move while Elasticsearch is away."""
    away = config.elasticsearch.model_copy(update={"url": "http://127.0.0.1:9", "retry_seconds": 0.0})
    config = config.model_copy(update={"elasticsearch": away})

    assert promotion.compared(config, "lr", "2", required=False) is None
    assert "http://127.0.0.1:9" in caplog.text
    with pytest.raises(ServerError):
        promotion.compared(config, "lr", "2", required=True)


def test_first_version_has_nothing_to_be_compared_with(config):
    """An alias that points nowhere yet can move."""
    client = mlflow.MlflowClient(mlflow_connection.tracking_uri(config))
    client.delete_registered_model_alias(config.models[0].uri.split("/")[1].removesuffix("@champion"), "champion")

    assert promotion.compared(config, "lr", "2", required=True) is None

"""The registry's address belongs to one configuration at a time, and never comes from the environment by accident."""

import contextlib
import os
import threading

from streamscore.errors import ModelError
from streamscore.models import registry


def test_registry_that_the_environment_names_is_not_that_of_our_own_store(make_config, tmp_path, monkeypatch):
    """With our own store the environment's registry is ignored, so that the demo moves no shared alias."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", "http://127.0.0.1:1")
    config = make_config(f"state_dir={tmp_path}")
    with registry._mlflow(config) as mlflow:
        assert mlflow.get_registry_uri() == registry.tracking_uri(config)

    assert os.environ["MLFLOW_REGISTRY_URI"] == mlflow.get_registry_uri() == "http://127.0.0.1:1"
    elsewhere = make_config(f"state_dir={tmp_path}", f"mlflow.tracking_uri=sqlite:///{tmp_path}/other.db")
    with registry._mlflow(elsewhere) as mlflow:
        assert mlflow.get_registry_uri() == "http://127.0.0.1:1"


def test_one_registry_s_address_is_not_changed_by_another_thread(make_config, tmp_path, monkeypatch):
    """A poll of an alias does not change MLflow's global address while a run is logged."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    first, second = (make_config(f"state_dir={tmp_path / name}") for name in ("first", "second"))

    def look():
        with contextlib.suppress(ModelError):
            registry.resolve(second, "models:/absent/1")

    other = threading.Thread(target=look)
    with registry._mlflow(first) as mlflow:
        other.start()
        other.join(0.5)

        assert other.is_alive()
        assert mlflow.get_tracking_uri() == registry.tracking_uri(first)
    other.join(60)

    assert not other.is_alive()

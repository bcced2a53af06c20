"""The connection to MLflow's tracking server and registry; only ``training_log`` and ``registry`` use it."""

from __future__ import annotations

import logging
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from streamscore.config import Config
from streamscore.errors import ModelError, ServerError
from streamscore.models import artifacts

_TRACKING_URI: Final = "MLFLOW_TRACKING_URI"
_REGISTRY_URI: Final = "MLFLOW_REGISTRY_URI"

_address_in_use = threading.RLock()
"""Guards MLflow's tracking address, which is global to the process."""


def tracking_uri(config: Config) -> str:
    """Return the tracking server's address: configured, from the environment, or our own SQLite file."""
    return config.mlflow.tracking_uri or os.environ.get(_TRACKING_URI) or _own_uri(config)


def _own_uri(config: Config) -> str:
    return f"sqlite:///{config.state_dir / 'mlflow' / 'mlflow.db'}"


def imported() -> Any:
    """Return the mlflow module, imported with the environment variables that it reads at import."""
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    # Otherwise a server that is absent or does not answer is noticed only after many minutes.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    warnings.filterwarnings("ignore", module="mlflow")
    import mlflow
    import mlflow.spark

    return mlflow


def _faults(uri: str) -> tuple[type[Exception], ...]:
    """Return the exceptions of an unreachable or refusing tracking server; MLflow does not wrap a database's errors."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.db.db_types import DATABASE_ENGINES

    # For a database only, because mlflow-skinny, as on Databricks, comes without the packages for databases.
    if re.split("[:+]", uri)[0] not in DATABASE_ENGINES:
        return (MlflowException,)
    import mlflow.store.db.utils
    from sqlalchemy.exc import SQLAlchemyError

    mlflow.store.db.utils.MAX_RETRY_COUNT = 4  # the default retries an unreachable database silently for 100 s
    return (MlflowException, SQLAlchemyError)


@contextmanager
def connected(config: Config) -> Iterator[Any]:
    """Yield the mlflow module, configured and with quiet loggers; one thread at a time.

    Args:
        config: names the tracking server.

    Raises:
        ServerError: MLflow cannot be reached or refuses.
    """
    mlflow = imported()
    for noisy in ("mlflow", "alembic", "mlflow.store.db.utils", "mlflow.tracking"):
        logging.getLogger(noisy).setLevel(logging.ERROR)
    uri = tracking_uri(config)
    if uri.startswith("sqlite:///"):
        Path(uri.removeprefix("sqlite:///")).parent.mkdir(parents=True, exist_ok=True)
    faults = _faults(uri)
    with _address_in_use:
        before = {name: os.environ.get(name) for name in (_TRACKING_URI, _REGISTRY_URI)}
        mlflow.set_tracking_uri(uri)
        if uri in {"databricks", _own_uri(config)}:  # ignores the environment's registry
            mlflow.set_registry_uri("databricks-uc" if uri == "databricks" else uri)
        try:
            yield mlflow
        except ImportError as error:  # of a database's client
            raise ServerError(
                f"MLflow at {uri}: {artifacts.one_line(error)}: install the client of its database"
            ) from None
        except faults as error:
            raise ServerError(f"MLflow at {uri}: {artifacts.one_line(error)}") from None
        finally:
            # MLflow sets the environment variable too, which the next configuration would read. None is its default.
            mlflow.set_tracking_uri(before[_TRACKING_URI])
            mlflow.set_registry_uri(None)
            os.environ.pop(_REGISTRY_URI, None)
            os.environ |= {name: value for name, value in before.items() if value is not None}


@contextmanager
def absent_is_model_error(config: Config, uri: str) -> Iterator[None]:
    """Re-raise MLflow's not-found errors with the registry's address.

    Args:
        config: names the tracking server.
        uri: the model's address, for the message.

    Raises:
        ModelError: there is no such model.
    """
    from mlflow.exceptions import MlflowException

    try:
        yield
    except MlflowException as error:
        if error.error_code not in artifacts.ABSENT:
            raise
        raise ModelError(
            f"{uri}: no such model in the registry at {tracking_uri(config)} ({artifacts.one_line(error)}). "
            "`streamscore train` makes the two default ones; models.N.uri takes another address or a plain path"
        ) from None

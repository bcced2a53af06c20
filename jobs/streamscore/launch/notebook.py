"""Parameters of a notebook, on Databricks and elsewhere."""

from __future__ import annotations

import os
from typing import Any

from streamscore import config
from streamscore.config import Config
from streamscore.spark.settings import on_databricks
from streamscore.system.console import set_up_logging


def parameter(dbutils: Any | None, name: str, default: str, label: str) -> str:
    """Return a notebook's parameter: the widget's value, else the environment's ``STREAMSCORE_NAME``, else a default.

    Args:
        dbutils: Databricks' object of this name; None elsewhere.
        name: name of the widget and of the job's parameter.
        default: value without a widget and without an environment variable.
        label: text beside the widget.
    """
    value = os.environ.get(f"STREAMSCORE_{name.upper()}", default)
    if dbutils is None:
        return value
    dbutils.widgets.text(name, value, label)
    return str(dbutils.widgets.get(name))


def configuration(dbutils: Any | None) -> Config:
    """Return the configuration that a notebook's parameters ``config`` and ``set`` name, and start the log.

    Raises:
        ConfigError: the configuration is wrong.
    """
    set_up_logging()
    environment = parameter(
        dbutils, "config", "databricks" if on_databricks() else "local", "Configuration: a name or a YAML file"
    )
    changes = parameter(dbutils, "set", "", "Further keys: key=value; key=value")
    return config.load(environment, [change.strip() for change in changes.split(";") if change.strip()])

"""Parameters of a notebook, from the widget, the environment or the default."""

import pytest

from streamscore.errors import ConfigError
from streamscore.launch import notebook


def test_widget_wins_over_environment_and_default(dbutils, monkeypatch):
    """A value of the widget takes precedence."""
    monkeypatch.setenv("STREAMSCORE_SECONDS", "60")

    assert notebook.parameter(dbutils(seconds="5"), "seconds", "0", "Seconds") == "5"


def test_environment_is_what_an_untouched_widget_shows(dbutils, monkeypatch):
    """The environment's value is the widget's default."""
    monkeypatch.setenv("STREAMSCORE_SECONDS", "60")
    fake = dbutils()

    assert notebook.parameter(fake, "seconds", "0", "Seconds") == "60"
    assert fake.widgets.made == {"seconds": ("60", "Seconds")}


def test_without_dbutils_the_environment_or_the_default_holds(monkeypatch):
    """Without dbutils the environment's value or the default is used."""
    assert notebook.parameter(None, "seconds", "0", "Seconds") == "0"
    monkeypatch.setenv("STREAMSCORE_SECONDS", "60")
    assert notebook.parameter(None, "seconds", "0", "Seconds") == "60"


def test_configuration_takes_a_file_and_further_keys(dbutils, monkeypatch, tmp_path):
    """The parameters name a file and overrides, which are separated by semicolons."""
    monkeypatch.delenv("STREAMSCORE_CONFIG", raising=False)
    file = tmp_path / "my.yml"
    file.write_text("kafka: {partitions: 3}")
    made = notebook.configuration(dbutils(config=str(file), set="train.rows=90000; models=[{name: a, uri: /x}];"))

    assert made.kafka.partitions == 3
    assert made.train.rows == 90_000
    assert [model.name for model in made.models] == ["a"]
    assert made.spark.master is None
    assert notebook.configuration(None).spark.master == "local[*]"


def test_configuration_on_databricks_is_the_one_for_databricks(dbutils, monkeypatch):
    """On Databricks the default configuration is the one for Databricks."""
    monkeypatch.delenv("STREAMSCORE_CONFIG", raising=False)
    monkeypatch.setenv("DATABRICKS_RUNTIME_VERSION", "16.4")

    with pytest.raises(ConfigError, match="the environment variable STREAMSCORE_VOLUMES is not set"):
        notebook.configuration(dbutils())

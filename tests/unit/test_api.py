"""The stable Python API: what the package's docstring names exists, and nothing else is exported."""

import importlib
import re

import streamscore


def test_exported_modules_are_those_of_the_docstring():
    """One list for readers, one for Python."""
    lines = re.findall(r"^- (.*?):", streamscore.__doc__, re.MULTILINE)
    named = {name.partition(".")[0] for line in lines for name in re.findall(r"``(.*?)``", line)}

    assert named | {"__version__"} == set(streamscore.__all__)


def test_named_functions_exist():
    """Also those that are named for all three jobs."""
    for dotted in ("config.load", "config.fields.parse", "models.sign"):
        module, _, name = dotted.rpartition(".")
        assert callable(getattr(importlib.import_module(f"streamscore.{module}"), name))
        assert f"``{dotted}``" in streamscore.__doc__
    for job in ("train_models", "seed_topic", "score_stream"):
        module = importlib.import_module(f"streamscore.{job}")
        assert module.JOB.run is module.run
        assert module.JOB.check is module.check
        assert callable(module.main)

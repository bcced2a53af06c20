"""The stable Python API: every name in the package's docstring exists, and nothing else is exported."""

import importlib
import re

import streamscore


def test_exported_modules_are_those_of_the_docstring():
    """``__all__`` and the docstring list the same modules."""
    lines = re.findall(r"^- (.*?):", streamscore.__doc__, re.MULTILINE)
    named = {name.partition(".")[0] for line in lines for name in re.findall(r"``(.*?)``", line)}

    assert named | {"__version__"} == set(streamscore.__all__)


def test_named_functions_exist():
    """All documented functions exist, also those of each job."""
    for dotted in ("config.load", "config.fields.parse", "models.sign"):
        module, _, name = dotted.rpartition(".")
        assert callable(getattr(importlib.import_module(f"streamscore.{module}"), name))
        assert f"``{dotted}``" in streamscore.__doc__
    for job in ("train_models", "seed_topic", "score_stream", "replay_topic", "label_stream"):
        module = importlib.import_module(f"streamscore.{job}")
        assert module.JOB.run is module.run
        assert module.JOB.check is module.check
        assert callable(module.main)

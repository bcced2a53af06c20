"""The house: imports go one way, and only a few doors lead to the JVM."""

import ast
import re
import subprocess
import sys

import pytest

# Each module may import from its own layer's predecessors; jobs do not import each other.
JOBS = {"train_models", "seed_topic", "score_stream"}
LAYERS = [
    {"errors", "schema", "coordinates", "paths", "files"},
    {"config", "console"},
    {"installation", "processes", "provenance", "scratch"},
    {"criteo", "synthetic", "features", "messages", "decoder", "scoring"},
    {"hadoop", "checkpoint", "registry", "gate", "golden", "models", "session", "topics", "index", "faults", "kibana"},
    {"sources", "options", "totals", "notebook", "history", "outbox"},
    {"sinks", "dataset", "pacing", "runner", "rejected", "supervisor"},
    {"stream", "swap"},
    JOBS,
    {"local"},
    {"dashboard"},
    {"submit", "doctor", "report", "catalog"},
    {"demo"},
    {"cli"},
]
JVM_DOORS = {"decoder/__init__.py", "session.py", "hadoop.py"}


def package(root):
    """The package's folder in the repository."""
    return root / "jobs" / "streamscore"


def layer_of(module):
    """Return the number of a module's layer."""
    return next(number for number, layer in enumerate(LAYERS) if module in layer)


def imported(path):
    """Return the modules of this package that a file imports when it runs; imports for types alone do not count."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    names = set()
    for node in ast.walk(tree):
        if node in for_types:
            continue
        if isinstance(node, ast.ImportFrom) and node.module == "streamscore":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("streamscore."):
            names.add(node.module.split(".")[1])
    return names - {"__version__"}


def test_every_module_has_a_layer(root):
    """A new module is given a place in the house."""
    found = {path.stem if path.is_file() else path.name for path in package(root).iterdir() if is_code(path)}

    assert found == set().union(*LAYERS)


def is_code(path):
    """Tell whether a path is a module or a package with code in it."""
    return (path.suffix == ".py" and path.stem != "__init__") or (path / "__init__.py").is_file()


def test_imports_go_one_way(root):
    """From the command line down to the names of columns, never up, and from no job to another."""
    breaches = [
        f"{module} imports {other}"
        for path in package(root).rglob("*.py")
        if (module := path.relative_to(package(root)).parts[0].removesuffix(".py")) != "__init__"
        for other in imported(path) - {module}
        if layer_of(other) > layer_of(module) or {module, other} <= JOBS
    ]

    assert breaches == []


@pytest.mark.parametrize("word", ["_jvm", "_jsparkSession", ".rdd", "sparkContext", "_gateway"])
def test_only_the_doors_reach_into_the_jvm(root, word):
    """Everything else runs wherever DataFrames do."""
    found = {
        str(path.relative_to(package(root)))
        for path in package(root).rglob("*.py")
        if re.search(rf"{re.escape(word)}\b", path.read_text(encoding="utf-8"))
    }

    assert found <= JVM_DOORS


def test_rejected_messages_are_looked_at_without_spark():
    """Kafka's client does it, and to import Spark takes a second or more."""
    code = "import sys, streamscore.cli.rejected, streamscore.rejected; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "'streamscore.rejected'" in loaded
    assert "'pyspark'" not in loaded


def test_no_python_function_runs_per_row(root):
    """No Python UDF anywhere: each row stays inside the JVM."""
    found = [
        path.name
        for path in package(root).rglob("*.py")
        if re.search(r"\b(udf|pandas_udf|mapInPandas|applyInPandas|mapInArrow)\(", path.read_text(encoding="utf-8"))
    ]

    assert [name for name in found if name != "__init__.py"] == []  # the decoder registers its Java with udf()

"""The packages import in one direction, respect the import rules, and have no import cycles."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter

import pytest

JOBS = {"train_models", "seed_topic", "score_stream", "replay_topic", "label_stream"}
ROOMS = [
    {"errors", "schema"},
    {"system"},
    {"config"},
    {"spark"},
    {"messages", "scoring", "quality"},
    {"clients", "kibana"},
    {"data", "models"},
    {"sinks", "listeners"},
    {"stream", "scored"},
    {"local"},
    {"launch"},
    JOBS,
    {"dashboard"},
    {"cli"},
]
"""Layers from the bottom up: a room imports only rooms of lower layers. CONTRIBUTING.md describes each."""

PURE = {"config.fields", "config.types", "errors", "schema", "system.files"}
"""Modules that pure rooms may import besides each other: names, column types, errors, atomic files."""

SHARED = {"sinks.base", "sinks.patience", "sinks.topics", "sinks.contributions", "sinks.additive"}
SHARED |= {
    "sinks.label_records",
    "sinks.label_waiting",
    "sinks.label_contributions",
    "listeners.base",
    "listeners.totals",
    "listeners.comparisons",
}
SHARED |= {"listeners.exporter", "listeners.families", "listeners.health"}
"""Shared modules of sinks and listeners; the listeners of the scoring job show its totals."""

WALLS = {
    "jobs are imported by the command line alone": (
        lambda module, other: room(other) in JOBS and room(module) not in {"cli", room(other)}
    ),
    "messages, scoring, quality and the generators of data are pure": (
        lambda module, other: is_pure(module) and not is_pure(other) and other not in PURE
    ),
    "what people look at reads figures and clients, never the stream's inside": (
        lambda module, other: (
            room(module) in {"dashboard", "kibana"} and room(other) in {"stream", "sinks", "models", "spark"}
        )
    ),
    "the running query knows no scoring, and no sink or listener by name": (
        lambda module, other: (
            room(module) == "stream"
            and (
                room(other) in {"scoring", "quality", "messages", "models", "data"}
                or (room(other) in {"sinks", "listeners"} and other not in {"sinks.base", "listeners.base"})
            )
        )
    ),
    "sinks and listeners know nothing of each other": (
        lambda module, other: (
            room(module) in {"sinks", "listeners"}
            and room(other) in {"sinks", "listeners"}
            and not (module == room(module) == room(other) or other in SHARED)
        )
    ),
    "nothing imports the command line": lambda module, other: room(other) == "cli" and room(module) != "cli",
    "local servers are started by cli, launch and the page's server": (
        lambda module, other: (
            room(other) == "local" and room(module) not in {"local", "cli", "launch"} and module != "dashboard.server"
        )
    ),
}
"""Each import rule with a predicate of the imports that violate it."""

CONNECTIONS = ("clients", "spark", "sinks", "models.mlflow_connection", "kibana.client")
"""The modules that open connections to Kafka, Elasticsearch, MLflow and Kibana."""

JVM_DOORS = {"spark", "messages.decoder"}


def room(module):
    """The room of a module."""
    return module.split(".")[0]


def is_pure(module):
    """Return whether a module may use neither a client nor the configuration; the decoder, which uses Java, may."""
    if module == "messages.decoder":
        return False
    return room(module) in {"messages", "scoring", "quality"} or module in {"data.criteo", "data.synthetic"}


@pytest.fixture(scope="module")
def house(root):
    """The path of every module of the package, by its dotted name without the package's."""
    package = root / "jobs" / "streamscore"
    paths = sorted(path for path in package.rglob("*.py") if path.name != "__init__.py" or path.parent != package)
    return {".".join(path.relative_to(package).with_suffix("").parts).removesuffix(".__init__"): path for path in paths}


@pytest.fixture(scope="module")
def imports(house):
    """The modules of the package that each module imports at run time, with ``__init__`` modules."""
    return {module: imported(path, house) - {module} for module, path in house.items()}


def imported(path, house):
    """Return the modules of this package that a file imports at run time, without type-only imports."""
    names = set()
    for node in runs(path):
        package, _, inside = node.module.partition(".") if isinstance(node, ast.ImportFrom) else ("", "", "")
        if package == "streamscore":
            for alias in node.names:
                dotted = f"{inside}.{alias.name}".lstrip(".")
                names.add(dotted if dotted in house else inside)
    return names - {""}


def runs(path):
    """Yield a file's nodes outside type-checking blocks."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        node
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for node in ast.walk(block)
    }
    yield from (node for node in ast.walk(tree) if node not in for_types)


def packages(path):
    """Return the top-level names of all packages that a file imports at run time."""
    names = set()
    for node in runs(path):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module.split(".")[0])
    return names


def test_every_module_is_in_a_room(house):
    """Every module belongs to a listed room, and no listed room is empty."""
    assert {room(module) for module in house} == set().union(*ROOMS)


def test_rooms_import_in_one_direction(imports):
    """Rooms import only lower layers, and no other room of their own layer."""
    floor = {name: number for number, names in enumerate(ROOMS) for name in names}
    breaches = [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if room(module) != room(other) and floor[room(other)] >= floor[room(module)]
    ]

    assert breaches == []


def test_no_modules_import_each_other_in_a_circle(imports):
    """There is no import cycle, inside a room either; the message names the cycle."""
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


@pytest.mark.parametrize("wall", WALLS)
def test_wall_holds(imports, wall):
    """No import violates the rule."""
    breaches = [
        f"{module} imports {other}"
        for module, others in imports.items()
        for other in others
        if WALLS[wall](module, other)
    ]

    assert breaches == []


def test_connections_are_opened_in_few_places(house):
    """Only the listed modules import a client's package."""
    clients = {"confluent_kafka", "elasticsearch", "requests", "urllib3", "mlflow"}
    found = {module for module, path in house.items() if clients & packages(path)}

    assert {module for module in found if not module.startswith(CONNECTIONS)} == set()


@pytest.mark.parametrize("word", ["_jvm", "_jsparkSession", ".rdd", "sparkContext", "_gateway"])
def test_only_the_doors_reach_into_the_jvm(house, word):
    """Only the listed modules access the JVM."""
    found = {
        module for module, path in house.items() if re.search(rf"{re.escape(word)}\b", path.read_text(encoding="utf-8"))
    }

    assert {module for module in found if room(module) not in JVM_DOORS and module not in JVM_DOORS} == set()


def test_rejected_messages_are_looked_at_without_spark():
    """The commands for rejected messages do not import Spark, which takes more than a second."""
    code = "import sys, streamscore.cli.rejected, streamscore.clients.rejected; print(sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert "'streamscore.clients.rejected'" in loaded
    assert "'pyspark'" not in loaded


def test_no_python_function_runs_per_row(house):
    """There is no Python UDF: each row stays inside the JVM."""
    found = {
        module
        for module, path in house.items()
        if re.search(r"\b(udf|pandas_udf|mapInPandas|applyInPandas|mapInArrow)\(", path.read_text(encoding="utf-8"))
    }

    assert found <= {"messages.decoder"}  # registers Java functions with udf()

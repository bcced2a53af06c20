"""Docstrings name what a caller has to know: the parameters, where there are three or more, and the errors."""

import ast
import re

import pytest

WITHOUT_ARGS = {
    "cli.inventory:promote",
    "clients.elasticsearch:note_checkpoint",
    "clients.elasticsearch:put_status",
    "clients.kafka:read",
    "clients.producer:Outbox.send",
    "dashboard.markup:clock",
    "dashboard.markup:heading",
    "dashboard.markup:kpi",
    "dashboard.markup:kpis",
    "dashboard.markup:status",
    "dashboard.markup:versions",
    "dashboard.queries:aggregate",
    "dashboard.queries:tallies",
    "dashboard.report:compose",
    "dashboard.report:read",
    "dashboard.scores:bins",
    "dashboard.svg:clock",
    "dashboard.svg:linear",
    "data.criteo:split_table",
    "data.datasets:records",
    "data.synthetic:Logit.calibrated",
    "kibana.client:Kibana.ask",
    "kibana.client:Kibana.ask_space",
    "launch.arguments:parse",
    "launch.submit:become",
    "launch.submit:start",
    "local.artifacts:ensure",
    "local.artifacts:verify",
    "local.ports:require_free",
    "models.checks:outcomes",
    "models.checks:require_same",
    "models.checks:rows",
    "models.gate.files:refused",
    "models.registry:promote",
    "models:load_noted",
    "models:load_one",
    "models:look",
    "sinks:append",
    "sinks:write_table",
    "spark.session:create",
    "spark.sources:topic",
    "spark.sources:topics_since",
    "stream.checkpoint:note_models",
    "stream.checkpoint:require_topic",
    "stream:scored_events",
    "system.failpoints:write",
    "train_models:read",
}
"""Functions that have yet to document their parameters; one that does leaves this list."""

WITHOUT_RAISES = {
    "cli.demo:run",
    "clients.kafka:names",
    "errors:told_in_one_line",
    "launch.submit:become",
    "stream.checkpoint:HadoopFolder.write",
    "system.failpoints:Fault.strike",
}
"""Functions that have yet to document what they raise; one that does leaves this list."""


@pytest.fixture(scope="module")
def functions(root):
    """The public functions and methods of the package, by module and qualified name."""
    package = root / "jobs" / "streamscore"
    return {
        f"{'.'.join(path.relative_to(package).with_suffix('').parts).removesuffix('.__init__')}:{name}": function
        for path in sorted(package.rglob("*.py"))
        for name, function in public(ast.parse(path.read_text(encoding="utf-8")))
    }


def public(node, prefix=""):
    """Yield the public functions of a module or class with their names; a function's inner functions are its own."""
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from public(child, f"{prefix}{child.name}.")
        elif not is_command(child):
            yield f"{prefix}{child.name}", child


def is_command(function):
    """Return whether a function is a verb of the command line: its docstring is the help, and so are its options'."""
    return any(re.search(r"\.(command|callback)\(", ast.unparse(decorator)) for decorator in function.decorator_list)


def section(function, title):
    """Return the text of a section of a function's docstring; a section ends where the next begins."""
    text = ast.get_docstring(function) or ""
    match = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
    return match[1] if match else ""


def parameters(function):
    """Return the names of a function's parameters, those of an instance or class left out."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument.arg for argument in every if argument is not None and argument.arg not in {"self", "cls"}]


def raised(function):
    """Return the names of what a function raises in its own body: of classes, or of functions that make an error."""
    raises = [node.exc for node in own_nodes(function) if isinstance(node, ast.Raise) and node.exc]
    called = [ast.unparse(error.func) for error in raises if isinstance(error, ast.Call)]
    return {name.rpartition(".")[2] for name in [*called, *(error.id for error in raises if is_class(error))]}


def is_class(error):
    """Return whether a raised expression is the name of a class, and not a variable that is raised again."""
    return isinstance(error, ast.Name) and error.id[0].isupper()


def own_nodes(function):
    """Yield the nodes of a function, without those of functions and classes inside."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def lacks_args(function):
    """Return whether a function of three or more parameters does not document each of them."""
    names = parameters(function)
    documented = re.findall(r"^ +\*{0,2}(\w+)(?: \(.*?\))?: ", section(function, "Args"), re.MULTILINE)
    return len(names) >= 3 and not set(names) <= set(documented)


def lacks_raises(function):
    """Return whether a function raises an error that its docstring does not name, or made elsewhere and names none."""
    documented = set(re.findall(r"^ +(\w+): ", section(function, "Raises"), re.MULTILINE))
    classes = {name for name in raised(function) if name[0].isupper()}
    return not classes <= documented or (raised(function) > classes and not documented)


def parsed(source):
    """Return the first function of a source text."""
    return ast.parse(source).body[0]


DOCUMENTED = '''
def send(self, topic, *records, timeout=1.0):
    """Send records.

    Args:
        topic: Where to.
        *records: What,
            in order.
        timeout: Seconds.

    Raises:
        ServerError: The broker does not answer: it may be down.
    """
    raise errors.ServerError("no answer")
'''


def test_complete_docstring_passes():
    """Sections that name all there is."""
    function = parsed(DOCUMENTED)

    assert parameters(function) == ["topic", "records", "timeout"]
    assert raised(function) == {"ServerError"}
    assert not lacks_args(function)
    assert not lacks_raises(function)


@pytest.mark.parametrize("line", ["        topic: Where to.\n", "        *records: What,\n", "Args:\n"])
def test_parameter_that_is_not_documented_is_noticed(line):
    """Each, or the whole section."""
    assert lacks_args(parsed(DOCUMENTED.replace(line, "")))


@pytest.mark.parametrize("line", ["        ServerError: The broker does not answer: it may be down.\n", "Raises:\n"])
def test_error_that_is_not_documented_is_noticed(line):
    """Its line, or the whole section."""
    assert lacks_raises(parsed(DOCUMENTED.replace(line, "")))


def test_error_that_is_made_elsewhere_needs_a_section():
    """Which class it is cannot be seen here, but a reader is to know."""
    made = DOCUMENTED.replace("errors.ServerError(", "refusal(")

    assert not lacks_raises(parsed(made))
    assert lacks_raises(parsed(made.replace("Raises:\n", "")))


def test_parameters_are_documented(functions):
    """Where there are three or more; and no function is still listed that documents them."""
    assert sorted(name for name, function in functions.items() if lacks_args(function)) == sorted(WITHOUT_ARGS)


def test_errors_are_documented(functions):
    """Those that the function itself raises; and no function is still listed that documents them."""
    assert sorted(name for name, function in functions.items() if lacks_raises(function)) == sorted(WITHOUT_RAISES)

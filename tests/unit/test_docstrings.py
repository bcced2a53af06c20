"""Docstrings document the parameters of functions with three or more, and the raised errors."""

import ast
import re

import pytest

CONTRACTS = re.compile(r"sinks\.(?!base:).*\.write|messages\.formats\.(?!base:)\w+:encode")
"""Functions whose parameters are documented by the base: ``Sink.write``, and ``encode`` of a ``Format``."""


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
    """Yield the public functions of a module or class with their names, without inner functions."""
    for child in node.body:
        if not isinstance(child, ast.ClassDef | ast.FunctionDef) or child.name.startswith("_"):
            continue
        if isinstance(child, ast.ClassDef):
            yield from public(child, f"{prefix}{child.name}.")
        elif not is_command(child):
            yield f"{prefix}{child.name}", child


def is_command(function):
    """Return whether a function is a verb of the command line, whose docstring is the help text."""
    return any(re.search(r"\.(command|callback)\(", ast.unparse(decorator)) for decorator in function.decorator_list)


def section(function, title):
    """Return the text of a section of a function's docstring."""
    text = ast.get_docstring(function) or ""
    match = re.search(rf"^{title}:\n((?:[ ]+.*\n?|\n)+)", text, re.MULTILINE)
    return match[1] if match else ""


def parameters(function):
    """Return the names of a function's parameters, without ``self`` and ``cls``."""
    arguments = function.args
    every = [*arguments.posonlyargs, *arguments.args, arguments.vararg, *arguments.kwonlyargs, arguments.kwarg]
    return [argument.arg for argument in every if argument is not None and argument.arg not in {"self", "cls"}]


def raised(function):
    """Return the names of the error classes, or of the functions that make errors, in a function's raise statements."""
    raises = [node.exc for node in own_nodes(function) if isinstance(node, ast.Raise) and node.exc]
    called = [ast.unparse(error.func) for error in raises if isinstance(error, ast.Call)]
    return {name.rpartition(".")[2] for name in [*called, *(error.id for error in raises if is_class(error))]}


def is_class(error):
    """Return whether a raised expression is a class, and not a variable."""
    return isinstance(error, ast.Name) and error.id[0].isupper()


def own_nodes(function):
    """Yield the nodes of a function, without those of inner functions and classes."""
    waiting = list(function.body)
    while waiting:
        node = waiting.pop()
        yield node
        if not isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda):
            waiting.extend(ast.iter_child_nodes(node))


def lacks_args(function):
    """Return whether a function of three or more parameters leaves one of them undocumented."""
    names = parameters(function)
    documented = re.findall(r"^ +\*{0,2}(\w+)(?: \(.*?\))?: ", section(function, "Args"), re.MULTILINE)
    return len(names) >= 3 and not set(names) <= set(documented)


def lacks_raises(function):
    """Return whether a docstring lacks a raised class, or names no error although a function makes one."""
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
    """A docstring with all parameters and errors passes."""
    function = parsed(DOCUMENTED)

    assert parameters(function) == ["topic", "records", "timeout"]
    assert raised(function) == {"ServerError"}
    assert not lacks_args(function)
    assert not lacks_raises(function)


@pytest.mark.parametrize("line", ["        topic: Where to.\n", "        *records: What,\n", "Args:\n"])
def test_parameter_that_is_not_documented_is_noticed(line):
    """A missing parameter, or a missing section, is reported."""
    assert lacks_args(parsed(DOCUMENTED.replace(line, "")))


@pytest.mark.parametrize("line", ["        ServerError: The broker does not answer: it may be down.\n", "Raises:\n"])
def test_error_that_is_not_documented_is_noticed(line):
    """A missing error, or a missing section, is reported."""
    assert lacks_raises(parsed(DOCUMENTED.replace(line, "")))


def test_error_that_is_made_elsewhere_needs_a_section():
    """An error made by another function, whose class is unknown here, needs a Raises section."""
    made = DOCUMENTED.replace("errors.ServerError(", "refusal(")

    assert not lacks_raises(parsed(made))
    assert lacks_raises(parsed(made.replace("Raises:\n", "")))


def test_parameters_are_documented(functions):
    """All public functions with three or more parameters document them."""
    lacking = [name for name, function in functions.items() if lacks_args(function)]

    assert [name for name in lacking if not CONTRACTS.fullmatch(name)] == []


def test_errors_are_documented(functions):
    """All public functions document the errors that they raise themselves."""
    assert [name for name, function in functions.items() if lacks_raises(function)] == []

"""Read, merge and check the configuration files; every fault becomes a one-line error that names its key."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, SecretStr, ValidationError

from streamscore.config.keys import Config
from streamscore.config.sections import SECRET_KEY
from streamscore.errors import ConfigError, mask_credentials

if TYPE_CHECKING:
    from importlib.abc import Traversable  # deprecated here since Python 3.13, but 3.10 has no other place

CONF_DIR = files("streamscore") / "conf"  # also inside a zip, as --py-files ships the package

_REFERENCE = re.compile(r"\$\{(env|file):([^}]+)\}")
# In a login module's line only the user name may be a reference, and the password be plain text.
_PLAIN_PASSWORD = re.compile(r"""(?i)password\s*=\s*["'](?!\$\{(env|file):)""")


def load(environment: str = "local", overrides: Sequence[str] = ()) -> Config:
    """Read the configuration.

    Args:
        environment: ``local``, ``docker``, ``databricks``, or the path of a YAML file.
        overrides: ``key=value`` texts with a dotted key (``models.0.uri`` for an entry of a list). The value of a text
            key is used literally, without enclosing quotes; ``null`` unsets a key that may be null. Every other value
            is YAML.

    Returns:
        The checked configuration.

    Raises:
        ConfigError: a file is missing, a key is unknown, or a value is wrong; the message names the key's path and the
            allowed values.
    """
    tree = _read_yaml(CONF_DIR / "base.yml")
    origin = _environment_file(environment)
    tree = _merge(tree, _read_yaml(origin))
    for override in overrides:
        _apply_override(tree, override)
    _refuse_plain_secrets(tree)
    state_dir = str(Path(_resolve(str(tree.get("state_dir")), "", "state_dir")).expanduser().resolve())
    try:
        return Config.model_validate(_resolve(tree, state_dir))
    except ValidationError as error:
        raise ConfigError(_explain(error, tree)) from None


def shown(config: Config) -> str:
    """Return the configuration as YAML with every secret masked."""
    tree = config.model_dump(mode="json")  # masks every SecretStr
    tree["kafka"]["options"] |= config.kafka.options_without_secrets()
    return yaml.safe_dump(_masked(tree), sort_keys=False, allow_unicode=True)


def as_override(key: str, value: str | list[str]) -> str:
    """Return an override for :func:`load` that sets a key to exactly this text, or to a list of texts.

    The text ``null`` unsets the key.
    """
    return f"{key}={value if value == 'null' else json.dumps(value, ensure_ascii=False)}"


def _environment_file(environment: str) -> Traversable:
    packaged = {entry.name.removesuffix(".yml"): entry for entry in CONF_DIR.iterdir() if entry.name.endswith(".yml")}
    names = sorted(packaged.keys() - {"base"})
    if environment in names:
        return packaged[environment]
    path = Path(environment)
    if path.is_file():
        return path
    raise ConfigError(
        f"--config {environment}: no such file; give the path of a YAML file, or one of {', '.join(names)}"
    )


def _read_yaml(path: Traversable) -> dict[str, Any]:
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{path}: not valid YAML{_place(error)}") from None
    if tree is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected keys with values, found {type(tree).__name__}")
    return tree


def _place(error: Exception) -> str:
    """Return the position of a YAML error, for a message; the error's own text may repeat a secret."""
    mark = error.problem_mark if isinstance(error, yaml.MarkedYAMLError) else None
    if mark is not None:
        return f" at line {mark.line + 1}, column {mark.column + 1}; a text with special characters needs quotes"
    if isinstance(error, yaml.YAMLError):
        return ": it has a control character, which YAML has only as an escape in double quotes"
    return ": a value looks like a date or a number, but is none; put it in quotes"


def _merge(base: Mapping[str, Any], override: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in override.items():
        old = merged.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def _apply_override(tree: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected key=value, for instance --set kafka.partitions=8")
    names = _split_key(key)
    value = _override_value(_type_of(names), text.strip())
    node: Any = tree
    *parents, last = names
    for position, name in enumerate(parents):
        node = _child(node, name, ".".join(parents[: position + 1]))
    if isinstance(node, list):
        node[_list_index(node, last, key)] = value
    elif isinstance(node, dict):
        node[last] = value
    else:  # the message omits the value, which may be a secret
        raise ConfigError(f"--set {key}: {'.'.join(parents)} holds a value, not keys")


def _override_value(kind: Any, text: str) -> Any:
    """Parse the text of an override for a key of the given type."""
    members = _members(kind)
    if members and all(map(_is_text, members)):
        if text in {"", "null"} and type(None) in get_args(kind):
            return None
        if text[:1] not in {"'", '"'}:
            return text
    try:
        value = yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):  # a ValueError for an invalid date such as 2026-02-30
        return text
    return value


def _type_of(names: Sequence[str | int]) -> Any:
    """Return the type of a key, section, list or mapping; None if there is no such key."""
    kind: Any = Config
    for name in names:
        if _is_section(kind):
            field = kind.model_fields.get(str(name))
            kind = None if field is None else field.annotation
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        elif get_origin(kind) is tuple:
            kind = get_args(kind)[0]
        else:
            return None
    return kind


def _is_section(kind: Any) -> bool:
    return isinstance(kind, type) and get_origin(kind) is None and issubclass(kind, BaseModel)


def _members(kind: Any) -> list[Any]:
    """Return the types that a value may have, without None."""
    kinds = get_args(kind) if get_origin(kind) in {Union, UnionType} else (kind,)
    bare = (get_args(each)[0] if get_origin(each) is Annotated else each for each in kinds)
    return [each for each in bare if each not in {None, type(None)}]


def _is_text(kind: Any) -> bool:
    """Return whether values of a type are written as text."""
    return kind in {str, Path, SecretStr} or get_origin(kind) is Literal


def _split_key(key: str) -> list[str]:
    """Split a dotted key; below ``kafka.options`` and the like the rest is one name that may contain dots."""
    for prefix in ("kafka.options.", "spark.conf.", "message.label_values."):
        if key.startswith(prefix):
            return [*prefix.rstrip(".").split("."), key.removeprefix(prefix)]
    return key.split(".")


def _child(node: Any, name: str, path: str) -> Any:
    if isinstance(node, list):
        return node[_list_index(node, name, path)]
    if not isinstance(node, dict) or name not in node:
        raise ConfigError(f"{path}: unknown key{_suggestion(name, node)}")
    return node[name]


def _list_index(node: list[Any], name: str, path: str) -> int:
    if name.isdigit() and int(name) < len(node):
        return int(name)
    raise ConfigError(f"{path}: expected an entry's number from 0 to {len(node) - 1}")


def _leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for key, value in node.items():
            yield from _leaves(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list):
        for position, value in enumerate(node):
            yield from _leaves(value, f"{path}.{position}")
    else:
        yield path, node


def _refuse_plain_secrets(tree: Mapping[str, Any]) -> None:
    for path, value in _leaves(tree):
        # A Spark setting cannot be a secret, and a label is not one.
        if value is None or not SECRET_KEY.search(path) or path.startswith(("spark.conf.", "message.label_values.")):
            continue
        if not _REFERENCE.search(str(value)) or _PLAIN_PASSWORD.search(str(value)):
            raise ConfigError(f"{path}: a secret in plain text is refused; write ${{env:NAME}} or ${{file:PATH}}")


def _resolve(node: Any, state_dir: str, path: str = "") -> Any:
    if isinstance(node, Mapping):
        return {key: _resolve(value, state_dir, f"{path}.{key}" if path else str(key)) for key, value in node.items()}
    if isinstance(node, list):
        return [_resolve(value, state_dir, f"{path}.{position}") for position, value in enumerate(node)]
    if isinstance(node, str):
        return _REFERENCE.sub(lambda match: _lookup(match, path), node.replace("{state_dir}", state_dir))
    return node


def _lookup(match: re.Match[str], path: str) -> str:
    kind, name = match.groups()
    if kind == "env":
        value = os.environ.get(name)
        if value is None:
            raise ConfigError(f"{path}: the environment variable {name} is not set")
        return value
    try:
        return Path(name).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise ConfigError(f"{path}: the file {name} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: the file {name} is not UTF-8") from None


def _masked(node: Any) -> Any:
    """Return a tree with the credentials of every URL masked."""
    if isinstance(node, Mapping):
        return {key: _masked(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_masked(value) for value in node]
    return mask_credentials(node) if isinstance(node, str) else node


def _explain(error: ValidationError, tree: Mapping[str, Any]) -> str:
    lines = []
    for fault in error.errors(include_url=False, include_input=False):
        path = ".".join(str(part) for part in fault["loc"]) or "configuration"
        if fault["type"] == "extra_forbidden":
            lines.append(f"{path}: unknown key{_suggestion(str(fault['loc'][-1]), _siblings(fault['loc']))}")
        else:
            message = fault["msg"].removeprefix("Value error, ")
            message = message[:1].lower() + message[1:]
            value = "" if SECRET_KEY.search(path) else _refused_value(tree, fault["loc"])
            hint = "; put it in quotes" if value and fault["type"] == "string_type" else ""
            lines.append(f"{path}: {message}{value}{hint}")
    return "\n".join(lines)


def _refused_value(tree: Mapping[str, Any], location: tuple[int | str, ...]) -> str:
    """Return the end of a message that repeats a refused value; empty for a section or a list."""
    node: Any = tree
    for part in location:
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return ""
    return "" if isinstance(node, dict | list) else f", found {node!r}"


def _siblings(location: tuple[int | str, ...]) -> dict[str, Any]:
    """Return the keys that the section of an unknown key has."""
    return dict(_type_of(location[:-1]).model_fields)


def _suggestion(name: str, known: Any) -> str:
    names = sorted(known) if isinstance(known, Mapping) else []
    close = difflib.get_close_matches(name, names, n=1)
    hint = f"; did you mean {close[0]}?" if close else "."
    return f"{hint} Allowed here: {', '.join(names)}" if names else hint

"""Check the row schema in a parquet footer, a text from which Spark constructs classes.

For ``{"type":"udt","class":…}`` Spark calls the constructor of any class on its class path when it reads the file
(``DataType.parseDataType``, called by ``ParquetFileFormat.readSchemaFromFooter``). ``EXISTS_DEFAULT`` in a field's
metadata is an SQL expression that some releases of Spark evaluate. So only the shapes that Spark ML writes are
accepted.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

ROW_METADATA: Final = "org.apache.spark.sql.parquet.row.metadata"
"""Footer key of the row schema."""

_LINALG: Final = "ml.linalg"
_USER_TYPES: Final = {
    f"org.apache.spark.{_LINALG}.{name}": f"pyspark.{_LINALG}.{name}" for name in ("VectorUDT", "MatrixUDT")
}
"""The allowed classes with their Python counterparts."""

_PLAIN = re.compile(
    r"null|boolean|byte|short|integer|long|float|double|string|binary|date|timestamp|timestamp_ntz"
    r"|decimal\(\d{1,2},-?\d{1,2}\)",
    re.ASCII,
)
_KEYS: Final = {
    "struct": {"type", "fields"},
    "array": {"type", "elementType", "containsNull"},
    "map": {"type", "keyType", "valueType", "valueContainsNull"},
    "udt": {"type", "class", "pyClass", "sqlType"},
}
_MAX_DEPTH: Final = 16


def require_safe(text: str) -> None:
    """Check that Spark would construct only its own vectors and matrices from a row schema.

    Raises:
        ValueError: another class or type occurs, or the text is not plain JSON; the message names the class, the type
            or the field.
    """
    if not text.startswith("{"):
        raise ValueError("the row schema is not a JSON object: the text form of Spark 1.2 is refused")
    _check(parse_json(text), "", 0)


def types(text: str) -> dict[str, str]:
    """Return the type of every column of a safe row schema, by the column's name with dots for structs.

    A list has the type ``array<…>``; any other complex type has the name of its kind.
    """
    found: dict[str, str] = {}

    def walk(data_type: Any, place: str) -> None:
        if isinstance(data_type, str):
            found[place] = data_type
        elif data_type["type"] == "struct":
            for field in data_type["fields"]:
                walk(field["type"], f"{place}.{field['name']}".lstrip("."))
        else:
            element = data_type.get("elementType")
            found[place] = f"array<{element}>" if isinstance(element, str) else data_type["type"]

    walk(json.loads(text), "")
    return found


def parse_json(text: str) -> Any:
    """Parse JSON strictly, so that every parser reads the same value.

    Raises:
        ValueError: the text is not JSON, an object has a duplicate name, or the nesting is too deep.
    """
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise ValueError("too deeply nested") from None


def _check(data_type: Any, place: str, depth: int) -> None:
    where = f"the type of {place!a}" if place else "the row schema"
    if isinstance(data_type, str) and _PLAIN.fullmatch(data_type):
        return
    if not isinstance(data_type, dict) or depth > _MAX_DEPTH:
        raise ValueError(f"{where} is {str(data_type)[:80]!a}, which Spark ML does not write")
    kind = data_type.get("type")
    if kind == "udt":
        _check_user_type(data_type, where)
    keys = _KEYS.get(kind) if isinstance(kind, str) else None
    if keys != data_type.keys():
        raise ValueError(f"{where} has the keys {', '.join(map(ascii, sorted(data_type)))[:200]}, not those of a type")
    for key in ("elementType", "keyType", "valueType", "sqlType"):
        if key in data_type:
            _check(data_type[key], place, depth + 1)
    for field in data_type.get("fields", ()):
        _check_field(field, place, depth)


def _check_field(field: Any, place: str, depth: int) -> None:
    is_field = isinstance(field, dict) and field.keys() == {"name", "type", "nullable", "metadata"}
    if not is_field or not isinstance(field["name"], str):
        raise ValueError(f"a field of {place or 'the row schema'} is not as Spark writes one")
    name = f"{place}.{field['name']}".lstrip(".")
    if field["metadata"] != {}:
        raise ValueError(
            f"the field {name[:80]!a} has metadata, {', '.join(map(ascii, field['metadata']))[:80]}: some releases of "
            "Spark evaluate those as SQL, and Spark ML writes none"
        )
    _check(field["type"], name, depth + 1)


def _check_user_type(data_type: dict[str, Any], where: str) -> None:
    if "serializedClass" in data_type:
        raise ValueError(f"{where} has a serializedClass, which is code")
    class_name, in_python = data_type.get("class"), data_type.get("pyClass")
    allowed = _USER_TYPES.get(class_name) if isinstance(class_name, str) else None
    if allowed is None or in_python not in {allowed, None}:
        named = class_name if allowed is None else in_python
        raise ValueError(
            f"{where} names the class {str(named)[:200]!a}, which Spark would construct. Allowed are only "
            f"{' and '.join(_USER_TYPES)}"
        )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Build an object with distinct names; parsers differ in which of two equal names they keep."""
    built = dict(pairs)
    if len(built) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!a} stands there twice")
    return built


def _no_constant(text: str) -> None:
    raise ValueError(f"{text} is not JSON")

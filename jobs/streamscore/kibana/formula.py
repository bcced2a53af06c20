"""Arithmetic on sums of fields, as a Lens formula and as ES|QL."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True)
class Sum:
    """The sum of a field over the documents of a group."""

    field: str


@dataclass(frozen=True)
class Call:
    """A function of two operands: ``left / right``, ``left - right``, or the maximum of both.

    The operands of a quotient or a difference are sums or maxima, so that no text needs brackets.
    """

    function: Literal["divide", "subtract", "pick_max"]
    left: Formula
    right: Formula


Formula = Sum | Call

_SIGNS: Final = {"divide": "/", "subtract": "-"}


def fields(formula: Formula) -> list[str]:
    """Return the summed fields, each once, in order."""
    return list(dict.fromkeys(each.field for each in sums(formula)))


def sums(formula: Formula) -> Iterator[Sum]:
    """Yield the sums of a formula from left to right, with repetitions."""
    if isinstance(formula, Sum):
        yield formula
        return
    yield from sums(formula.left)
    yield from sums(formula.right)


def lens(formula: Formula, kql: str = "") -> str:
    """Return a formula as the text that Lens shows; its sums are over the documents that match a KQL filter."""
    if isinstance(formula, Sum):
        return f"sum({formula.field}, kql='{kql}')" if kql else f"sum({formula.field})"
    left, right = lens(formula.left, kql), lens(formula.right, kql)
    if formula.function == "pick_max":
        return f"pick_max({left}, {right})"
    return f"{left} {_SIGNS[formula.function]} {right}"


def tree(formula: Call, columns: Iterator[str], kql: str, begin: int = 0) -> dict[str, Any]:
    """Return a formula as the syntax tree of Lens's parser.

    Args:
        formula: the formula.
        columns: the column of each sum, in the order of ``sums``.
        kql: filter of the documents.
        begin: offset of the formula's text in the whole text.
    """
    text, left = lens(formula, kql), lens(formula.left, kql)
    infix = formula.function in _SIGNS
    first = begin if infix else begin + len("pick_max(")
    second = first + len(left) + len(" - " if infix else ", ")
    parts: list[dict[str, Any] | str] = [
        tree(part, columns, kql, at) if isinstance(part, Call) else next(columns)
        for part, at in ((formula.left, first), (formula.right, second))
    ]
    location = {"min": begin, "max": begin + len(text)}
    return {"type": "function", "name": formula.function, "args": parts, "location": location, "text": text}


def esql(formula: Formula) -> str:
    """Return a formula in ES|QL, over columns of sums that are named like their fields; quotients are doubles."""
    if isinstance(formula, Sum):
        return formula.field
    left, right = esql(formula.left), esql(formula.right)
    if formula.function == "pick_max":
        return f"GREATEST({left}, {right})"
    if formula.function == "divide":
        return f"TO_DOUBLE({left}) / {right}"
    return f"{left} - {right}"

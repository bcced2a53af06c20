"""The table of ratios: on the terminal, and between two markers in docs/performance.md."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"

Row = Mapping[str, Any]


def machine() -> dict[str, Any]:
    """Return what the figures depend on."""
    import pyspark

    return {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "load": round(os.getloadavg()[2], 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "spark": pyspark.__version__,
    }


def line(row: Row) -> str:
    """Return a row as one line of text."""
    value = f"{number(row['value'])}{unit(row)} [{number(row['least'])} … {number(row['largest'])}]"
    rates = " : ".join(f"{rate:,.0f}/s" for rate in row["rates"])
    return f"  {row['title']:<78} {value:<28} {verdict(row):<16} {rates}"


def rows(result: Mapping[str, Any]) -> list[Row]:
    """Return the rows of all cases."""
    return [row for case in result["cases"].values() for row in case["rows"]]


def dates(result: Mapping[str, Any]) -> str:
    """Return the day of the cases, or the first and the last of several."""
    found = sorted({case["date"] for case in result["cases"].values()})
    return " to ".join(dict.fromkeys((found[0], found[-1])))


def as_text(result: Mapping[str, Any]) -> str:
    """Return the whole table as text, and what each side spent."""
    lines = [f"{result['scale']}, {dates(result)}, {_told(result['machine'])}", *map(line, rows(result))]
    if result["scale"] != "full":
        lines.insert(1, "  The floors are meant for the full scale: in this one the JVMs are hardly warm.")
    lines += ["", "CPU microseconds per event, by process:"]
    lines += [f"  {row['title']:<78} {' | '.join(map(spent, row['cpu']))}" for row in rows(result) if row["cpu"]]
    return "\n".join(lines)


def as_markdown(result: Mapping[str, Any]) -> str:
    """Return the whole table as Markdown."""
    lines = [
        f"Measured on {dates(result)} (`{result['scale']}`): {_told(result['machine'])}.",
        "",
        "| what | median | spread | floor | events/s | CPU µs per event |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows(result):
        cells = [
            row["title"],
            f"**{number(row['value'])}**{unit(row)}",
            f"{number(row['least'])} … {number(row['largest'])}",
            verdict(row) or "–",
            " : ".join(f"{rate:,.0f}" for rate in row["rates"]) or "–",
            " : ".join(map(spent, row["cpu"])) or "–",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write(document: Path, result: Mapping[str, Any]) -> None:
    """Put the table between the markers of a document."""
    before, rest = document.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    document.write_text(f"{before}{BEGIN}\n{as_markdown(result)}\n{END}{after}", encoding="utf-8")


def verdict(row: Row) -> str:
    """Return the floor, and whether it holds."""
    if row["floor"] is None:
        return ""
    bound = "≤" if row["at_most"] else "≥"
    return f"{bound} {row['floor']:g}{unit(row)} {'holds' if row['holds'] else 'MISSED'}"


def number(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def unit(row: Row) -> str:
    """Return the unit of a row, with the space before it."""
    return f" {row['unit']}" if row["unit"] else ""


def spent(cpu: Mapping[str, float]) -> str:
    """Return what the processes of a side spent."""
    return ", ".join(f"{name} {value:.1f}" for name, value in cpu.items() if value >= 0.05)


def _told(found: Mapping[str, Any]) -> str:
    parts: Sequence[str] = (
        f"{found['cores']} cores",
        f"{found['memory_gb']} GB",
        f"Spark {found['spark']}",
        f"Python {found['python']}",
        f"load average of the last 15 minutes {found['load']}",
    )
    return ", ".join(parts)

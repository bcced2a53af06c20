"""The table of ratios, and what it was measured with: on the terminal, and between markers in docs/performance.md."""

from __future__ import annotations

import os
import platform
import subprocess
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

BEGIN, END = "<!-- benchmark: begin -->", "<!-- benchmark: end -->"

MEASURED = ("jobs", "conf", "benchmarks", "requirements")
"""Folders that the figures depend on: documents and tests may change between two runs."""

Row = Mapping[str, Any]
Case = Mapping[str, Any]
"""The rows of a group of cases, with the date, commit, machine, rounds and load of their measurement."""


def machine() -> dict[str, Any]:
    """Return what the figures depend on, beside the code."""
    import pyspark

    return {
        "host": platform.node(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "system": platform.system(),
        "python": platform.python_version(),
        "spark": pyspark.__version__,
    }


def commit(root: Path) -> str:
    """Return the last commit that changed what is measured, with ``-dirty`` if there are changes since."""
    last = _git(root, "log", "-1", "--format=%h", "--abbrev=12", "--", *MEASURED)
    return last + ("-dirty" if _git(root, "status", "--porcelain", "--", *MEASURED) else "")


def load() -> float:
    """Return the load average of the last minute."""
    return round(os.getloadavg()[0], 1)


def origin(case: Case) -> tuple[Any, Any]:
    """Return what two cases must have in common to stand in one table."""
    return case.get("commit"), case.get("machine")


def line(row: Row) -> str:
    """Return a row as one line of text."""
    value = f"{number(row['value'])}{unit(row)} [{number(row['least'])} … {number(row['largest'])}]"
    rates = " : ".join(f"{rate:,.0f}/s" for rate in row["rates"])
    return f"  {row['title']:<78} {value:<28} {verdict(row):<16} {rates}"


def rows(result: Mapping[str, Any]) -> list[Row]:
    """Return the rows of all cases."""
    return [row for case in result["cases"].values() for row in case["rows"]]


def heading(result: Mapping[str, Any]) -> list[str]:
    """Return a sentence for each commit and machine that cases were measured with; of several it names the cases."""
    alike: dict[str, dict[str, Case]] = defaultdict(dict)
    for name, case in result["cases"].items():
        alike[repr(origin(case))][name] = case
    return [
        _told([*cases.values()], result["scale"] if len(alike) == 1 else f"{result['scale']}: {', '.join(cases)}")
        for cases in alike.values()
    ]


def as_text(result: Mapping[str, Any]) -> str:
    """Return the whole table as text, and what each side spent."""
    above = heading(result)
    if result["scale"] != "full":
        above.append("  The floors are meant for the full scale: in this one the JVMs are hardly warm.")
    lines = [*above, *map(line, rows(result))]
    lines += ["", "CPU microseconds per event, by process:"]
    lines += [f"  {row['title']:<78} {' | '.join(map(spent, row['cpu']))}" for row in rows(result) if row["cpu"]]
    return "\n".join(lines)


def as_markdown(result: Mapping[str, Any]) -> str:
    """Return the whole table as Markdown."""
    lines = [
        "\n\n".join(heading(result)),
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


def _told(cases: Sequence[Case], which: str) -> str:
    """Return when, of what and on what some cases of one origin were measured."""
    days = sorted({case["date"] for case in cases})
    before, after = zip(*(case["load"] for case in cases), strict=True)
    rounds = " or ".join(map(str, sorted({case["rounds"] for case in cases})))
    code, found = origin(cases[0])
    parts = (
        found["processor"],
        f"{found['cores']} cores",
        f"{found['memory_gb']} GB",
        f"Spark {found['spark']}",
        f"Python {found['python']}",
        f"load average (1 minute) {min(before)} to {max(before)} before a case, {min(after)} to {max(after)} after",
    )
    when = " to ".join(dict.fromkeys((days[0], days[-1])))
    return f"Measured on {when} at commit {code} ({which}; rounds: {rounds}): {', '.join(parts)}."


def _processor() -> str:
    """Return the name of the processor; Linux has it in a file, others tell."""
    names = Path("/proc/cpuinfo")
    lines = names.read_text(encoding="utf-8").splitlines() if names.exists() else []
    models = (text.partition(":")[2].strip() for text in lines if text.startswith("model name"))
    return next(models, platform.processor() or platform.machine())


def _git(root: Path, *words: str) -> str:
    answer = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)  # noqa: S607
    return answer.stdout.strip()

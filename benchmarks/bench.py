"""Measure streamscore against its peers on real servers, and print one table of ratios.

    make bench          everything
    make bench-quick    most of it in under five minutes, with less to go by

Servers, topics, indices and models are the benchmark's own, under .streamscore/bench. Nothing else should run on the
machine meanwhile. ``--write-doc`` puts the table and the plots of a result into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import plots
import report
from cases import FULL, GROUPS, QUICK, SMOKE, Bench
from figures import as_json
from servers import ROOT, TEST_BED, running
from streamscore.system.console import set_up_logging

CASES = [group.__name__ for group in GROUPS]
SCALES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}
QUICK_CASES = ["kafka", "both_sinks", "waiting", "kernels", "models"]
"""What a quick run measures: the others take long, or have nothing to compare with."""
DOCUMENT = ROOT / "docs" / "performance.md"


def main() -> None:
    """Read the command line, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument(
        "--only",
        metavar="CASE",
        nargs="+",
        choices=CASES,
        help=f"measure these and keep what the file has of the others: {', '.join(CASES)}",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help="how often each side runs and counts; full: 5")
    parser.add_argument("--json", type=Path, metavar="FILE", help="by default one per scale, below .streamscore/bench")
    parser.add_argument(
        "--write-doc", action="store_true", help="put the result in the file into docs, measure nothing"
    )
    parser.add_argument(
        "--merge", action="store_true", help="keep cases that the file has of another commit or machine too"
    )
    arguments = parser.parse_args()
    set_up_logging()
    file = arguments.json or TEST_BED / f"result-{arguments.scale}.json"
    if arguments.write_doc:
        result = json.loads(file.read_text(encoding="utf-8"))
        grow = result["cases"].pop("grow", None)  # it has plots and no rows
        report.write(DOCUMENT, result)
        if grow:
            (heading,) = report.heading(result | {"cases": {"grow": grow}})
            plots.write(DOCUMENT, result["growth"], heading)
        return
    cases = arguments.only or (QUICK_CASES if arguments.scale == "quick" else CASES)
    print(report.as_text(measured(arguments.scale, cases, file, rounds=arguments.rounds, merge=arguments.merge)))


def measured(
    scale: str, only: Sequence[str], file: Path, *, rounds: int | None = None, merge: bool = False
) -> dict[str, Any]:
    """Run cases and return the figures, with those that the file has of other cases; it is written after each case."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    origin = {"commit": report.commit(ROOT), "machine": report.machine()}
    result: dict[str, Any] = {"scale": scale, "cases": {}, "growth": {}}
    if file.exists() and (before := json.loads(file.read_text(encoding="utf-8")))["scale"] == scale:
        result["cases"] = kept(before["cases"], only, origin, file, merge=merge)
        if "grow" in result["cases"]:
            result["growth"] = before["growth"]
    file.parent.mkdir(parents=True, exist_ok=True)
    size = replace(SCALES[scale], rounds=rounds or SCALES[scale].rounds)
    with running() as bed:
        bench = Bench(bed, size)
        try:
            for group in (group for group in GROUPS if group.__name__ in only):
                begun, load = time.monotonic(), report.load()
                rows = as_json([*group(bench)])
                print(f"# {group.__name__}: {time.monotonic() - begun:.0f} s", flush=True)
                for row in rows:
                    print(report.line(row), flush=True)
                how = {"date": time.strftime("%Y-%m-%d"), "rounds": size.rounds, "load": [load, report.load()]}
                case = origin | how | {"rows": rows}
                known = result["cases"] | {group.__name__: case}
                result["cases"] = {name: known[name] for name in CASES if name in known}
                result["growth"] |= bench.growth
                file.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        finally:
            bench.close()
    return result


def kept(
    cases: Mapping[str, report.Case], only: Sequence[str], origin: report.Case, file: Path, *, merge: bool
) -> dict[str, report.Case]:
    """Return the cases that are kept; unless they may be merged, all must be of one commit and machine."""
    others = {name: case for name, case in cases.items() if name not in only}
    same = report.origin(origin)
    # A case of an earlier form of the file does not say what it was measured with.
    allowed = {name for name, case in others.items() if report.origin(case) == same or (merge and "rounds" in case)}
    if strange := others.keys() - allowed:
        raise SystemExit(
            f"{file} has {', '.join(sorted(strange))} of another commit or machine: measure them too, "
            "keep them with --merge, or name another file with --json"
        )
    return others


if __name__ == "__main__":
    main()

"""Measure streamscore against its peers on real servers, and print one table of ratios.

    make bench          everything
    make bench-quick    the same in a few minutes, with less to go by

Servers, topics, indices and models are the benchmark's own, under .streamscore/bench. Nothing else should run on the
machine meanwhile. ``--write-doc`` puts the table and the plots of a result into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import plots
import report
from cases import FULL, GROUPS, QUICK, SMOKE, Bench, as_json
from servers import ROOT, TEST_BED, running
from streamscore.console import set_up_logging

SCALES = {"full": FULL, "quick": QUICK, "smoke": SMOKE}
DOCUMENT = ROOT / "docs" / "performance.md"


def main() -> None:
    """Read the command line, measure, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--only", metavar="CASE", nargs="*", help=", ".join(group.__name__ for group in GROUPS))
    parser.add_argument("--json", type=Path, default=TEST_BED / "result.json", metavar="FILE")
    parser.add_argument(
        "--write-doc", action="store_true", help="put the result in the file into docs, measure nothing"
    )
    arguments = parser.parse_args()
    set_up_logging()
    if arguments.write_doc:
        result = json.loads(arguments.json.read_text(encoding="utf-8"))
        report.write(DOCUMENT, result)
        plots.write(DOCUMENT, result["growth"])
        return
    result = measured(arguments.scale, arguments.only)
    arguments.json.parent.mkdir(parents=True, exist_ok=True)
    arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(report.as_text(result))


def measured(scale: str, only: list[str] | None = None) -> dict[str, Any]:
    """Run the cases and return their figures."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    started = time.strftime("%Y-%m-%d")
    with running() as bed:
        bench = Bench(bed, SCALES[scale])
        try:
            for group in GROUPS:
                if not only or group.__name__ in only:
                    done, begun = len(bench.rows), time.monotonic()
                    group(bench)
                    print(f"# {group.__name__}: {time.monotonic() - begun:.0f} s", flush=True)
                    for row in as_json(bench.rows[done:]):
                        print(report.line(row), flush=True)
        finally:
            bench.close()
        return {
            "scale": scale,
            "date": started,
            "machine": report.machine(),
            "rows": as_json(bench.rows),
            "growth": bench.growth,
        }


if __name__ == "__main__":
    main()

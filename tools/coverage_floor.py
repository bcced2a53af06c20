"""Say which files the last `make test` has covered too little.

``make coverage`` calls this, and so does ``make test`` in CI. Elsewhere tests may be skipped, such as a browser's.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

REPORT = Path(__file__).parents[1] / ".coverage" / "report.json"
FLOOR = 85
REASONS: dict[str, str] = {}
"""Files that may be below the floor, each with the reason: {"jobs/streamscore/x.py": "only runs on …"}."""


def main() -> None:
    """Exit with code 1 if a file is below the floor without a reason, or if a reason is not needed."""
    try:
        report = json.loads(REPORT.read_text(encoding="utf-8"))
    except FileNotFoundError:
        sys.exit(f"{REPORT} is missing: `make test` writes it")
    covered = {name: float(file["summary"]["percent_covered"]) for name, file in report["files"].items()}
    below = {name: percent for name, percent in covered.items() if percent < FLOOR}
    problems = [
        f"{name}: {percent:.0f} % of its lines are covered, less than {FLOOR} %; add a test, or a reason here"
        for name, percent in sorted(below.items())
        if name not in REASONS
    ]
    problems += [f"{name}: is not below {FLOOR} %, so its reason can go" for name in sorted(REASONS.keys() - below)]
    if problems and os.environ.get("CI") != "true":
        problems.append("If the run has skipped tests, these may cover it: see the last lines of `make test`")
    if problems:
        sys.exit("\n".join(problems))


if __name__ == "__main__":
    main()

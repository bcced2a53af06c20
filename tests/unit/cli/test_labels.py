"""What ``streamscore labels`` prints."""

import io

from rich.console import Console

from streamscore.cli import labels
from streamscore.cli.labels import Coverage, State
from streamscore.schema import LABEL_COUNTS

STATE = State(
    dict(zip(LABEL_COUNTS, (1_234, 1_000, 100, 50, 40, 30, 14, 7), strict=True)),
    [Coverage("lr", "3", 2_000, 1_500), Coverage("svm", "[1]", 0, 0)],
    {50: 1_500.0, 90: 5_400_000.0, 99: None},
)


def test_tables_show_counts_coverage_and_lag():
    """Versions are shown as they are, what is undefined as a dash, times in their own units."""
    console = Console(file=io.StringIO(), width=100)
    for table in labels.tables(STATE):
        console.print(table)
    shown = console.file.getvalue()

    assert ["received", "1,234"] in [line.split() for line in shown.splitlines()]
    assert ["lr", "3", "2,000", "1,500", "75.00%"] in [line.split() for line in shown.splitlines()]
    assert ["svm", "[1]", "0", "0", "–"] in [line.split() for line in shown.splitlines()]
    assert ["1.5", "s", "1.5", "h", "–"] in [line.split() for line in shown.splitlines()]


def test_json_has_the_same_numbers():
    """Undefined figures are null."""
    document = labels.as_json(STATE, "24h")

    assert document["counts"]["received"] == sum(document["counts"][name] for name in LABEL_COUNTS[1:-1])
    assert [each["coverage"] for each in document["models"]] == [0.75, None]
    assert document["lag_ms"] == {"p50": 1_500.0, "p90": 5_400_000.0, "p99": None}
    assert document["range"] == "24h"

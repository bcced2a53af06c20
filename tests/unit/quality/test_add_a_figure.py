"""docs/add-a-figure.md: who follows it sees the figure on the page, in the report, on the terminal and in JSON."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

PROGRAM = """
from streamscore.cli.figures import Version, as_json, tables
from streamscore.dashboard import markup
from streamscore.dashboard.figures import ModelFigures
from streamscore.listeners.totals import Totals
from streamscore.quality.evaluation import evaluate
from streamscore.quality.statistic import Statistic
from streamscore.scoring.served import ServedModel
from rich.console import Console

model = ModelFigures("lr", 10, {(0.0, 0.0): 6, (1.0, 0.0): 2})
for figure in markup.kpi_accuracies([model], {"lr": "red"}):
    print(figure.key, figure.name, figure.text)
totals = Totals([ServedModel("lr", "1", None, 2)], False)
statistic = Statistic("margin", 10, confusion=model.confusion)
totals.of_version["lr", "1"] = statistic
Console(width=150).print(totals.table())
version = Version("lr", "1", evaluate(statistic))
Console(width=150).print(*tables([version], 150))
print(as_json([version], "1h")["models"][0]["figures"]["error_rate"])
"""


def edit(path, old, new):
    """Replace a text that a file has once."""
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new), encoding="utf-8")


def test_page_adds_a_figure(root, tmp_path):
    """In a copy of the package, with the page's own code, in no other files than it names."""
    page = (root / "docs" / "add-a-figure.md").read_text(encoding="utf-8")
    named = re.findall(r"^\d\. `jobs/(.*?)`", page, re.MULTILINE)
    blocks = [textwrap.dedent(block) for block in re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)]
    shutil.copytree(root / "jobs" / "streamscore", tmp_path / "streamscore", ignore=shutil.ignore_patterns("*.lock"))
    function, entry, terminal, key_figure = blocks
    figures, evaluation, totals, markup = (tmp_path / name for name in named)
    figures.write_text(f"{figures.read_text(encoding='utf-8')}\n\n{function}", encoding="utf-8")
    last = '    "baseline": Definition('
    edit(evaluation, last, f"    {entry}{last}")
    edit(totals, 'SHOWN: Final = ("accuracy", "auc", "rig", "log_loss")\n', terminal)
    start = markup.read_text(encoding="utf-8").index("def kpi_accuracies")
    end = markup.read_text(encoding="utf-8").index("    ]\n", start)
    text = markup.read_text(encoding="utf-8")
    accuracies = text[start:end].replace("        KeyFigure(", "        *(KeyFigure(", 1).rstrip() + "),\n"
    markup.write_text(f"{text[:start]}{accuracies}{textwrap.indent(key_figure, '        ')}{text[end:]}", "utf-8")

    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert shown.returncode == 0, shown.stderr
    assert len(named) <= 4
    assert "accuracy-lr accuracy of lr 75.0" in shown.stdout
    assert "error-rate-lr error rate of lr 25.0" in shown.stdout
    assert re.search(r"log loss +error rate", shown.stdout)
    assert re.search(r"^ lr 1 .* 0\.2500 ", shown.stdout, re.MULTILINE)
    assert re.search(r"^error rate +0\.2500 \[0\.0\d+, 0\.5\d+\] wide", shown.stdout, re.MULTILINE)
    assert "{'value': 0.25, 'low': 0.0" in shown.stdout

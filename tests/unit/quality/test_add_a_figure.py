"""docs/add-a-figure.md: the added figure appears on the page, in the report and on the terminal."""

import os
import re
import shutil
import subprocess
import sys
import textwrap

PROGRAM = """
from streamscore.dashboard import markup
from streamscore.dashboard.figures import SHOWN, ModelFigures
from streamscore.listeners.totals import Totals
from streamscore.quality.statistic import Statistic
from streamscore.scoring.served import ServedModel
from rich.console import Console

statistic = Statistic("probability", 10, confusion={(0.0, 0.0): 6, (1.0, 0.0): 2})
print([markup.row(ModelFigures("lr", statistic), key) for key in SHOWN])
totals = Totals([ServedModel("lr", "1", None, 2)], False)
totals.of_version["lr", "1"] = statistic
print(totals.of_model("lr", "1"))
Console(width=150).print(totals.table())
"""


def replace(path, pattern, text):
    """Replace a pattern that occurs once in a file."""
    changed, times = re.subn(pattern, lambda _: text, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert times == 1, (path, pattern)
    path.write_text(changed, encoding="utf-8")


def test_page_adds_a_figure(root, tmp_path):
    """In a copy of the package the page's own code adds a figure, and changes only the files that it names."""
    page = (root / "docs" / "add-a-figure.md").read_text(encoding="utf-8")
    named = re.findall(r"^\d\. `jobs/(.*?)`", page, re.MULTILINE)
    blocks = [textwrap.dedent(block) for block in re.findall(r"```(?:python|text)\n(.*?)```", page, re.DOTALL)]
    shutil.copytree(root / "jobs" / "streamscore", tmp_path / "streamscore", ignore=shutil.ignore_patterns("*.lock"))
    function, entry, on_page, on_terminal = blocks
    figures, evaluation, page_figures, totals = (tmp_path / name for name in named)
    figures.write_text(f"{figures.read_text(encoding='utf-8')}\n\n{function}", encoding="utf-8")
    first = "FIGURES: Final[Mapping[str, Definition]] = {\n"
    replace(evaluation, re.escape(first), f"{first}    {entry}")
    for path, line in ((page_figures, on_page), (totals, on_terminal)):
        replace(path, r"^SHOWN: Final = .*\n", line)

    shown = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert shown.returncode == 0, shown.stderr
    assert len(named) <= 4
    assert "name='error rate', value=0.25, text='25.00%', interval='7.15 – 59.07'" in shown.stdout
    assert "'error_rate': {'value': 0.25, " in shown.stdout
    assert re.search(r"accuracy .*error rate .*ROC AUC", shown.stdout)
    assert re.search(r"75\.00% .*25\.00%", shown.stdout)

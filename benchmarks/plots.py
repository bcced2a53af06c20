"""Plots of cost against size, as small SVG files without any library."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 420, 240, 46, 44, 34


BEGIN, END = "<!-- plots: begin -->", "<!-- plots: end -->"


def write(document: Path, growth: Mapping[str, Mapping[str, Any]], heading: str) -> None:
    """Draw one file per thing that grows and name them, below a heading, between the markers of a document."""
    names = {what: "images/cost-by-" + what.replace(" ", "-") + ".svg" for what in growth}
    for what, name in names.items():
        (document.parent / name).write_text(drawn(what, **growth[what]), encoding="utf-8")
    before, rest = document.read_text(encoding="utf-8").split(BEGIN)
    shown = "\n".join(f"![{what}]({name})" for what, name in names.items())
    document.write_text(f"{before}{BEGIN}\n{heading}\n\n{shown}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def drawn(what: str, process: str, cost: Mapping[str, float]) -> str:
    """Draw CPU microseconds per event (from 0 upwards) over sizes at equal distances."""
    top = max(cost.values()) * 1.1
    step = (WIDTH - LEFT - 30) / max(1, len(cost) - 1)
    places = [
        (LEFT + 10 + number * step, HEIGHT - BOTTOM - value / top * (HEIGHT - BOTTOM - TOP), size, value)
        for number, (size, value) in enumerate(cost.items())
    ]
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _, _ in places)
    marks = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="#2563a8"/>'
        f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="middle">{value:.1f}</text>'
        f'<text x="{x:.1f}" y="{HEIGHT - BOTTOM + 16}" text-anchor="middle">{int(size):,}</text>'
        for x, y, size, value in places
    )
    base = HEIGHT - BOTTOM
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        'font-family="sans-serif" font-size="11" fill="#333">'
        f"<title>CPU microseconds per event against {what}</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>'
        f'<text x="{LEFT}" y="16" font-weight="bold">CPU µs per event, {process}</text>'
        f'<line x1="{LEFT}" y1="{base}" x2="{WIDTH - 10}" y2="{base}" stroke="#999"/>'
        f'<text x="{(LEFT + WIDTH) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{what}</text>'
        f'<polyline points="{path}" fill="none" stroke="#2563a8" stroke-width="2"/>{marks}</svg>\n'
    )

"""The colours of the page and of the report, each for a light and for a dark background.

The outcomes differ in lightness as well as in hue, for people who cannot distinguish red from green.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

Theme = Literal["light", "dark"]


class Colour(NamedTuple):
    """A colour on a light and on a dark background."""

    light: str
    dark: str


OUTCOMES: Final = {
    "correct": Colour("#0b8f7f", "#2fc4b0"),
    "incorrect": Colour("#ef7b4d", "#ff9466"),
    "unlabelled": Colour("#c3cad3", "#4b5562"),
}
BASELINE: Final = Colour("#7a8592", "#98a4b3")
MODELS: Final = (
    Colour("#3f57d4", "#8b9eff"),
    Colour("#b5790a", "#f0b741"),
    Colour("#a83d97", "#ec8bdb"),
    Colour("#1686bf", "#5cc3f5"),
    Colour("#5c8310", "#a9d053"),
    Colour("#8b5a3c", "#d3a483"),
)
"""Colours of the models, in order; further models reuse them."""

_SURFACES: Final = {
    "ink": Colour("#1c2430", "#f0f2f4"),
    "muted": Colour("#5d6876", "#a6aeb8"),
    "line": Colour("#dfe3e8", "#3a3d42"),
    "paper": Colour("#ffffff", "#171819"),
    "good": Colour("#08705f", "#4fd6bd"),
    "bad": Colour("#b8431b", "#ff9c73"),
    "warn": Colour("#8a5a00", "#ffc861"),
    "warn-back": Colour("#fff3d6", "#3a2d10"),
    "baseline": BASELINE,
}


def of_models(names: Sequence[str]) -> dict[str, Colour]:
    """Return the colour of each model, by its position."""
    return {name: MODELS[position % len(MODELS)] for position, name in enumerate(names)}


def plain_colours(theme: Theme) -> dict[str, str]:
    """Return the colours of a theme by the names of their variables."""
    return {name: colour.light if theme == "light" else colour.dark for name, colour in _named().items()}


def stylesheet() -> str:
    """Return the CSS of the page and of the report: the colours as variables, and the rules."""
    colours = _named()
    plain = "".join(f"--{name}:{colour.light};" for name, colour in colours.items())
    paired = "".join(f"--{name}:light-dark({colour.light},{colour.dark});" for name, colour in colours.items())
    rules = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")
    # Old browsers without light-dark() get the light colours.
    return f":root{{{plain}}}@supports (color:light-dark(#000,#fff)){{:root{{{paired}}}}}\n{rules}"


def _named() -> dict[str, Colour]:
    return {**_SURFACES, **OUTCOMES, **{f"model-{position}": colour for position, colour in enumerate(MODELS)}}

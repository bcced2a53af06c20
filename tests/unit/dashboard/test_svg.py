"""The charts of the report."""

import base64
import re
from datetime import timezone
from xml.etree import ElementTree as ET

import pytest

from streamscore.dashboard import svg
from streamscore.dashboard.figures import ModelFigures
from streamscore.dashboard.palette import MODELS
from streamscore.quality.statistic import EMPTY, Statistic
from streamscore.quality.windows import DAY, MINUTE, SECOND


def drawn(html):
    """Parse the first drawing, which must be well-formed."""
    return ET.fromstring(re.search(r"<svg.*?</svg>", html, re.DOTALL).group())  # noqa: S314 (our own drawing)


def test_ring_is_shared_out_among_the_outcomes():
    """Each arc starts at the end of the previous one."""
    arcs = drawn(svg.donut(ModelFigures("lr", Statistic(None, 10, confusion={(0.0, 0.0): 6, (0.0, 1.0): 2})))).findall(
        "circle"
    )

    assert [arc.get("stroke-dasharray") for arc in arcs] == ["60.000 100", "20.000 100", "20.000 100"]
    assert [float(arc.get("stroke-dashoffset")) for arc in arcs] == [0, -60, -80]


def test_ring_without_events_is_empty():
    """A donut without events is empty, with a dash as accuracy."""
    assert "–" in svg.donut(ModelFigures("lr", EMPTY))


def test_line_goes_from_corner_to_corner():
    """A rising line goes from the bottom left to the top right."""
    axis = svg.linear(0.0, 1.0, ".0%")
    picture = drawn(svg.plot([svg.Line("x", [(0.0, 0.0), (1.0, 1.0)], "red")], axis, axis, label="x", size=(500, 300)))
    path = picture.find("path[@class='ss-line']").get("d")

    assert path == f"M{svg.LEFT}.0 276.0L{500 - svg.RIGHT}.0 {svg.TOP}.0"


def test_line_has_a_gap_where_nothing_is_known():
    """A line has a gap at unknown values."""
    points = [(0.0, 1.0), (1.0, None), (2.0, 1.0), (3.0, 0.5)]
    axis = svg.linear(0.0, 3.0, ".0f")
    picture = drawn(svg.plot([svg.Line("x", points, "red", dots=True)], axis, axis, label="x"))

    assert len(picture.findall("path[@class='ss-line']")) == 2
    assert len(picture.findall("circle")) == 3


def test_band_has_a_gap_where_nothing_is_known():
    """A band has a gap at unknown values, and bars go from the lower to the upper end."""
    axis = svg.linear(0.0, 3.0, ".0f")
    band = [(0.0, 1.0, 2.0), (1.0, 1.0, 3.0), (2.0, None, None), (3.0, 0.0, 1.0)]
    line = svg.Line("x", [(0.0, 1.5)], "red", band=band, bars=[(1.0, 0.0, 3.0)])
    picture = drawn(svg.plot([line], axis, axis, label="x", size=(500, 300)))
    areas = [path.get("d") for path in picture.findall("path[@opacity='.16']")]
    (bar,) = [path.get("d") for path in picture.findall("path[@opacity='.55']")]

    assert [area.count(" ") for area in areas] == [4, 2]
    assert bar == f"M190.0 276.0V{svg.TOP}.0"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_image_has_the_colours_of_its_theme(theme):
    """An image has fixed colours instead of the page's variables, and a description."""
    axis = svg.linear(0.0, 1.0, ".0%")
    line = svg.Line("lr", [(0.0, 0.0), (1.0, 1.0)], "var(--model-0)")
    html = svg.as_images(svg.plot([line], axis, axis, label="the <curve>"), theme)
    plot, legend = (base64.b64decode(part).decode() for part in re.findall(r"base64,([^\"]*)", html))

    assert "<svg" not in html
    assert 'alt="the &lt;curve&gt;"' in html
    for picture in (plot, legend):
        ET.fromstring(picture)  # noqa: S314 (our own drawing)
        assert "var(" not in picture
        assert getattr(MODELS[0], theme) in picture


def test_names_are_escaped():
    """Untrusted names are escaped."""
    axis = svg.linear(0.0, 1.0, ".0f")
    html = svg.plot([svg.Line("<b>", [(0.0, 0.0)], "red")], axis, axis, label='"<i>', marks=[("<u>", 0.5)])

    assert not re.search("<[biu]>", html)


@pytest.mark.parametrize(
    ("low", "high", "form", "texts"),
    [
        (0.0, 1.0, ".0%", ["0%", "20%", "40%", "60%", "80%", "100%"]),
        (0.7, 0.85, ".0%", ["70%", "75%", "80%", "85%"]),
        (0.0, 5_300.0, ",.0f", ["0", "1,000", "2,000", "3,000", "4,000", "5,000"]),
        (0.0, 0.5, ",.10g", ["0", "0.1", "0.2", "0.3", "0.4", "0.5"]),
        (0.0, 2_000_000.0, ",.10g", ["0", "500,000", "1,000,000", "1,500,000", "2,000,000"]),
        (3.0, 3.0, ".0f", ["3"]),
    ],
)
def test_marks_are_at_round_numbers(low, high, form, texts):
    """An axis has a few ticks at round numbers."""
    assert [text for _, text in svg.linear(low, high, form).ticks] == texts


@pytest.mark.parametrize(
    ("length", "texts"),
    [
        (20 * SECOND, ["10:00:00", "10:00:05", "10:00:10", "10:00:15", "10:00:20"]),
        (4 * MINUTE, ["10:00", "10:01", "10:02", "10:03", "10:04"]),
        (2 * DAY, ["24 Nov 12:00", "25 Nov 00:00", "25 Nov 12:00", "26 Nov 00:00"]),
        (3 * DAY, ["25 Nov", "26 Nov", "27 Nov"]),
    ],
)
def test_times_are_round_too(length, texts):
    """A time axis has ticks at round seconds, minutes or days, by its length."""
    start = 1_795_514_400_000

    assert [text for _, text in svg.clock(start, start + length, timezone.utc, most=5).ticks] == texts

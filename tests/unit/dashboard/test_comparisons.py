"""The cards of comparisons: which pairs are shown, and how their differences came about."""

from datetime import timezone

import pytest

from streamscore.clients.comparison_reader import Compared, current
from streamscore.dashboard import curves, markup
from streamscore.dashboard.comparisons import cards
from streamscore.quality import paired
from streamscore.quality.comparison import NONE, Comparison, Pair
from streamscore.quality.pairs import PairStatistic
from streamscore.quality.windows import Window

LABELS = {0.0: 700, 1.0: 300}
START = 1_795_514_400_000
SHOWN = Window(START, 60_000, whole=False, seconds=10)
CHAMPION_WINS = PairStatistic(20_000, 888, 1_240, LABELS, 14_628)


def compared(sums=CHAMPION_WINS, pair=("lr", "1", "svm", "1"), last=START + 590_000):
    """Return the comparison of a pair after one look."""
    return Compared("ml", Pair(*pair), last, NONE.after(sums, 0.05), "models:/lr/1", "models:/svm/1")


def test_course_begins_with_the_events_before_the_range():
    """The points are of all events up to each bucket; the last one is the comparison itself."""
    buckets = [(START + 60_000 * number, PairStatistic(1_000, 40, 60)) for number in range(10)]
    each = compared()
    (card,) = cards([each], {("ml", each.pair.id): buckets}, SHOWN)
    first = paired.accuracy_difference(PairStatistic(11_000, 888 - 360, 1_240 - 540))

    assert [point.at for point in card.course] == [at for at, _ in buckets]
    assert card.course[0][1:] == pytest.approx((100 * first.value, 100 * first.low, 100 * first.high))
    assert card.course[-1].value == pytest.approx(-1.76)
    widths = [point.high - point.low for point in card.course]
    assert widths == sorted(widths, reverse=True)


def test_pair_without_events_in_the_range_has_no_card():
    """A pair is shown if its last window ends in the range."""
    assert cards([compared(last=START - 10_000)], {}, SHOWN) == ()
    (card,) = cards([compared(last=START - 9_999)], {}, SHOWN)
    assert card.course == ()


def test_latest_pair_of_two_models_is_the_current_one():
    """A pair is replaced by that of another version, also after champion and challenger changed places."""
    latest = compared(pair=("svm", "2", "lr", "1"))
    other = compared(pair=("svm", "2", "gbt", "1"))
    found = [latest, other, compared(pair=("lr", "1", "svm", "2")), compared(pair=("lr", "1", "svm", "1"))]

    assert current(found) == [latest, other]


@pytest.mark.parametrize(
    ("sums", "tone", "words"),
    [
        (CHAMPION_WINS, "ss-below", "worse"),
        (PairStatistic(20_000, 1_240, 888, LABELS, 14_628), "ss-above", "better"),
        (PairStatistic(20_000, 100, 100, LABELS, 14_628), "ss-muted", "equal within 0.5 points"),
        (PairStatistic(2_000, 100, 104, LABELS, 1_462), "ss-muted", "no verdict yet"),
    ],
)
def test_card_says_the_verdict_and_colours_only_a_clear_one(sums, tone, words):
    """The card has the counts, the difference with its interval, and the verdict in words."""
    html = markup.comparison(compared(sums), 0.005, 20)

    assert f'<span class="{tone}">{words}</span>' in html
    assert f"<td>only svm right</td><td>{sums.only_challenger:,}</td>" in html
    assert f"<td>only lr right</td><td>{sums.only_champion:,}</td>" in html


def test_card_with_too_few_labels_shows_no_figure():
    """Below the fewest labelled events there is no difference."""
    html = markup.comparison(compared(PairStatistic(10, 3, 1, LABELS, 5)), 0.005, 20)

    assert "difference, points" not in html
    assert "<td>events with a label</td><td>10</td>" in html


def test_names_of_models_and_topics_are_escaped():
    """A version may have any characters."""
    html = markup.comparison(compared(pair=("lr", "<b>", "svm", "&")), 0.005, 20)

    assert "<b>" not in html
    assert "&lt;b&gt;" in html


def test_chart_needs_two_points_and_cuts_off_the_wide_beginning():
    """The chart shows the zero line and the band, whose first part is wider than the axis."""
    each = compared()
    buckets = [(START + 60_000 * number, PairStatistic(2_000, 88, 124)) for number in range(10)]
    (card,) = cards([each], {("ml", each.pair.id): buckets}, SHOWN)
    (single,) = cards([each], {("ml", each.pair.id): buckets[:1]}, SHOWN)
    chart = curves.difference_over_time(card, {"svm": "red"}, timezone.utc)

    assert curves.difference_over_time(single, {}, timezone.utc) is None
    assert "no difference" in chart
    assert 'opacity=".16"' in chart
    assert "nan" not in chart


def test_comparison_without_events_has_no_result():
    """Nothing is concluded from nothing."""
    assert Comparison().result() is None
    assert Comparison().difference is None
    assert Comparison().events_needed is None

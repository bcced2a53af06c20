"""How long labels are awaited: which stretches of time count already, and what labels that never came mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from streamscore.quality import absent, figures
from streamscore.quality.statistic import Statistic

_Key = TypeVar("_Key")


@dataclass(frozen=True)
class Attribution:
    """The rules for labels that arrive later than their events.

    As long as most labels of a minute are missing, its figures are those of the labels that come first: with clicks
    that come at once and non-clicks that are known after an hour, the last hour would look like clicks only.
    """

    window: int | None = None
    """Milliseconds for which a label may come after its event; None: all stretches count at once."""
    min_coverage: float = 0.0
    """Share of a stretch's events that must have a label for it to count before the window has passed."""
    absent_is_negative: bool = False
    """Whether a label that has not come within the window stands for class 0."""

    def counted(self, statistics: Mapping[_Key, Statistic], end: int, now: int) -> dict[_Key, Statistic] | None:
        """Return the statistics of a stretch of time as they count; None while too many of its labels are awaited.

        Args:
            statistics: all statistics of one topic in the stretch, for instance by model and version.
            end: end of the stretch, in epoch milliseconds.
            now: the current time, in epoch milliseconds.
        """
        if self.window is None:
            return dict(statistics)
        if end + self.window <= now:
            of = absent.as_negatives if self.absent_is_negative else _same
            return {key: of(statistic) for key, statistic in statistics.items()}
        scored = sum(statistic.scored for statistic in statistics.values())
        labelled = sum(statistic.labelled for statistic in statistics.values())
        covered = figures.coverage(labelled, scored)
        return None if covered is None or covered < self.min_coverage else dict(statistics)


AT_ONCE: Final = Attribution()
"""All labels that are there count at once."""


def _same(statistic: Statistic) -> Statistic:
    return statistic

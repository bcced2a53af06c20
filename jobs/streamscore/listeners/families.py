"""Metrics in Prometheus' shape."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prometheus_client.core import Metric


def family(
    kind: Any, name: str, help_text: str, labels: Sequence[str], samples: Iterable[tuple[Sequence[str], float]]
) -> Metric:
    """Return a metric with one sample per combination of labels.

    Args:
        kind: the class of ``prometheus_client.core`` for the metric's type.
        name: its name; that of a counter without ``_total``.
        help_text: what it is.
        labels: names of the labels.
        samples: values of the labels, and the number.
    """
    made: Metric = kind(name, help_text, labels=labels)
    for values, number in samples:
        made.add_metric(values, number)  # type: ignore[attr-defined]  # all families have it, their base has not
    return made


@dataclass(frozen=True)
class Histogram:
    """How many values are in which bucket; never changed."""

    bounds: tuple[float, ...]
    """Upper bounds of the buckets; one more has no bound."""
    counts: tuple[int, ...] = ()
    sum: float = 0.0

    def plus(self, values: Mapping[float, int], total: float) -> Histogram:
        """Return the histogram with more values.

        Args:
            values: how often each occurs.
            total: their sum.
        """
        counts = list(self.counts) or [0] * (len(self.bounds) + 1)
        for value, times in values.items():
            counts[bisect_left(self.bounds, value)] += times
        return Histogram(self.bounds, tuple(counts), self.sum + total)

    def family(self, name: str, help_text: str) -> Metric:
        """Return the metric.

        Args:
            name: its name.
            help_text: what it is.
        """
        from prometheus_client.core import HistogramMetricFamily

        counts = self.counts or (0,) * (len(self.bounds) + 1)
        pairs = zip((*self.bounds, "+Inf"), accumulate(counts), strict=True)
        buckets = [(str(bound), number) for bound, number in pairs]
        return HistogramMetricFamily(name, help_text, buckets=buckets, sum_value=self.sum)

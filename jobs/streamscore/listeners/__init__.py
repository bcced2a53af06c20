"""The listeners of committed batches, one module each; this module lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from streamscore.config import Config
from streamscore.listeners.base import BatchListener
from streamscore.listeners.label_field import LabelField
from streamscore.listeners.label_metrics import LabelMetrics
from streamscore.listeners.label_totals import LabelTotals
from streamscore.listeners.lag_group import LagGroup
from streamscore.listeners.metrics import MetricsEndpoint
from streamscore.listeners.rejected_share import RejectedShare
from streamscore.listeners.status import StatusDocuments
from streamscore.listeners.stretch import StretchProgress
from streamscore.listeners.terminal import LogLines, Terminal, Watcher
from streamscore.listeners.totals import Totals
from streamscore.system.console import terminal


def configured(config: Config, totals: Totals, watch: Callable[[Totals], None] | None) -> list[BatchListener]:
    """Return the listeners of the scoring job; the totals come first, because the others show them.

    Args:
        config: the configuration.
        totals: the running totals of the job.
        watch: a caller's function that receives the totals, instead of the terminal and the log.
    """
    console = terminal()
    eyes: BatchListener
    if watch is not None:
        eyes = Watcher(totals, watch)
    elif console is not None:
        eyes = Terminal(totals, console)
    else:
        eyes = LogLines(totals, config.stream.report_seconds)
    status = [StatusDocuments(config, totals)] if config.elasticsearch.enabled else []
    share = RejectedShare(config.stream, config.kafka.topics.rejected)
    label = LabelField(config.message, config.kafka, totals)
    metrics = [MetricsEndpoint(config, totals)] if config.metrics.port is not None else []
    group = config.kafka.lag_group_name
    lag = [LagGroup(config.kafka, group)] if group is not None else []
    return [totals, *metrics, *status, *lag, share, label, eyes]


def of_labels(config: Config, totals: LabelTotals) -> list[BatchListener]:
    """Return the listeners of the job that joins late labels; the totals come first, because the metrics show them.

    Args:
        config: the configuration.
        totals: the running totals of the job.
    """
    metrics = [LabelMetrics(config, totals)] if config.metrics.labels_port is not None else []
    group = config.kafka.lag_group_of(config.kafka.topics.labels)
    lag = [LagGroup(config.kafka, group)] if group is not None else []
    return [totals, *metrics, *lag]


def of_replay(
    config: Config, totals: Totals, records: int, watch: Callable[[Totals], None] | None
) -> list[BatchListener]:
    """Return the listeners of a replay; the totals come first, because the others show them.

    Args:
        config: the configuration of the replay, with indices of its own.
        totals: the running totals of the job.
        records: number of records that are still to be scored.
        watch: a caller's function that receives the totals, instead of the terminal and the log.
    """
    eyes = Watcher(totals, watch) if watch else StretchProgress(totals, records, config.stream.report_seconds)
    return [totals, StatusDocuments(config, totals), eyes]


@contextmanager
def opened(listeners: Sequence[BatchListener]) -> Iterator[Sequence[BatchListener]]:
    """Open listeners, and close all of them however the job ends."""
    with ExitStack() as stack:
        for listener in listeners:
            listener.open()
            stack.callback(listener.close)
        yield listeners

"""The contract of a sink: how a running query writes its batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from streamscore.config import Config

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession
    from typing_extensions import Self

    from streamscore.scoring.served import ServedModel


@dataclass(frozen=True)
class Replay:
    """Batches that an earlier run may have written before, in part or in whole."""

    last_batch: int
    since: int
    """Time before which none of the batches was written, in epoch milliseconds."""
    begins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Ends of the sink's outputs before the checkpoint's first write, as ``Sink.ends`` returned them."""


@dataclass(frozen=True)
class Batch:
    """The batch that is being written."""

    number: int
    query: Callable[[], str]
    """Returns the identity of the query, which lasts as long as its checkpoint."""
    is_stopping: Callable[[], bool] = field(default=lambda: False)
    """Returns whether the job was asked to stop: then a sink no longer waits for its server."""
    wait: Callable[[float], object] = field(default=lambda _seconds: None)
    """Waits for a number of seconds, or until the job is asked to stop."""
    failed: Callable[[], object] = field(default=lambda: None)
    """Takes note of a failed attempt that the sink repeats."""
    aggregates: Mapping[str, Any] = field(default_factory=dict)
    """The values of the aggregates that the sink asked for, by name."""


class SinkWork(NamedTuple):
    """What a sink has done so far."""

    seconds: float = 0.0
    """How long its writes have taken, pauses between attempts included."""
    errors: int = 0
    """Failed attempts, those included that were repeated."""


class Sink(ABC):
    """Base of the sinks: each shapes the rows of a query and writes them.

    The contract: if ``write`` raises, some of the rows may have been written, the batch is not committed, and a replay
    writes the whole batch again. So ``write`` either overwrites earlier writes, by ids that depend on the rows alone,
    or, given a ``replay``, omits rows that were written before. ``write`` must not return before all rows are
    acknowledged.
    """

    label: ClassVar[str] = "other"
    """Short name in metrics, the same whatever the settings."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The sink's output, for messages: ``Elasticsearch at http://…``."""

    def check(self) -> list[str]:
        """Create or check the outputs, before any JVM starts.

        Returns:
            The names of the created outputs, for the log.

        Raises:
            ServerError: an output cannot be reached, or cannot hold the rows.
        """
        return []

    def prepare(self, spark: SparkSession) -> None:  # noqa: B027 (most sinks need nothing)
        """Create or check outputs with the help of the session, before the first batch.

        Args:
            spark: the session of the query.

        Raises:
            ServerError: an output cannot be written to.
        """

    def ends(self) -> dict[str, dict[str, Any]]:
        """Return the current ends of the outputs that a replay is compared with, as JSON-compatible data.

        Raises:
            ServerError: an output cannot be reached.
        """
        return {}

    def aggregates(self, spark: SparkSession) -> dict[str, Column]:  # noqa: ARG002 (most sinks need none)
        """Return what this sink has to know of a whole batch before it writes, as aggregates of the query's rows.

        One pass over a batch computes the aggregates of all its sinks; ``write`` finds the values in ``batch``.

        Args:
            spark: the session of the query.
        """
        return {}

    @abstractmethod
    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the query's rows as this sink writes them, without a Spark job.

        A query's only sink shapes the stream itself, once, unless it asks for aggregates; beside others it shapes each
        batch.
        """

    @abstractmethod
    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Write one batch.

        Args:
            shaped: what ``shape`` returned, of this batch.
            batch: number of the batch, and the state of the query.
            replay: set if an earlier run may have written a part of the batch.
        """


@dataclass
class OutcomeSink(Sink):
    """Base of the scoring job's sinks, whose rows are decoded, scored and compared with the label."""

    config: Config
    models: Sequence[ServedModel] = ()
    """The models that were applied to the rows."""

    def with_models(self, models: Sequence[ServedModel]) -> Self:
        """Return a copy of this sink, as prepared, for rows to which other models were applied."""
        return replace(self, models=models)

"""What a sink is: the contract between a running query and what its batches are written to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from streamscore.config import Config

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from typing_extensions import Self

    from streamscore.scoring.served import ServedModel


@dataclass(frozen=True)
class Replay:
    """Batches that an earlier run may have written before, in part or in whole."""

    last_batch: int
    since: int
    """Epoch milliseconds before which none of them was written."""
    begins: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """By output topic, where it ended before anything was written from the checkpoint, as the sink had it noted."""


@dataclass(frozen=True)
class Batch:
    """The batch that is being written."""

    number: int
    query: Callable[[], str]
    """Returns the identity of the query, which lasts as long as its checkpoint does."""
    is_stopping: Callable[[], bool] = field(default=lambda: False)
    """Returns whether the job was asked to stop: a sink that waits for its server gives up then."""
    wait: Callable[[float], object] = field(default=lambda _seconds: None)
    """Waits so many seconds, or until the job is asked to stop."""


class Sink(ABC):
    """Where the rows of a query go. One module, one class: what is written, and how, stand side by side.

    The contract: if ``write`` raises, some of the rows may have been written, the batch is not committed, and a replay
    writes all of the batch again. So ``write`` either overwrites what it wrote before, by ids that come from the rows
    alone, or, when it is given a ``replay``, leaves out what is there already. It must not return before everything is
    acknowledged.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What is written to, for a message: ``Elasticsearch at http://…``."""

    def check(self) -> list[str]:
        """Make or check what is written to, before any JVM starts.

        Returns:
            What was created, for the log.

        Raises:
            ServerError: it cannot be reached, or cannot hold what is to be written.
        """
        return []

    def prepare(self, spark: SparkSession) -> None:  # noqa: B027 (most sinks need nothing)
        """Make or check what takes a session to make or check, before the first batch.

        Args:
            spark: the session of the query.

        Raises:
            ServerError: it cannot be written to.
        """

    def ends(self) -> dict[str, dict[str, Any]]:
        """Return where the outputs end now, for those that a replay is compared with; JSON takes it.

        Raises:
            ServerError: they cannot be reached.
        """
        return {}

    @abstractmethod
    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the query's rows as this sink writes them; it runs no Spark job.

        A query's only sink shapes the stream itself, once; beside others it shapes each batch.
        """

    @abstractmethod
    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Write one batch.

        Args:
            shaped: what ``shape`` returned, of this batch.
            batch: its number, and what the sink may ask about the query.
            replay: given if an earlier run may have written some of it.
        """


@dataclass
class OutcomeSink(Sink):
    """A sink of the scoring job: its rows are decoded, scored and compared with the label."""

    config: Config
    models: Sequence[ServedModel] = ()
    """The models that were applied to the rows."""

    def with_models(self, models: Sequence[ServedModel]) -> Self:
        """Return this sink, prepared as it is, for rows to which other models were applied."""
        return replace(self, models=models)

"""Outcomes as rows of a Delta table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from pyspark.errors import AnalysisException
from pyspark.sql import functions as F

from streamscore.config import Delta
from streamscore.errors import ServerError
from streamscore.schema import DECLINED_FIELDS, OUTCOME_FIELDS, TABLE_ROW
from streamscore.scoring.outcomes import IDENTITY, outcomes
from streamscore.sinks.base import Batch, OutcomeSink, Replay
from streamscore.spark.errors import translate_spark_errors
from streamscore.spark.sources import delta_table
from streamscore.system import failpoints
from streamscore.system.paths import as_spark_takes

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession


class TableRows(OutcomeSink):
    """A sink that writes one row per event and model, each batch in one transaction."""

    label = "delta_table"

    @property
    def name(self) -> str:
        """The table."""
        return f"the Delta table {self.config.delta.table}"

    def prepare(self, spark: SparkSession) -> None:
        """Create the table, or check that an existing one accepts our rows, by appending none.

        Raises:
            ServerError: the table cannot be written to.
        """
        with translate_spark_errors(ServerError, f"{self.name} does not take the outcomes"):
            row = spark.createDataFrame([], TABLE_ROW)
            try:
                append(row, self.config.delta)
            except AnalysisException:
                if {*delta_table(spark, self.config.delta).columns} != {*row.columns}.difference(DECLINED_FIELDS):
                    raise
                append(row, self.config.delta, {"mergeSchema": "true"})  # a table of an earlier version

    def shape(self, rows: DataFrame) -> DataFrame:
        """Return the outcomes as rows of the table."""
        return table_rows(outcomes(rows, self.models))

    def write(self, shaped: DataFrame, batch: Batch, replay: Replay | None) -> None:
        """Append the rows, unless the table already has this batch of this query."""
        settings = self.config.delta
        write_table(shaped, settings, batch.query(), batch.number)
        if replay is not None:
            # After a repair of the checkpoint the batch may hold more rows than the table's batch of this number.
            missing = rows_without(shaped, delta_table(shaped.sparkSession, settings))
            if not missing.isEmpty():
                append(missing, settings)
        failpoints.reach("delta")


def write_table(rows: DataFrame, settings: Delta, query: str, batch: int) -> None:
    """Append a batch's rows to the Delta table in one transaction, unless the table already has this batch.

    Batches are identified by query and number: after a lost checkpoint the numbers start at 0 again, with a new query
    identity. After an error the table has either all of the rows or none.

    Args:
        rows: what ``table_rows`` returned.
        settings: names the table.
        query: identity of the query.
        batch: number of the batch.
    """
    append(rows, settings, {"txnAppId": query, "txnVersion": str(batch)})


def append(rows: DataFrame, settings: Delta, options: Mapping[str, str] | None = None) -> None:
    """Append rows to the Delta table in one transaction; create the table if it is missing.

    Args:
        rows: rows of the table.
        settings: names the table.
        options: further options of Delta's writer.
    """
    writer = rows.write.format("delta").mode("append").options(**(options or {}))
    if settings.is_folder:
        writer.save(as_spark_takes(str(settings.table)))
    else:
        writer.saveAsTable(str(settings.table))


def table_rows(outcomes: DataFrame) -> DataFrame:
    """Return outcomes as rows of the Delta table: the fields of a record, with ``event_time`` as a timestamp."""
    typed = {"key": F.decode("key", "UTF-8"), "event_time": F.timestamp_millis("event_time")}
    return outcomes.select(*(typed.get(name, F.col(name)).alias(name) for name in OUTCOME_FIELDS))


def rows_without(rows: DataFrame, there: DataFrame) -> DataFrame:
    """Return the rows that the Delta table does not hold yet."""
    first = rows.agg(F.unix_micros(F.min("event_time"))).collect()[0][0]
    if first is None:
        return rows
    # Delta's statistics let the scan skip files of earlier times.
    later = there.filter(F.col("event_time") >= F.timestamp_micros(F.lit(first)))
    return rows.join(later.select(*IDENTITY).distinct(), IDENTITY, "left_anti").select(*rows.columns)

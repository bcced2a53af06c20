"""From events of a Kafka topic to evaluated rows: the same for every job that scores."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamscore.clients import kafka
from streamscore.config import Config
from streamscore.listeners.totals import SUMS
from streamscore.messages import decoder
from streamscore.messages.decode import DECODER, JSON_TEXT, decode
from streamscore.models import saved
from streamscore.quality.comparison import champion_of
from streamscore.scoring.apply import apply_models
from streamscore.scoring.evaluate import counts, with_correct
from streamscore.sinks.kafka import MAX_HEADERS_BYTES

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame, SparkSession

    from streamscore.scoring.served import ServedModel


def register(spark: SparkSession, config: Config, served: Sequence[ServedModel]) -> None:
    """Register the SQL functions that ``evaluated`` needs.

    Args:
        spark: a classic session that was started with the decoder's jar.
        config: describes a message.
        served: the models, all with the same number of features.
    """
    message = config.message
    if not message.label_values:
        named = saved.shared_label_values({model.name: model.label_values for model in served})
        message = message.model_copy(update={"label_values": named})
    decoder.register(spark, DECODER, message, served[0].size)
    decoder.register_text(spark, JSON_TEXT)


def key_room(config: Config) -> int:
    """Return the bytes that an outcome's record has for both copies of a key, from the topic of the outcomes."""
    return kafka.max_message_bytes(config.kafka, config.kafka.topics.predictions) - MAX_HEADERS_BYTES


def evaluated(events: DataFrame, served: Sequence[ServedModel], room: int) -> DataFrame:
    """Return evaluated rows: decoded, scored by every model, and compared with the label.

    Args:
        events: records in the columns of Spark's Kafka source.
        served: the models.
        room: what ``key_room`` returned.
    """
    return with_correct(apply_models(decode(events, room), served), served)


def observations(spark: SparkSession, config: Config, served: Sequence[ServedModel]) -> list[Column]:
    """Return the aggregates of evaluated rows to observe: the counts, and the packed statistics of quality.

    Args:
        spark: the session.
        config: names the champion.
        served: the models.
    """
    sums = decoder.quality_sums(spark, served, champion_of(config.compare.champion, served))
    return [*counts(), sums.alias(SUMS)]

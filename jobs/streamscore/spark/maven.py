"""All Maven coordinates; the sha256 of every file is in ``local/artifacts.lock``."""

from __future__ import annotations

from typing import Final, NamedTuple


class Coordinate(NamedTuple):
    """A Maven artifact: ``group:name:version``."""

    group: str
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.group}:{self.name}:{self.version}"


SPARK_VERSION: Final = "3.5.7"  # equals the pyspark pin of setup.py

SPARK_JARS: Final = (
    Coordinate("org.apache.spark", "spark-sql-kafka-0-10_2.12", SPARK_VERSION),
    Coordinate("org.apache.spark", "spark-token-provider-kafka-0-10_2.12", SPARK_VERSION),
    # Replaces Spark's own 3.4.1, which has published CVEs.
    Coordinate("org.apache.kafka", "kafka-clients", "3.9.2"),
    Coordinate("org.apache.commons", "commons-pool2", "2.11.1"),
    Coordinate("org.elasticsearch", "elasticsearch-spark-30_2.12", "8.19.25"),
    Coordinate("io.delta", "delta-spark_2.12", "3.3.3"),
    Coordinate("io.delta", "delta-storage", "3.3.3"),
)
"""The jars that the jobs add to Spark's own; Spark's jars contain all their other dependencies."""

SPARK_EXCLUDES: Final = (
    "org.elasticsearch:thirdparty",
    "org.elasticsearch:elasticsearch-spark_2.12",
    "org.elasticsearch:elasticsearch-hadoop-mr",
    "org.apache.spark:spark-yarn_2.12",
    "commons-logging:commons-logging",
    "javax.xml.bind:jaxb-api",
    "org.slf4j:slf4j-api",
    "org.scala-lang:scala-reflect",
)
"""Dependencies that ``--packages`` must exclude: the connector's POM names artifacts that were never published."""

KAFKA_BROKER: Final = Coordinate("org.apache.kafka", "kafka_2.13", "4.3.1")
KAFKA_LOGGING: Final = Coordinate("org.apache.logging.log4j", "log4j-slf4j-impl", "2.25.4")
ELASTICSEARCH: Final = Coordinate("org.elasticsearch.distribution.integ-test-zip", "elasticsearch", "8.7.1")

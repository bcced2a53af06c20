"""Score a Kafka topic with native Spark ML models and see live how good they are."""

__version__ = "0.1.0"

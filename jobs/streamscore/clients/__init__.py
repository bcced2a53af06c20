"""Kafka and Elasticsearch by their own clients, without Spark."""

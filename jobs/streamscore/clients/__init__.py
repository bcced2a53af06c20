"""Access to Kafka and Elasticsearch through their own clients, without Spark."""

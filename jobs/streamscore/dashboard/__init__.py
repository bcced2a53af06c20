"""The live page and the report: read the statistics from Elasticsearch and show the models' current figures."""

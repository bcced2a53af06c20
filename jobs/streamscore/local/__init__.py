"""Real servers for a machine without Docker: fetched, verified, started and stopped by streamscore itself."""

"""How a job starts."""

"""Files, paths, processes, the console, failpoints."""

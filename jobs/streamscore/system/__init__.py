"""Files, paths, processes, the console, and failpoints."""

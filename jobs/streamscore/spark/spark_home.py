"""The Spark that is installed with this Python."""

from __future__ import annotations

from pathlib import Path

from streamscore.errors import SetupError


def spark_home() -> Path:
    """Return the folder of PySpark, which holds all of Spark.

    Raises:
        SetupError: the imported PySpark has no jars: another Spark's Python files come first on the path.
    """
    import pyspark

    home = Path(pyspark.__file__).parent
    if not (home / "jars").is_dir():
        raise SetupError(
            f"Python finds pyspark in {home}, which is a part of another Spark: unset PYTHONPATH, so that it finds the "
            "one that was installed with streamscore"
        )
    return home

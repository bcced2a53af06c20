"""Write the import's requests to files, for a Kibana that this machine cannot reach."""

from __future__ import annotations

import json
from pathlib import Path

from streamscore.config import Config
from streamscore.errors import ConfigError
from streamscore.kibana import alert, dashboards_api, saved_objects


def write(config: Config, folder: Path) -> list[Path]:
    """Write the saved objects, the body for the Dashboards API and the rule; return the files' paths.

    Raises:
        ConfigError: the folder cannot be written to.
    """
    contents = {
        "streamscore.ndjson": saved_objects.lines(saved_objects.build(config, "streamscore")),
        "dashboard.json": _readable(dashboards_api.build(config)),
        "alert.json": _readable(alert.build(config)),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in contents.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written to ({error.strerror})") from None
    return [folder / name for name in contents]


def _readable(body: dict[str, object]) -> str:
    return f"{json.dumps(body, indent=2, ensure_ascii=False)}\n"

"""The replays of stretches of a topic, each under a name: what was asked for, how far it is, and its removal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from streamscore.clients import elasticsearch
from streamscore.clients.topic_records import Stretch
from streamscore.config import Config, as_override
from streamscore.config.servers import INDEX_KEYS
from streamscore.config.types import iso_time
from streamscore.errors import CheckpointError, ConfigError
from streamscore.stream import checkpoint, lease
from streamscore.stream.bounded import position
from streamscore.stream.folders import Folder, LocalFolder
from streamscore.system.files import write_atomically

FILE: Final = "run.json"
"""The file in a run's folder that says what was asked for."""

_ARGUMENTS: Final = {
    "topic": "kafka.topics.input",
    "begin": "--from",
    "end": "--to",
    "models": "the models",
    "documents": "--documents",
    "windows": "quality.windows",
    "indices": "the indices of elasticsearch",
}
"""What must stay the same for a run to go on, by the fields of a run."""


@dataclass(frozen=True)
class Run:
    """What was asked for, and the offsets that it meant when the run began."""

    name: str
    topic: str
    begin: int
    """Begin of the stretch, in epoch milliseconds."""
    end: int
    """End of the stretch, in epoch milliseconds."""
    models: list[dict[str, str]]
    """Name, address and required proof of each model."""
    documents: float
    """Share of the events that have documents."""
    windows: list[int]
    """Lengths of the windows of the statistics, in seconds."""
    indices: dict[str, str]
    """The names of the run's indices, by their keys in the configuration."""
    topic_id: str | None = None
    """Kafka's id of the topic; None if the brokers have no ids."""
    first: dict[int, int] = field(default_factory=dict)
    """The first offset, by partition."""
    last: dict[int, int] = field(default_factory=dict)
    """The offset after the last one, by partition."""

    @property
    def records(self) -> int:
        """Number of offsets in the stretch."""
        return sum(self.last.values()) - sum(self.first.values())


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    run: Run
    done: int
    """Number of offsets that are scored."""
    process: int | None
    """The process of this machine that runs it."""

    @property
    def is_complete(self) -> bool:
        """Whether everything is scored."""
        return self.done == self.run.records

    @property
    def state(self) -> str:
        """How far the run is, in words."""
        if self.is_complete:
            return "complete"
        share = f"{self.done / self.run.records:.0%}"
        return f"{share}, stopped" if self.process is None else f"{share}, process {self.process}"

    def as_json(self) -> dict[str, Any]:
        """Return the run's part of --json, which the command's help describes."""
        run = self.run
        return {
            "name": run.name,
            "topic": run.topic,
            "from": iso_time(run.begin),
            "to": iso_time(run.end),
            "models": [{"name": model["name"], "uri": model["uri"]} for model in run.models],
            "records": run.records,
            "scored": self.done,
            "complete": self.is_complete,
            "process": self.process,
            "quality_index": run.indices["quality_index"],
        }


def folder(config: Config, name: str) -> Path:
    """Return the folder of a run.

    Args:
        config: names the folder of all state.
        name: name of the run.
    """
    return config.state_dir / "replays" / name


def of_config(config: Config) -> Config:
    """Return the configuration of the replay itself: its models, its indices, and its checkpoint.

    Raises:
        ConfigError: the stretch is not given.
    """
    asked = config.replay
    if asked.begin is None or asked.end is None:
        raise ConfigError("a replay needs the stretch of the topic: --from TIME and --to TIME")
    name = asked.name or f"{_compact(asked.begin)}-{_compact(asked.end)}"
    search = config.elasticsearch.of_run(name)
    share = search.documents if asked.documents else 0.0
    stream = {"checkpoint": str(folder(config, name)), "new_checkpoint": False, "starting_offsets": "earliest"}
    return config.model_copy(
        update={
            "models": (*config.models, *asked.models),
            "replay": asked.model_copy(update={"name": name, "models": ()}),
            "elasticsearch": search.model_copy(update={"documents": share}),
            "stream": config.stream.model_copy(update=stream),
        }
    )


def overrides(config: Config, name: str) -> list[str]:
    """Return the overrides of a configuration that reads a run in the place of the stream, in all its time.

    Args:
        config: the configuration.
        name: name of the run.
    """
    own = config.elasticsearch.of_run(name)
    title = f"{config.dashboard.title}\n\nReplay: {name}"
    return [
        *(as_override(f"elasticsearch.{key}", getattr(own, key)) for key in INDEX_KEYS),
        as_override("dashboard.title", title),
        "dashboard.time_range=all",
    ]


def asked_for(config: Config) -> Run:
    """Return the run that a replay's configuration asks for, without offsets.

    Args:
        config: what ``of_config`` returned.
    """
    asked, search = config.replay, config.elasticsearch
    return Run(
        name=str(asked.name),
        topic=config.kafka.topics.input,
        begin=asked.begin or 0,
        end=asked.end or 0,
        models=[model.model_dump(mode="json") for model in config.models],
        documents=search.documents,
        windows=list(config.quality.windows),
        indices={key: getattr(search, key) for key in INDEX_KEYS},
    )


def read(path: Path) -> Run | None:
    """Return the run of a folder; None if it has not begun.

    Raises:
        CheckpointError: its file is damaged.
    """
    try:
        content = json.loads((path / FILE).read_text(encoding="utf-8"))
        offsets = {key: {int(number): at for number, at in content[key].items()} for key in ("first", "last")}
        return Run(**{each.name: content[each.name] for each in fields(Run)} | offsets)
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, LookupError, AttributeError):
        raise CheckpointError(
            f"{path / FILE} is damaged: `streamscore replay delete {path.name}` deletes the run"
        ) from None


def write(path: Path, run: Run) -> None:
    """Write what was asked for into the folder of a run."""
    path.mkdir(parents=True, exist_ok=True)
    write_atomically(path / FILE, f"{json.dumps(asdict(run), indent=1)}\n".encode())


def with_stretch(run: Run, stretch: Stretch, topic_id: str | None) -> Run:
    """Return a run with the offsets of its stretch.

    Args:
        run: the run.
        stretch: the offsets.
        topic_id: Kafka's id of the topic; None if the brokers have no ids.
    """
    return Run(**{**asdict(run), "topic_id": topic_id, "first": stretch.begin, "last": stretch.end})


def require_same(begun: Run, asked: Run) -> None:
    """Refuse to go on with a run that was begun with other arguments.

    Raises:
        ConfigError: it was; the message names the arguments that differ.
    """
    other = [
        f"{word} ({_shown(key, getattr(begun, key))} instead of {_shown(key, getattr(asked, key))})"
        for key, word in _ARGUMENTS.items()
        if getattr(begun, key) != getattr(asked, key)
    ]
    if other:
        raise ConfigError(
            f"the run {begun.name!r} was begun with other arguments: {'; '.join(other)}. Give the new run another "
            f"--name, or delete that one with `streamscore replay delete {begun.name}`"
        )


def progress(path: Path) -> Progress | None:
    """Return how far the run of a folder is; None if it has not begun.

    Raises:
        CheckpointError: a file of the run is damaged.
    """
    run = read(path)
    if run is None:
        return None
    files = LocalFolder(str(path))
    state = checkpoint.inspect(files, str(path))
    return Progress(run, done(run, files, state.committed), lease.holder(files))


def done(run: Run, files: Folder, committed: int) -> int:
    """Return how many offsets of a run are scored.

    Args:
        run: the run.
        files: its checkpoint.
        committed: the last batch that is committed; -1 if none is.
    """
    return sum(position(files, committed, run.topic, run.first).values()) - sum(run.first.values())


def has_begun(config: Config, name: str) -> bool:
    """Return whether a run was begun.

    Args:
        config: names the folder of all state.
        name: name of the run.
    """
    return (folder(config, name) / FILE).is_file()


def all_of(config: Config) -> list[Progress]:
    """Return the runs of this machine by name.

    Raises:
        CheckpointError: a file of a run is damaged.
    """
    root = folder(config, "")
    found = [progress(path) for path in sorted(root.iterdir())] if root.is_dir() else []
    return [each for each in found if each is not None]


def delete(config: Config, name: str) -> list[str]:
    """Delete a run: its folder, and its indices, and nothing else.

    Args:
        config: the configuration.
        name: name of the run.

    Returns:
        The names of what was deleted.

    Raises:
        ConfigError: there is no such run.
        CheckpointError: the run is being scored.
        ServerError: Elasticsearch cannot be reached; the folder is still there.
    """
    path = folder(config, name)
    is_here = path.is_dir()
    settings = config.elasticsearch
    own = settings.of_run(name)
    if is_here and (run := _readable(path)) is not None:
        own = own.model_copy(update=run.indices)
    if not is_here and not (settings.enabled and name in elasticsearch.runs(settings)):
        raise unknown(name, [*_names(config), *(elasticsearch.runs(settings) if settings.enabled else [])])
    if not is_here:
        elasticsearch.delete(own)
        return list(own.indices)

    def refuse() -> None:
        process = lease.holder(LocalFolder(str(path)))
        by = "another process" if process is None else f"process {process}"
        raise CheckpointError(f"the run {name!r} is being scored by {by}: stop that first")

    files = LocalFolder(str(path))
    with files.locked(refuse):
        if lease.holder(files) is not None:
            refuse()
        if settings.enabled:
            elasticsearch.delete(own)
        shutil.rmtree(path)
    return [*(own.indices if settings.enabled else ()), str(path)]


def unknown(name: str, known: Sequence[str]) -> ConfigError:
    """Return the error about a run that does not exist.

    Args:
        name: the name that was given.
        known: the names of the runs that exist.
    """
    there = ", ".join(sorted(set(known))) or "none"
    return ConfigError(f"there is no run {name!r}; there are: {there}. `streamscore replay` makes one")


def _names(config: Config) -> list[str]:
    root = folder(config, "")
    return [path.name for path in root.iterdir()] if root.is_dir() else []


def _readable(path: Path) -> Run | None:
    """Return the run of a folder; None if it has not begun or is damaged."""
    try:
        return read(path)
    except CheckpointError:
        return None


def _compact(at: int) -> str:
    return iso_time(at).lower().replace("-", "").replace(":", "")


def _shown(key: str, value: Any) -> str:
    if key in {"begin", "end"}:
        return iso_time(value)
    if key == "models":
        return ", ".join(f"{model['name']}={model['uri']}" for model in value)
    if isinstance(value, Mapping):
        return ", ".join(map(str, value.values()))
    return str(value)

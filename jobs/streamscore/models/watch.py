"""Detect new versions of the served models while the stream runs, and check them before they take over."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamscore import models
from streamscore.config import Config
from streamscore.errors import ModelError, ModelLoadError
from streamscore.models import registry
from streamscore.system.console import log

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streamscore.scoring.served import ServedModel


_LONGEST_WAIT: Final = 600.0
"""Longest wait between two attempts to load a version, in seconds; the wait doubles after each failure."""


@dataclass(frozen=True)
class _Judgement:
    """The decision about the versions to which the aliases pointed."""

    pointed: Mapping[str, str]
    """The version that each model's alias points to, by the model's name."""
    served: list[ServedModel]
    refused: Mapping[str, str]
    final: bool = True
    """Whether the decision holds until an alias moves; otherwise a version that could not be loaded is retried."""


class ModelWatch:
    """A watch on the aliases of the served models; a rollback is a move of an alias like any other.

    The watch polls in a background thread, so that a slow registry or model never delays the stream.
    """

    def __init__(self, spark: SparkSession, config: Config, served: Sequence[ServedModel]) -> None:
        self._spark = spark
        self._config = config
        self._aliases = {model.name: model.uri for model in config.models if registry.is_alias(model.uri)}
        pointed = {model.name: model.version for model in served if model.name in self._aliases}
        self._judgement = _Judgement(pointed, list(served), {})
        self._next_look = time.monotonic() + config.stream.model_poll_seconds
        self._next_trial = self._wait = 0.0
        self._looking = threading.Thread()

    @property
    def served(self) -> list[ServedModel]:
        """The current models: the same list object until a model is replaced."""
        return self._judgement.served

    def refused(self) -> Mapping[str, str]:
        """Return the refused versions to which aliases point, as ``name:version``, with the reason."""
        return self._judgement.refused

    def replaces(self, models_in_use: Sequence[ServedModel]) -> bool:
        """Start a poll for new versions if one is due; return whether other models replace the given ones."""
        if self._aliases and not self._looking.is_alive() and time.monotonic() >= self._next_look:
            self._looking = threading.Thread(target=self._look, name="model-watch", daemon=True)
            self._looking.start()
        return self.served is not models_in_use

    def _look(self) -> None:
        """Resolve the aliases, and check the versions if an alias has moved.

        A registry that does not answer leads to no decision: the next poll tries again.
        """
        try:
            pointed = {name: self._pointed(name, uri) for name, uri in self._aliases.items()}
            moved = pointed != self._judgement.pointed
            if moved or not (self._judgement.final or time.monotonic() < self._next_trial):
                self._judgement = self._judged(pointed)
                poll = self._config.stream.model_poll_seconds
                self._wait = poll if moved else min(2 * self._wait, max(poll, _LONGEST_WAIT))
                self._next_trial = time.monotonic() + self._wait
        except Exception as error:  # noqa: BLE001 (whatever a registry's client raises, the stream goes on)
            _warn(error)
        finally:
            self._next_look = time.monotonic() + self._config.stream.model_poll_seconds

    def _pointed(self, name: str, uri: str) -> str:
        """Return the version to which an alias points; a deleted alias keeps its last version."""
        try:
            return registry.resolve(self._config, uri).version
        except ModelError as error:
            _warn(error)
            return self._judgement.pointed[name]

    def _judged(self, pointed: Mapping[str, str]) -> _Judgement:
        """Load the new versions and accept those that pass; a model with a refused version keeps its old one.

        All versions are checked again when any alias moves: a version that did not fit the others may fit now.
        """
        before = self._judgement.served
        after = list(before)
        refused: dict[str, str] = {}
        final = True
        for place, model in enumerate(self._config.models):
            version = pointed.get(model.name, before[place].version)
            if version == before[place].version:
                continue
            try:
                after[place] = models.load_one(self._spark, self._config, model)
            except ModelError as error:
                refused[f"{model.name}:{version}"] = _warn(error)
                final = final and not isinstance(error, ModelLoadError)
        new = [f"{model.name}:{model.version}" for model, old in zip(after, before, strict=True) if model is not old]
        if not new:
            return _Judgement(pointed, before, refused, final)
        try:
            models.require_alike(self._config, after)
        except ModelError as error:
            return _Judgement(pointed, before, refused | dict.fromkeys(new, _warn(error)), final)
        log.info("new versions: %s", ", ".join(sorted(new)))
        if after[0].size != before[0].size and not self._config.message.fields:
            message = "the models take %d features, those before took %d: messages of another size are rejected"
            log.warning(message, after[0].size, before[0].size)
        return _Judgement(pointed, after, refused, final)


def _warn(error: Exception) -> str:
    """Log why the current models are kept, and return the reason."""
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    log.warning("keeping the current models: %s", reason)
    return reason

"""Notice a new version of a model while the stream runs, and judge it before it takes over."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from streamscore import models, registry
from streamscore.config import Config
from streamscore.console import log
from streamscore.errors import StreamscoreError

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from streamscore.models import ServedModel


class ModelWatch:
    """Watches the aliases of the served models; a rollback is a move of an alias like any other."""

    def __init__(self, spark: SparkSession, config: Config, served: Sequence[ServedModel]) -> None:
        self._spark = spark
        self._config = config
        self._aliases = {model.name: model.uri for model in config.models if "@" in model.uri}
        self._next_look = time.monotonic() + config.stream.model_poll_seconds
        self.served = list(served)
        self.refused: dict[str, str] = {}
        """Versions that an alias points to and that were refused, as ``name:version``, with the reason."""

    def look(self) -> list[ServedModel]:
        """Look for new versions, if it is time to, and return the models to go on with.

        A version that is refused leaves the old ones serving; so does a registry that does not answer.
        """
        if not self._aliases or time.monotonic() < self._next_look:
            return self.served
        self._next_look = time.monotonic() + self._config.stream.model_poll_seconds
        new: set[str] = set()
        try:
            new = self._new_versions()
            if new - self.refused.keys():
                self.served = models.load(self._spark, self._config)
                log.info("new versions: %s", ", ".join(sorted(new)))
        except StreamscoreError as error:
            reason = str(error).splitlines()[0]
            log.warning("the models in use go on: %s", reason)
            self.refused.update(dict.fromkeys(new, reason))
        for version in self.refused.keys() - new:
            del self.refused[version]  # nothing points to it any more
        return self.served

    def replaces(self, models_in_use: Sequence[ServedModel]) -> bool:
        """Look for new versions and tell whether others than these are to be used now."""
        return self.look() is not models_in_use

    def _new_versions(self) -> set[str]:
        """Return the versions, as ``name:version``, that an alias points to and that are not served."""
        pointed = {f"{name}:{registry.resolve(self._config, uri).version}" for name, uri in self._aliases.items()}
        return pointed - {f"{model.name}:{model.version}" for model in self.served}

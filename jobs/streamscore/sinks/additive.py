"""Add the contributions of a batch to documents of the quality index; a replay counts no event twice."""

from __future__ import annotations

from collections.abc import Container, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from streamscore.clients import quality as client
from streamscore.clients.quality import Change, Kept
from streamscore.config import Config
from streamscore.errors import RefusedError
from streamscore.sinks.base import Batch
from streamscore.sinks.contributions import Contribution
from streamscore.sinks.patience import patiently

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

_PIECE: Final = 1_000
"""Documents per piece of a batch; a document takes some 20 kB of memory."""


class AdditiveDocuments:
    """Base of the sinks that add to the quality index.

    A document names the last batch that added to it, and holds the statistic before that batch; a replay adds to the
    latter. So each batch counts once, whatever its events' times and wherever a write was interrupted.
    """

    config: Config

    def _add_in_pieces(self, server: Client, added: Mapping[str, Contribution], batch: Batch) -> None:
        """Add the contributions, a piece of the documents at a time; retry each piece by itself."""
        documents = list(added.items())
        for first in range(0, len(documents), _PIECE):
            piece = dict(documents[first : first + _PIECE])
            patiently(partial(self._add, server, piece, batch.number), self.config.elasticsearch, batch)

    def _add(self, server: Client, added: Mapping[str, Contribution], number: int) -> None:
        """Read the documents, add the batch's contributions, and write them; idempotent."""
        settings = self.config.elasticsearch
        kept = client.read(server, settings, added)
        changes = []
        for document, part in added.items():
            before = self._before(kept.get(document), number)
            fields = part.after(before)
            source = {**part.header, "batch": number, **fields}
            if before is not None:
                source["before"] = {name: before[name] for name in fields if name in before}
            changes.append(Change(document, source, kept.get(document)))
        client.write(server, settings, changes)

    def _before(self, kept: Kept | None, number: int) -> Mapping[str, Any] | None:
        """Return a document's fields without a batch's contribution; None if there was no document before the batch.

        Raises:
            RefusedError: a later batch has added to the document.
        """
        if kept is None:
            return None
        last = kept.source["batch"]
        if last > number:
            settings = self.config.elasticsearch
            raise RefusedError(
                f"the index {settings.quality_index!r} at {settings.url} has counted batch {last} of this stream "
                f"already, and now comes batch {number}: the checkpoint is older than what was written from it. Take "
                "the latest state of the checkpoint, or a new one with --new-checkpoint"
            )
        before: Mapping[str, Any] | None = kept.source if last < number else kept.source.get("before")
        return before

    def _take_back(self, server: Client, stream: str, number: int, added: Container[str]) -> None:
        """Undo an earlier attempt's contributions to other documents: a batch planned again may hold other events."""
        settings = self.config.elasticsearch
        for page in client.of_batch(server, settings, stream, number):
            changes = []
            for document, kept in page.items():
                if document not in added:
                    before = kept.source.get("before")
                    source = None if before is None else {**kept.source, **before}
                    changes.append(Change(document, source, kept))
            client.write(server, settings, changes)

"""An index while a job writes to it: it stays the same one, and counts its operations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from streamscore.clients.elasticsearch import client, reporting
from streamscore.config import Elasticsearch
from streamscore.errors import RefusedError

if TYPE_CHECKING:
    from elasticsearch import Elasticsearch as Client

_PATHS: Final = (
    "indices.*.uuid",
    "indices.*.shards.*.routing.primary",
    "indices.*.shards.*.seq_no.max_seq_no",
)


@dataclass
class WrittenIndex:
    """An index, known by its UUID since the first look: its name may come to stand for another one.

    Elasticsearch creates a missing index at a write, with a mapping of its own, and a rollover moves an alias.
    """

    settings: Elasticsearch
    """The server."""
    name: str
    """Name of the index or of the alias."""
    uuid: str | None = None
    """UUID of the index; None before the first look."""

    def operations(self) -> dict[str, int]:
        """Return the number of operations of each shard, by the shard's number; a shard without a primary is left out.

        The number of operations (the shard's sequence number) lasts as long as the index, whichever node holds the
        shard.

        Raises:
            ServerError: the server cannot be reached.
            RefusedError: the index does not exist, or the name stands for another one than at the first look.
        """
        with client(self.settings) as server:
            return self._look(server)

    def require_same(self, server: Client) -> None:
        """Take a look at the index.

        Args:
            server: the client.

        Raises:
            ServerError: the server cannot be reached.
            RefusedError: the index does not exist, or the name stands for another one than at the first look.
        """
        self._look(server)

    def _look(self, server: Client) -> dict[str, int]:
        from elasticsearch import BadRequestError, NotFoundError

        with reporting(self.settings):
            try:
                found = server.indices.stats(
                    index=self.name, metric="indexing", level="shards", filter_path=list(_PATHS)
                ).get("indices", {})
            except NotFoundError:
                raise RefusedError(
                    f"the index {self.name!r} at {self.settings.url} was deleted: start the job again, which creates "
                    "it; what it held can only be written again from the topic"
                ) from None
            except BadRequestError as error:
                if error.error != "index_closed_exception":
                    raise
                raise RefusedError(
                    f"the index {self.name!r} at {self.settings.url} is closed: open it (POST /{self.name}/_open) and "
                    "start the job again"
                ) from None
        self._require_same({str(entry["uuid"]): index for index, entry in found.items()})
        return {
            shard: copy["seq_no"]["max_seq_no"]
            for entry in found.values()
            for shard, copies in entry.get("shards", {}).items()
            for copy in copies
            if copy["routing"]["primary"] and "seq_no" in copy
        }

    def _require_same(self, found: dict[str, str]) -> None:
        """Compare the indices that the name stands for, by UUID, with the index of the first look."""
        if self.uuid is None and len(found) == 1:
            (self.uuid,) = found
        if not found or set(found) == {self.uuid}:  # without an entry no shard answers
            return
        place = f"the index {self.name!r} at {self.settings.url}"
        names = ", ".join(sorted(found.values()))
        if set(found.values()) == {self.name}:
            raise RefusedError(
                f"{place} was deleted and created again while the job was running. If its mapping is not the job's, "
                "delete it; then start the job again"
            )
        raise RefusedError(
            f"{place} has changed while the job was running: the alias stands for {names} now, after a rollover or a "
            "change of aliases. What a batch that is written again had written before would be there twice: name one "
            "index that stays (elasticsearch.index, .rejected_index, .quality_index), and start the job again"
        )

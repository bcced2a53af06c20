"""Ownership of the statistics: which starts beside another stream's are refused."""

import pytest

from streamscore.clients import index_streams, quality
from streamscore.errors import CheckpointError
from streamscore.stream import ownership
from streamscore.stream.checkpoint import State

NEW = State(None, -1, -1, None, clean=True)
BEGUN = State("mine", 3, 3, None, clean=True)


@pytest.fixture
def require(make_config, monkeypatch):
    """Return a function that checks a start, given the streams of the statistics; there are no other outcomes."""
    monkeypatch.setattr(ownership, "_has_outcomes", lambda _: False)

    def look(past, streams, *overrides):
        monkeypatch.setattr(index_streams, "checkpoint_of", lambda *_: past.query)
        monkeypatch.setattr(
            quality, "other_stream", lambda _, __, own: next((stream for stream in streams if stream != own), None)
        )
        ownership.require_known(make_config(*overrides), past)

    return look


@pytest.mark.parametrize(
    ("past", "streams", "overrides"),
    [
        (NEW, [], []),
        (BEGUN, ["mine"], []),
        (NEW, ["other"], ["stream.new_checkpoint=true"]),
        (BEGUN, ["mine", "other"], ["stream.new_checkpoint=true"]),
        (BEGUN, ["mine", "other"], ["stream.starting_offsets=latest"]),
        (BEGUN, ["mine", "other"], ["elasticsearch.enabled=false"]),
    ],
)
def test_start_is_let_in(require, past, streams, overrides):
    """A start is let in without other streams, when they are accepted, or when the events are others."""
    require(past, streams, *overrides)


@pytest.mark.parametrize(
    ("past", "overrides", "expected"),
    [
        (NEW, [], "from stream other, but the checkpoint .* is new: .*--new-checkpoint, which deletes"),
        (
            BEGUN,
            [],
            "from stream other, but the checkpoint .* belongs to stream mine: .*--new-checkpoint, which deletes",
        ),
        (NEW, ["stream.starting_offsets=latest"], "from stream other, but .* is new: .*--new-checkpoint$"),
    ],
)
def test_statistics_of_another_stream_are_refused(require, past, overrides, expected):
    """The refusal names the index, the stream and the ways out."""
    with pytest.raises(CheckpointError, match=f"the index 'predictions-quality' .*{expected}") as refused:
        require(past, ["mine", "other"] if past is BEGUN else ["other"], *overrides)

    assert "elasticsearch.quality_index" in str(refused.value)
    assert refused.value.exit_code == 9

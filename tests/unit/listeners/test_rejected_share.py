"""The limit on rejected messages."""

from types import SimpleNamespace

import pytest

from streamscore.config import Stream
from streamscore.errors import RejectedShareError
from streamscore.listeners.rejected_share import RejectedShare


def batch(events=10, rejected=0):
    """Return the used part of a committed batch."""
    return SimpleNamespace(observed={"quality": {"events": events, "rejected": rejected}})


def listener(limit, window):
    """Return the listener with a limit of the share over a number of events."""
    return RejectedShare(Stream.model_construct(max_rejected_share=limit, rejected_window=window), "ml.rejected")


@pytest.mark.parametrize("limit", [None, 0.5])
def test_batches_that_the_share_needs_no_more_are_forgotten(limit):
    """Old batches are dropped, with or without a limit."""
    share = listener(limit, 100)
    for _ in range(50):
        share.committed(batch())

    assert len(share._window) == 10
    assert share.fault() is None


def test_share_over_the_limit_ends_the_stream_and_names_the_way_out():
    """A share above the limit gives an error with a remedy."""
    share = listener(0.2, 20)
    share.committed(batch(10, 9))
    assert share.fault() is None  # too few events
    share.committed(batch(10, 1))
    fault = share.fault()

    assert isinstance(fault, RejectedShareError)
    assert "50% of the last messages" in str(fault)
    assert "'ml.rejected'" in str(fault)


def test_share_forgets_what_is_too_old():
    """The share covers only the last messages."""
    share = listener(0.2, 20)
    for rejected in (10, 0, 0):
        share.committed(batch(10, rejected))

    assert share.share() == 0

"""What a job's command line makes of an error."""

import errno

import pytest

from streamscore.launch.runner import reported


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_told_in_one_line(caplog, number):
    """Writing to an open file names no file."""
    with pytest.raises(SystemExit) as ended, reported():
        raise OSError(number, "No space left")

    assert ended.value.code == 6
    assert caplog.messages == ["No space left"]


def test_other_fault_without_a_file_is_not_swallowed():
    """It is one that nobody has thought of."""
    with pytest.raises(OSError, match="Bad message"), reported():
        raise OSError(errno.EBADMSG, "Bad message")

"""The errors of a job's command line."""

import errno

import pytest

from streamscore.launch.runner import reported


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_full_disk_is_told_in_one_line(caplog, number):
    """A full disk, whose error names no file, is reported in one line."""
    with pytest.raises(SystemExit) as ended, reported():
        raise OSError(number, "No space left")

    assert ended.value.code == 6
    assert caplog.messages == ["No space left"]


def test_other_fault_without_a_file_is_not_swallowed():
    """Any other error without a file is an unexpected one and is raised."""
    with pytest.raises(OSError, match="Bad message"), reported():
        raise OSError(errno.EBADMSG, "Bad message")

"""Atomic replacement of files."""

import pytest

from streamscore.system.files import replacing, write_atomically


def test_file_is_replaced_only_when_it_is_complete(tmp_path):
    """Readers get the old file until the new one is complete."""
    path = tmp_path / "a.tsv"
    path.write_text("old")
    with replacing(path) as partial:
        partial.write_text("new")
        assert (partial.parent, path.read_text()) == (tmp_path, "old")

    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_two_writers_of_one_file_do_not_share_a_partial_file(tmp_path):
    """Both of two concurrent writers succeed, and the later one wins."""
    path = tmp_path / "a.tsv"
    with replacing(path) as first, replacing(path) as second:
        first.write_text("first")
        second.write_text("second")

    assert path.read_text() == "first"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("is_folder", [False, True])
def test_failure_leaves_nothing_behind(tmp_path, is_folder):
    """A failure leaves neither a partial file nor a partial folder."""

    def fail():
        with replacing(tmp_path / "a") as partial:
            if is_folder:
                (partial / "part").mkdir(parents=True)
            else:
                partial.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()

    assert list(tmp_path.iterdir()) == []


def test_content_is_written_as_a_whole(tmp_path):
    """After an atomic write the folder holds the file alone."""
    write_atomically(tmp_path / "a", b"one")
    write_atomically(tmp_path / "a", b"two")

    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a", b"two")]

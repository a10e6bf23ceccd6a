"""Files and folders that appear in one piece, whatever happens to the one who writes them."""

import os
import signal
from pathlib import Path

import pytest

from experiments.storage import creating, replacing


def test_a_file_is_replaced_when_the_block_ends_and_others_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "file"
    with replacing(path) as temporary:
        temporary.write_text("first")
        assert not path.exists() and temporary.parent == path.parent
    with replacing(path) as temporary:
        temporary.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


def test_a_writer_that_raises_leaves_the_old_file_and_no_rubbish(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replacing(path) as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_folder_appears_when_the_block_ends_and_others_may_read_it(tmp_path: Path) -> None:
    folder = tmp_path / "new folder" / "one"
    with creating(folder) as temporary:
        (temporary / "file").write_text("text")
        assert not folder.exists()
    assert (folder / "file").read_text() == "text" and folder.stat().st_mode & 0o777 == 0o755
    assert list(folder.parent.iterdir()) == [folder]


def test_a_writer_of_a_folder_that_raises_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="full"), creating(tmp_path / "one") as temporary:
        (temporary / "file").write_text("half")
        raise OSError("full")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_never_written_over(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "file").write_text("old")
    with pytest.raises(OSError), creating(tmp_path / "one") as temporary:
        (temporary / "file").write_text("new")
    assert (tmp_path / "one" / "file").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_a_writer_that_is_killed_leaves_the_old_file_and_folder(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    if (writer := os.fork()) == 0:
        with replacing(path) as half, creating(tmp_path / "one") as folder:
            half.write_text("half")
            (folder / "file").write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitpid(writer, 0)[1] == signal.SIGKILL
    assert path.read_text() == "old" and not (tmp_path / "one").exists()
    assert all(left == path or left.name.startswith(".") for left in tmp_path.iterdir())

import errno
import fcntl
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from storage.errors import InputError
from storage.lock import Lock

HOLD = """
import sys
from pathlib import Path
from storage.lock import Lock
lock = Lock(Path(sys.argv[1]))
print(lock.take(), flush=True)
input()
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of tmp_path/new/lock."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    command = [sys.executable, "-c", HOLD, tmp_path / "new/lock"]
    with subprocess.Popen(command, text=True, cwd=Path(__file__).parents[2], **pipes) as process:
        assert process.stdout.readline() == "None\n"
        yield process
        process.kill()


def test_a_lock_has_one_holder_who_is_named_until_it_is_killed(tmp_path, holder):
    with Lock(tmp_path / "new/lock") as lock:
        for _ in range(2):
            assert lock.take() == f"process {holder.pid} on {socket.gethostname()}"
        holder.kill()
        holder.wait()
        assert lock.take() is None
        assert Lock(lock.path).take() == f"process {os.getpid()} on {socket.gethostname()}"
    assert list((tmp_path / "new").iterdir()) == []


def test_a_block_that_has_not_taken_its_lock_leaves_it_alone(tmp_path, holder):
    with Lock(tmp_path / "new/lock") as lock:
        assert lock.take()
    assert lock.path.exists()


def test_a_lock_whose_folder_was_removed_meanwhile(tmp_path):
    with Lock(tmp_path / "lock") as first:
        assert first.take() is None
        first.path.unlink()
        with Lock(first.path) as second:
            assert second.take() is None
            first.__exit__(None, None, None)
            assert second.path.exists(), "the file is that of the second"


def test_its_holder_has_just_removed_it(tmp_path, monkeypatch):
    """Between open and flock of one process, another releases the lock, and a third one takes it."""
    flock, third = fcntl.flock, Lock(tmp_path / "lock")

    def released_meanwhile(descriptor, how):
        monkeypatch.undo()
        (tmp_path / "lock").unlink()
        assert third.take() is None
        flock(descriptor, how)

    monkeypatch.setattr(fcntl, "flock", released_meanwhile)
    with Lock(tmp_path / "lock") as lock, third:
        assert lock.take() == "another process"
        assert lock.take() == f"process {os.getpid()} on {socket.gethostname()}"


@pytest.mark.parametrize("folder", ["file", "file/new"])
def test_a_file_in_place_of_the_folder(tmp_path, folder):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=f"^{tmp_path}/{folder} is not a folder$"):
        Lock(tmp_path / folder / "lock").take()


@pytest.mark.parametrize(("number", "kind"), [(errno.ENOLCK, InputError), (errno.EIO, OSError)])
def test_a_file_system_without_locks_and_one_that_fails(tmp_path, monkeypatch, number, kind):
    def fails(descriptor, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", fails)
    said = f"{tmp_path / 'lock'} cannot be locked, choose a folder on another file system"
    with pytest.raises(kind, match=re.escape(said) if kind is InputError else "Errno 5"):
        Lock(tmp_path / "lock").take()

"""Locks, which at most one process holds, also where machines share a file system."""

import errno
import fcntl
import os
import socket
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from storage.errors import InputError

NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)


class Lock:
    """The lock of a file that exists for it alone, and that names its holder.

    It is one of flock(2), which the system takes back when its process ends, however it ends. NFS passes it on to the
    server for a file that is open for writing, but not for a folder. The block of a `with` releases it at its end.

    Args:
        path: The file; its folder is created if it does not exist.
    """

    def __init__(self, path: Path):
        self.path = path
        self.descriptor: int | None = None

    def take(self) -> str | None:
        """Take the lock if it is free.

        Returns:
            None if this process holds it now, else who holds it, in words.

        Raises:
            InputError: If the file system has no locks, or the folder is a file.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(f"{self.path.parent} is not a folder") from None
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not self.path.exists() or not os.path.samestat(self.path.stat(), os.fstat(descriptor)):
                raise BlockingIOError  # its holder has just removed it
        except OSError as error:
            holder = os.pread(descriptor, 300, 0).decode(errors="replace")
            os.close(descriptor)
            if error.errno in NO_LOCKS:
                raise InputError(f"{self.path} cannot be locked, choose a folder on another file system") from None
            if not isinstance(error, BlockingIOError):
                raise
            return holder or "another process"
        with suppress(OSError):  # a full disk; who holds the lock is for messages alone
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
        self.descriptor = descriptor
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.descriptor is not None:
            with suppress(FileNotFoundError):
                if os.path.samestat(self.path.stat(), os.fstat(self.descriptor)):
                    self.path.unlink()
            os.close(self.descriptor)
            self.descriptor = None

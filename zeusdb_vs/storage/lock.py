"""The writer lock of a directory: an advisory lock of the kernel on the file ``.lock``.

The kernel lets go of it when its process ends, however it ends, so there is no such thing as a stale lock,
and the file is never deleted: a process that waits on a deleted file would get a lock that nobody else
sees. What the file holds is only the number of the process that has the lock, for the error message.
Readers never lock.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sys
import time
import weakref
from pathlib import Path
from typing import Any

from zeusdb_vs.errors import IndexLockedError, StorageError
from zeusdb_vs.storage import fsio

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"

_POLL_S = 0.02
# Windows locks bytes and keeps others from reading them: lock one far behind those that name the owner.
_WINDOWS_LOCKED_BYTE = 1 << 30
_OWNER = re.compile(rb"zeusdb-vs writer pid (\d{1,19})\n")
_BUSY = {errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK, errno.EDEADLK}

_held: weakref.WeakSet[DirectoryLock] = weakref.WeakSet()


class DirectoryLock:
    """The exclusive right to write into one directory.

    Parameters
    ----------
    directory : Path
        An existing directory, all links resolved.

    Notes ----- After a fork the child's copy of the lock is closed and `is_held` is false there: the child
    must not write. The parent keeps it.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._descriptor = -1

    @property
    def is_held(self) -> bool:
        """Whether this object, in this process, holds the lock."""
        return self._descriptor >= 0

    def acquire(self, timeout_s: float) -> None:
        """Take the lock, waiting at most `timeout_s` seconds (0 or more).

        Raises
        ------
        IndexLockedError
            Someone else has held it all the time; the message names the process.
        StorageError
            The lock file cannot be opened or the file system knows no locks.
        """
        path = self.directory / LOCK
        try:
            descriptor = fsio.open_lock_file(path)
        except OSError as error:
            raise _cannot_lock(path, error) from error
        try:
            self._wait(descriptor, path, timeout_s)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.add(self)
        # Only a courtesy to whoever meets the lock: a full disk must not turn it into an error.
        with contextlib.suppress(OSError):
            _write_owner(descriptor, b"zeusdb-vs writer pid %d\n" % os.getpid())

    def _wait(self, descriptor: int, path: Path, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                _try_lock(descriptor)
                return
            except OSError as error:
                if error.errno not in _BUSY:
                    raise _cannot_lock(path, error) from error
            if time.monotonic() >= deadline:
                raise IndexLockedError(
                    f"{self.directory} is being written by {_owner(descriptor)} "
                    f"(waited {timeout_s:g} s for {path}); wait for it to finish, or open the index read-only"
                )
            time.sleep(min(_POLL_S, max(0.0, deadline - time.monotonic())))

    def release(self) -> None:
        """Give the lock back; does nothing when it is not held."""
        if self._descriptor < 0:
            return
        descriptor, self._descriptor = self._descriptor, -1
        _held.discard(self)
        with contextlib.suppress(OSError):
            _write_owner(descriptor, b"")
        _unlock(descriptor)
        os.close(descriptor)

    def _forget_after_fork(self) -> None:
        # Closing is not unlocking: the parent's descriptor keeps the lock that both were sharing.
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _try_lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _WINDOWS_LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _unlock(descriptor: int) -> None:
    with contextlib.suppress(OSError):
        if sys.platform == "win32":
            os.lseek(descriptor, _WINDOWS_LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _write_owner(descriptor: int, text: bytes) -> None:
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.ftruncate(descriptor, len(text))
    os.write(descriptor, text)


def _owner(descriptor: int) -> str:
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        match = _OWNER.fullmatch(os.read(descriptor, 64))
    except OSError:
        match = None
    if match is None:
        return "another process"
    pid = int(match.group(1))
    return f"this process (pid {pid})" if pid == os.getpid() else f"the process with pid {pid}"


def _cannot_lock(path: Path, error: OSError) -> StorageError:
    wrapped = StorageError(f"{path} cannot be locked: {error.strerror or error}")
    wrapped.errno = error.errno
    return wrapped


def is_lock_of_ours(path: Path) -> bool:
    """Return whether a lock file holds nothing but what we write there: taking it then loses nothing."""
    try:
        with fsio.FileReader(path) as file:
            return file.size == 0 or _OWNER.fullmatch(file.read(0, 64)) is not None
    except FileNotFoundError:
        return True
    except OSError:
        return False


def _after_fork_in_child() -> None:
    locks: list[Any] = list(_held)
    _held.clear()
    for lock in locks:
        lock._forget_after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

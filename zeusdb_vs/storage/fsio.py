"""The only file of the package that touches the file system.

Everything that changes a disk goes through the functions here, each of which announces itself to an
observer first. Tests set one with :func:`observe` to make any operation fail, to end the process at any
operation, or to record what a disk was asked to do. Without an observer the announcement costs one
comparison.

Operations announced, with their arguments: ``mkdir path``, ``create path``, ``write path data position``,
``truncate path size``, ``fsync path``, ``fsync_dir path``, ``replace source target``, ``unlink path``,
``rmdir path``, ``open_lock path``.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import mmap
import os
import stat
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | bytearray | memoryview
Observer = Callable[..., None]

logger = logging.getLogger("zeusdb_vs.storage")

# O_NOFOLLOW: a link in place of a file of ours is never followed. O_NONBLOCK: opening a FIFO must not wait
# for its other end. O_BINARY: Windows would translate line ends.
_COMMON_FLAGS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_READ_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _COMMON_FLAGS
_WRITE_FLAGS = os.O_RDWR | getattr(os, "O_NONBLOCK", 0) | _COMMON_FLAGS

# File systems that have no such thing as an fsync of a directory say so with one of these.
_NO_DIRECTORY_FSYNC = {errno.EINVAL, errno.ENOTSUP, errno.EBADF, errno.ENOSYS}

# Windows refuses to replace a file while a virus scanner or an indexer has it open; they let go within
# moments.
_WINDOWS_REPLACE_PATIENCE_S = 1.0

_observer: Observer | None = None


def _announce(operation: str, *arguments: Any) -> None:
    if _observer is not None:
        _observer(operation, *arguments)


@contextlib.contextmanager
def observe(observer: Observer) -> Iterator[None]:
    """Call `observer(operation, *arguments)` before every change of the disk.

    What it raises stands for the operation's own error.
    """
    global _observer
    previous = _observer
    _observer = observer
    try:
        yield
    finally:
        _observer = previous


class NotRegularFileError(OSError):
    """Something other than a regular file stands where a file of ours belongs."""


def _describe_kind(mode: int) -> str:
    """Return what a path is, in words, from its ``st_mode``."""
    kinds = (
        (stat.S_ISLNK, "a symbolic link"),
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISBLK, "a block device"),
        (stat.S_ISREG, "a regular file"),
    )
    return next((words for is_kind, words in kinds if is_kind(mode)), "of an unknown kind")


def _open_regular(path: Path, flags: int) -> int:
    try:
        before = path.lstat()
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
    else:
        # Looked at before opening as well: opening a device can have effects of its own.
        if not stat.S_ISREG(before.st_mode):
            raise NotRegularFileError(
                errno.EINVAL, f"is {_describe_kind(before.st_mode)}, not a regular file"
            )
    descriptor = os.open(path, flags, 0o666)
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotRegularFileError(errno.EINVAL, f"is {_describe_kind(mode)}, not a regular file")
    return descriptor


class FileReader:
    """A regular file opened for reading; `size` is its length in bytes when it was opened.

    Raises
    ------
    FileNotFoundError
        There is nothing at `path`.
    NotRegularFileError
        There is a link, a directory, a FIFO, a device or a socket; it is not waited for and not followed.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = _open_regular(path, _READ_FLAGS)
        self.size = os.fstat(self._descriptor).st_size

    def read_into(self, target: memoryview, offset: int) -> int:
        """Fill `target` from `offset` on and return how many bytes were there."""
        done = 0
        while done < len(target):
            if sys.platform == "win32":
                os.lseek(self._descriptor, offset + done, os.SEEK_SET)
                piece = os.read(self._descriptor, min(len(target) - done, 1 << 26))
                count = len(piece)
                target[done : done + count] = piece
            else:
                count = os.preadv(self._descriptor, [target[done : done + (1 << 30)]], offset + done)
            if count == 0:
                break
            done += count
        return done

    def read(self, offset: int, count: int) -> bytes:
        """Return up to `count` bytes from `offset` on, none of them behind `size`."""
        target = bytearray(max(0, min(count, self.size - offset)))
        done = self.read_into(memoryview(target), offset)
        return bytes(target[:done])

    def map(self, *, private: bool = False) -> mmap.mmap:
        """Return a memory map of the whole file, which outlives this reader.

        It is read-only, or with `private` one that can be written to: a page that is becomes this process's
        own, the file never changes.
        """
        access = mmap.ACCESS_COPY if private else mmap.ACCESS_READ
        return mmap.mmap(self._descriptor, self.size, access=access)

    def close(self) -> None:
        """Close the file; maps made from it stay valid."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> FileReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close()


class FileWriter:
    """A file being written from its `position` on; a new file unless `existing` is true."""

    def __init__(self, path: Path, *, existing: bool = False) -> None:
        self.path = path
        self._descriptor = -1
        if existing:
            self._descriptor = _open_regular(path, _WRITE_FLAGS)
            self.position = os.lseek(self._descriptor, 0, os.SEEK_END)
        else:
            _announce("create", path)
            self._descriptor = os.open(path, _WRITE_FLAGS | os.O_CREAT | os.O_EXCL, 0o666)
            self.position = 0

    def write(self, data: Buffer) -> None:
        """Write all of `data` at the current position."""
        rest = memoryview(data)
        if rest.nbytes == 0:
            return
        if rest.format != "B" or rest.ndim != 1:
            rest = rest.cast("B")
        _announce("write", self.path, rest, self.position)
        while rest.nbytes:
            count = os.write(self._descriptor, rest[: 1 << 30])
            self.position += count
            rest = rest[count:]

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes and go on writing there."""
        _announce("truncate", self.path, size)
        os.ftruncate(self._descriptor, size)
        self.position = os.lseek(self._descriptor, size, os.SEEK_SET)

    def sync(self) -> None:
        """Force the file's bytes to the disk."""
        _announce("fsync", self.path)
        _fsync(self._descriptor)

    def close(self) -> None:
        """Close the file."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        with contextlib.suppress(OSError, AttributeError):
            self.close()


def _fsync(descriptor: int) -> None:
    if sys.platform == "darwin":
        # On macOS plain fsync leaves the bytes in the drive's own cache.
        try:
            fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
            return
        except OSError as error:
            if error.errno not in (errno.ENOTSUP, errno.EINVAL, errno.ENOTTY):
                raise
    os.fsync(descriptor)


def sync_directory(path: Path) -> None:
    """Force the names in a directory to the disk; does nothing where the system cannot (Windows)."""
    _announce("fsync_dir", path)
    if sys.platform == "win32":
        return
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
        logger.debug("%s: this file system has no fsync of directories", path)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Create one directory."""
    _announce("mkdir", path)
    path.mkdir()


def replace(source: Path, target: Path) -> None:
    """Rename a file over another in one step; on Windows waits up to 1 s for whoever has the target open."""
    _announce("replace", source, target)
    deadline = time.monotonic() + _WINDOWS_REPLACE_PATIENCE_S
    while True:
        try:
            source.replace(target)
            return
        except PermissionError:
            if sys.platform != "win32" or time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def unlink(path: Path) -> None:
    """Remove one name; a missing one is fine."""
    _announce("unlink", path)
    path.unlink(missing_ok=True)


def remove_directory(path: Path) -> None:
    """Remove one empty directory."""
    _announce("rmdir", path)
    path.rmdir()


def entry_names(path: Path) -> list[str]:
    """Return the names in a directory, sorted."""
    return sorted(entry.name for entry in path.iterdir())


def kind_of(path: Path, *, follow: bool = False) -> str | None:
    """Return what stands at `path` in words ("a directory", "a regular file", ...), None if nothing does.

    Links are only followed on request.
    """
    try:
        mode = (path.stat() if follow else path.lstat()).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    return _describe_kind(mode)


def is_directory(path: Path) -> bool:
    """Return whether `path` is a directory itself, not a link to one."""
    return kind_of(path) == "a directory"


def resolve_directory(path: Path) -> Path:
    """Return `path` with every symbolic link followed.

    Raises
    ------
    OSError
        Links go round in a circle, or a part of the path may not be looked at.
    """
    return Path(os.path.realpath(path, strict=False))


def memory_total_bytes() -> int | None:
    """Return the machine's physical memory in bytes, or None where it cannot be told."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None


def open_lock_file(path: Path) -> int:
    """Open or create a lock file, never truncating it, and return its descriptor."""
    _announce("open_lock", path)
    return _open_regular(path, _WRITE_FLAGS | os.O_CREAT)


def create_parents(path: Path) -> Sequence[Path]:
    """Create `path` and what is missing above it; return the directories created, topmost first."""
    missing: list[Path] = []
    current = path
    while kind_of(current, follow=True) is None:
        missing.append(current)
        if current.parent == current:
            break
        current = current.parent
    created = []
    for directory in reversed(missing):
        try:
            make_directory(directory)
        except FileExistsError:
            if kind_of(directory, follow=True) != "a directory":
                raise
        else:
            created.append(directory)
    return created

"""An index's directory: whose it is, where its files stand, and what is to be cleared away."""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

from zeusdb_vs.errors import (
    ArgumentTypeError,
    CorruptIndexError,
    ForeignDirectoryError,
    IndexNotFoundError,
    StorageError,
    ZeusDBError,
)
from zeusdb_vs.storage import fsio
from zeusdb_vs.storage.blocks import FileMismatchError, check_file
from zeusdb_vs.storage.lock import LOCK, is_lock_of_ours
from zeusdb_vs.storage.manifest import (
    FILES,
    MANIFEST,
    MANIFEST_TMP,
    FileEntry,
    Manifest,
    is_manifest_of_ours,
    parse_manifest,
    read_manifest_bytes,
)

logger = logging.getLogger("zeusdb_vs.storage")

_GENERATION_FOLDER = re.compile(r"\.gen-([1-9]\d{0,17})")
_JOURNAL = re.compile(r"journal-(\d{1,18})\.log")
# Neither of ours nor anybody's content: what file systems put into an empty directory.
_NOT_CONTENT = {"lost+found"}


@contextlib.contextmanager
def storage_errors(action: str, path: object) -> Iterator[None]:
    """Turn what the operating system reports into a StorageError with the same errno."""
    try:
        yield
    except ZeusDBError:
        raise
    except OSError as error:
        raise wrapped(f"{action} {path} failed", error) from error
    except MemoryError as error:
        raise StorageError(f"{action} {path} failed: there is not enough memory") from error


def wrapped(message: str, error: OSError) -> StorageError:
    """Return a StorageError with the errno of what the operating system reported."""
    result = StorageError(f"{message}: {error.strerror or error}")
    result.errno = error.errno
    return result


def corrupt(path: Path, reason: str) -> CorruptIndexError:
    """Return the error for a damaged file."""
    return CorruptIndexError(f"{path}: {reason}; restore the directory from a copy")


def as_path(path: str | os.PathLike[str]) -> Path:
    """Return a user's path, checked.

    Raises
    ------
    ArgumentTypeError
        It is not a str or a path-like of str.
    IndexNotFoundError
        It is empty or holds a NUL character: no such path can exist.
    """
    try:
        text = os.fspath(path)
    except TypeError:
        raise ArgumentTypeError(f"path must be str or os.PathLike, not {type(path).__name__}") from None
    if not isinstance(text, str):
        raise ArgumentTypeError(f"path must be str or os.PathLike of str, not of {type(text).__name__}")
    if not text or "\0" in text:
        raise IndexNotFoundError(f"{text!r} is not a path")
    return Path(text)


def existing_directory(path: str | os.PathLike[str]) -> Path:
    """Return the directory that a user's path leads to; IndexNotFoundError if there is none."""
    given = as_path(path)
    directory = fsio.resolve_directory(given)
    kind = fsio.kind_of(directory, follow=True)
    if kind is None:
        raise IndexNotFoundError(f"{given} does not exist")
    if kind != "a directory":
        raise IndexNotFoundError(f"{given} is {kind}, an index is a directory")
    return directory


def prepare_directory(path: str | os.PathLike[str]) -> Path:
    """Return the directory that `path` leads to, created if need be, once it is sure to be ours to write."""
    given = as_path(path)
    directory = fsio.resolve_directory(given)
    kind = fsio.kind_of(directory, follow=True)
    if kind is None and fsio.kind_of(given) is not None:
        raise ForeignDirectoryError(
            f"{given} is a link to {directory}, which does not exist; save to another path"
        )
    if kind not in (None, "a directory"):
        raise ForeignDirectoryError(f"{given} is {kind}; save to another path")
    try:
        created = fsio.create_parents(directory)
    except (FileExistsError, NotADirectoryError):
        raise ForeignDirectoryError(f"a part of {given} is not a directory; save to another path") from None
    # Each new directory is a name in the one above it; the index's own follows when it is saved.
    for new in created[:-1]:
        sync_parent(new)
    committed_manifest(directory)
    return directory


def committed_manifest(directory: Path) -> Manifest | None:
    """Return the manifest of the index in a directory, None if the directory may receive its first one.

    Raises ForeignDirectoryError where anything else stands in it.
    """
    names = fsio.entry_names(directory)
    if MANIFEST in names:
        try:
            data = read_manifest_bytes(directory)
        except CorruptIndexError as error:
            raise ForeignDirectoryError(
                f"{error}, so {directory} is left alone; save to another path"
            ) from None
        if not is_manifest_of_ours(data):
            raise ForeignDirectoryError(
                f"{directory} has a {MANIFEST} that is not one of zeusdb-vs, or no longer readable as one; "
                "save to another path, or remove the directory yourself"
            )
        return parse_manifest(data, directory)
    foreign = [name for name in names if name not in _NOT_CONTENT and not _is_leftover(directory, name)]
    if foreign:
        others = f" and {len(foreign) - 1} more" if len(foreign) > 1 else ""
        raise ForeignDirectoryError(
            f"{directory} is not empty and holds no index (it has {foreign[0]!r}{others}); "
            "save to another path or empty it yourself"
        )
    return None


def _is_leftover(directory: Path, name: str) -> bool:
    """Return whether an entry is what a save that never committed leaves behind."""
    path = directory / name
    if name == LOCK:
        return is_lock_of_ours(path)
    if name == MANIFEST_TMP:
        return fsio.kind_of(path) == "a regular file"
    if _GENERATION_FOLDER.fullmatch(name) and fsio.is_directory(path):
        return all(inner in FILES for inner in fsio.entry_names(path))
    return False


def leftovers(directory: Path) -> list[str]:
    """Return the names that a save which did not run to its end has left in a directory."""
    names = fsio.entry_names(directory)
    return [name for name in names if name == MANIFEST_TMP or _GENERATION_FOLDER.fullmatch(name)]


def generation_folder(directory: Path, generation: int) -> Path:
    """Return where the files of a generation are written, before they move to their names."""
    return directory / f".gen-{generation}"


def generation_folders(directory: Path) -> list[int]:
    """Return the generations that have a folder."""
    matches = (_GENERATION_FOLDER.fullmatch(name) for name in fsio.entry_names(directory))
    return [
        int(match.group(1)) for match in matches if match and fsio.is_directory(directory / match.group(0))
    ]


def journal_generations(directory: Path) -> list[int]:
    """Return the generations that have a journal."""
    matches = (_JOURNAL.fullmatch(name) for name in fsio.entry_names(directory))
    return [int(match.group(1)) for match in matches if match]


def finish_earlier_save(directory: Path, previous: Manifest | None) -> None:
    """Move the committed generation's files to their places and clear away what was never committed."""
    if previous is not None and fsio.is_directory(generation_folder(directory, previous.generation)):
        with _only_logged(directory, "an earlier save could not be finished, the next one will try again"):
            # Its commit may not have been confirmed on disk yet.
            fsio.sync_directory(directory)
            _move_files(directory, previous, only_intact=True)
    _clear(directory, keep=previous)
    if previous is not None and fsio.kind_of(directory / MANIFEST_TMP) == "a regular file":
        with _only_logged(directory, f"{MANIFEST_TMP} could not be removed"):
            fsio.unlink(directory / MANIFEST_TMP)


def roll_forward(directory: Path, manifest: Manifest) -> None:
    """After the commit: put every file under its own name and remove what belongs to earlier generations.

    Nothing in here can harm the save: readers find the files in either place, and the next save goes on
    where this stops.
    """
    with _only_logged(
        directory, "saved; its files could not all be moved to their places, the next save will try again"
    ):
        _move_files(directory, manifest, only_intact=False)
    _clear(directory, keep=manifest)


def _move_files(directory: Path, manifest: Manifest, *, only_intact: bool) -> None:
    folder = generation_folder(directory, manifest.generation)
    failure: OSError | None = None
    for name in fsio.entry_names(folder):
        entry = manifest.files.get(name)
        if entry is None or (only_intact and not _matches(folder / name, entry)):
            continue
        try:
            fsio.replace(folder / name, directory / name)
        except OSError as error:
            failure = error
    if failure is not None:
        raise failure
    fsio.sync_directory(directory)
    fsio.remove_directory(folder)


def _matches(path: Path, entry: FileEntry) -> bool:
    try:
        check_file(path, entry.digest)
    except (FileMismatchError, OSError):
        return False
    return True


def _clear(directory: Path, keep: Manifest | None) -> None:
    """Remove folders, journals and files of ours that `keep`, the committed manifest, has no use for."""
    kept = keep.generation if keep else 0
    for generation in generation_folders(directory):
        if generation != kept:
            _discard_folder(directory, generation)
    for name in fsio.entry_names(directory):
        journal = _JOURNAL.fullmatch(name)
        is_stale = keep is not None and (
            (name in FILES and name not in keep.files) or (journal and int(journal.group(1)) < kept)
        )
        if is_stale:
            with _only_logged(directory, f"{name} could not be removed"):
                fsio.unlink(directory / name)


def _discard_folder(directory: Path, generation: int) -> None:
    folder = generation_folder(directory, generation)
    with _only_logged(directory, f"{folder.name} could not be removed"):
        for name in fsio.entry_names(folder):
            if name in FILES:
                fsio.unlink(folder / name)
        fsio.remove_directory(folder)


def abandon(directory: Path, generation: int) -> None:
    """Clear away a save that failed, unless its manifest did get through: over a network one cannot tell."""
    try:
        committed = committed_manifest(directory)
    except (ZeusDBError, OSError):
        return
    if committed is not None and committed.generation == generation:
        return
    with _only_logged(directory, "a failed save left files behind, the next save will remove them"):
        fsio.unlink(directory / MANIFEST_TMP)
        if fsio.is_directory(generation_folder(directory, generation)):
            _discard_folder(directory, generation)


@contextlib.contextmanager
def _only_logged(directory: Path, consequence: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        logger.warning("%s: %s (%s)", directory, consequence, error)


def sync_parent(directory: Path) -> None:
    """Force a directory's own name to disk."""
    # One may write into a directory without being allowed to open its parent.
    try:
        fsio.sync_directory(directory.parent)
    except PermissionError:
        logger.debug("%s: not allowed to fsync the directory above", directory)

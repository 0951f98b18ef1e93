"""Saving a snapshot into a directory, and reading one back.

A save writes every file into a folder of its own, ``.gen-<generation>``, and then replaces
``manifest.json``: that one rename is the commit. Only afterwards do the files move to the names under which
users know them. Before the commit a reader finds the old manifest and the old files; after it the new
manifest, whose files it takes from whichever of the two places holds the bytes that the manifest describes.
So there is no moment at which a crash, a full disk or a reader in another process can meet anything but one
whole save. docs/format.md describes the directory.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from zeusdb_vs.errors import CorruptIndexError, StorageError
from zeusdb_vs.storage import binary, fsio, lines, strict_json
from zeusdb_vs.storage.binary import BinaryFile
from zeusdb_vs.storage.blocks import CheckedReader, DigestingWriter, FileMismatchError
from zeusdb_vs.storage.contents import (
    ID_BYTES,
    ID_OFFSETS,
    MAX_JSON_BYTES,
    MAX_JSON_DEPTH,
    FileContent,
    JsonFile,
    Snapshot,
)
from zeusdb_vs.storage.directory import (
    abandon,
    committed_manifest,
    corrupt,
    existing_directory,
    finish_earlier_save,
    generation_folder,
    generation_folders,
    journal_generations,
    prepare_directory,
    roll_forward,
    storage_errors,
    sync_parent,
    wrapped,
)
from zeusdb_vs.storage.lines import IdTable, LinesFile
from zeusdb_vs.storage.lock import DirectoryLock
from zeusdb_vs.storage.manifest import (
    CONFIG,
    FILES,
    MANIFEST,
    MANIFEST_TMP,
    MAPPINGS,
    FileEntry,
    Kind,
    Manifest,
    parse_manifest,
    read_manifest_bytes,
)

DEFAULT_LOCK_TIMEOUT_S = 10.0

_CONTENT_OF_KIND: dict[Kind, type] = {Kind.BINARY: BinaryFile, Kind.JSON: JsonFile, Kind.LINES: LinesFile}
# Reading starts over when a save has gone through meanwhile: at least so often, and for so long.
LEAST_READ_ATTEMPTS = 20
READ_PATIENCE_S = 5.0

# ------------------------------------------------------------ writing


def write_snapshot(
    path: str | os.PathLike[str],
    snapshot: Snapshot,
    *,
    lock: DirectoryLock | None = None,
    lock_timeout_s: float = DEFAULT_LOCK_TIMEOUT_S,
    expected_generation: int | None = None,
    generation: int | None = None,
) -> Manifest:
    """Save a snapshot into a directory, wholly or not at all, and return its manifest.

    Parameters
    ----------
    path : str or path-like
        A new path (missing parents are created), an empty directory, a directory that holds an index, or a
        link to one of these. What stands there before is replaced; other files in the directory of an index
        stay.
    snapshot : Snapshot
        Chunk lists and lines are streamed, not collected.
    lock : DirectoryLock, optional
        The directory's lock, already held. Without it the lock is taken for the time of the save.
    lock_timeout_s : float
        How long to wait for the lock.
    expected_generation : int, optional
        Refuse to save when the directory's generation is another one.
    generation : int, optional
        The number of this save, above every one in use; the journal of this number is kept. By default the
        next free one.

    Raises
    ------
    ForeignDirectoryError
        There is a file, a dangling link, or a directory with something other than an index in it; nothing
        was touched.
    IndexLockedError
        Another writer has the directory.
    UnsupportedVersionError, CorruptIndexError
        The directory holds an index of a later format or a damaged manifest, which is not replaced unasked.
    StorageError
        The snapshot cannot be stored, or the system reported an error. What was saved before stands
        untouched, unless the message says that the save is complete but not confirmed on disk.
    """
    with storage_errors("saving to", path):
        files = _Files(snapshot)
        directory = prepare_directory(path)
        with contextlib.ExitStack() as stack:
            if lock is None:
                lock = stack.enter_context(DirectoryLock(directory))
                lock.acquire(lock_timeout_s)
            elif not lock.is_held or lock.directory != directory:
                raise StorageError(
                    f"{directory} cannot be saved to: the lock on it is not held by this process"
                )
            return _save(directory, snapshot, files, expected_generation, generation)


class _Files:
    """A snapshot's files, checked as far as they can be before a disk is touched."""

    def __init__(self, snapshot: Snapshot) -> None:
        contents: dict[str, FileContent] = {CONFIG: JsonFile(snapshot.config), **snapshot.files}
        self._index_uuid = snapshot.index_uuid
        self._sections = {}
        self._json = {}
        self._lines = {}
        for name, content in contents.items():
            spec = FILES.get(name)
            if spec is None or not isinstance(content, _CONTENT_OF_KIND[spec.kind]):
                raise StorageError(
                    f"{name!r} cannot hold {type(content).__name__}; the files are {', '.join(FILES)}"
                )
            if isinstance(content, BinaryFile):
                self._sections[name] = binary.prepare(content, name)
            elif isinstance(content, JsonFile):
                self._json[name] = _encode_json(content.value, name)
            else:
                self._lines[name] = content.values
        mappings = snapshot.files.get(MAPPINGS)
        if not isinstance(mappings, BinaryFile):
            raise StorageError(f"a snapshot must have {MAPPINGS}")
        try:
            self._ids = IdTable(*(_joined(mappings.arrays[name]) for name in (ID_BYTES, ID_OFFSETS)))
        except (KeyError, ValueError) as error:
            raise StorageError(f"{MAPPINGS}: {error}") from None

    def write(self, folder: Path, generation: int) -> dict[str, FileEntry]:
        """Write every file into `folder` and force each to disk."""
        entries = {}
        for name, data in self._json.items():
            with _new_file(folder / name) as file:
                file.write(data)
            entries[name] = FileEntry(file.digest)
        for name, sections in self._sections.items():
            with _new_file(folder / name) as file:
                binary.write(sections, file, generation=generation, index_uuid=self._index_uuid)
            arrays = {section.name: (section.dtype.str, section.shape) for section in sections}
            entries[name] = FileEntry(file.digest, arrays)
        for name, values in self._lines.items():
            with _new_file(folder / name) as file:
                lines.write(values, self._ids, file, empty=FILES[name].empty, file_name=name)
            entries[name] = FileEntry(file.digest)
        return entries


def _joined(value: Any) -> npt.NDArray[Any]:
    return np.concatenate(value) if isinstance(value, (list, tuple)) else np.asarray(value)


def _encode_json(value: Mapping[str, Any], name: str) -> bytes:
    try:
        data = strict_json.encode(dict(value), indent=1, max_depth=MAX_JSON_DEPTH) + b"\n"
    except strict_json.StrictJSONError as error:
        raise StorageError(f"{name} {error}") from None
    if len(data) > MAX_JSON_BYTES:
        raise StorageError(f"{name} would have {len(data)} bytes, at most {MAX_JSON_BYTES} can be read back")
    return data


@contextlib.contextmanager
def _new_file(path: Path) -> Iterator[DigestingWriter]:
    """Create a file for the body of a `with`, then force it to disk."""
    file = DigestingWriter(path)
    try:
        yield file
        file.finish()
    finally:
        file.close()


def _save(
    directory: Path,
    snapshot: Snapshot,
    files: _Files,
    expected_generation: int | None,
    generation: int | None,
) -> Manifest:
    previous = committed_manifest(directory)
    before = previous.generation if previous else 0
    if expected_generation not in (None, before):
        raise StorageError(
            f"{directory} is at generation {before}, this index started from generation "
            f"{expected_generation}: someone else has saved there; open it again"
        )
    finish_earlier_save(directory, previous)
    # Past every folder and journal that is still there: none of them may be taken for this generation's.
    in_use = max([before, *generation_folders(directory)])
    if generation is None:
        generation = 1 + max([in_use, *journal_generations(directory)])
    elif generation <= in_use:
        raise StorageError(f"{directory} cannot be saved as generation {generation}: {in_use} is in use")
    try:
        manifest = _write_generation(directory, snapshot, files, generation)
        _commit(directory, manifest)
    except BaseException:
        abandon(directory, generation)
        raise
    try:
        fsio.sync_directory(directory)
    except OSError as error:
        # The files stay in their folder: should the old manifest come back, the old files must still be
        # there.
        raise wrapped(f"{directory} is saved, but not confirmed on disk", error) from error
    roll_forward(directory, manifest)
    return manifest


def _write_generation(directory: Path, snapshot: Snapshot, files: _Files, generation: int) -> Manifest:
    folder = generation_folder(directory, generation)
    fsio.make_directory(folder)
    entries = files.write(folder, generation)
    fsio.sync_directory(folder)
    fsio.sync_directory(directory)
    sync_parent(directory)
    now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
    return Manifest(
        index_uuid=snapshot.index_uuid,
        generation=generation,
        created_at=snapshot.created_at or now,
        saved_at=now,
        counts=snapshot.counts,
        files=entries,
    )


def _commit(directory: Path, manifest: Manifest) -> None:
    data = manifest.to_bytes()
    if fsio.kind_of(directory / MANIFEST_TMP) is not None:
        fsio.unlink(directory / MANIFEST_TMP)
    with _new_file(directory / MANIFEST_TMP) as file:
        file.write(data)
    fsio.replace(directory / MANIFEST_TMP, directory / MANIFEST)


# ------------------------------------------------------------ reading


def read_manifest(path: str | os.PathLike[str]) -> Manifest:
    """Return the manifest of the index at `path` without looking at its files.

    Raises
    ------
    IndexNotFoundError, UnsupportedVersionError, CorruptIndexError, StorageError
        As `read_snapshot`.
    """
    with storage_errors("reading", path):
        directory = existing_directory(path)
        return parse_manifest(read_manifest_bytes(directory), directory)


def read_snapshot(
    path: str | os.PathLike[str],
    *,
    mmap: bool = False,
    verify: bool = True,
    rebuildable: Collection[str] = (),
    private: Collection[str] = (),
) -> Snapshot:
    """Read the index at `path`; takes no lock and writes nothing.

    Parameters
    ----------
    path : str or path-like
        A directory that `write_snapshot` wrote, or a link to one.
    mmap : bool
        Return arrays and lines that are read-only memory maps instead of copies in memory.
    verify : bool
        False, with `mmap`, leaves the digests of binary files other than ``mappings.bin`` unchecked until
        `Snapshot.verify` is called: files are then matched by index, generation, size and the CRC-32 of
        their headers.

    rebuildable : collection of str
        Names of files that the caller can make again from the others: damage to these is not raised but told
        in `Snapshot.damaged`.
    private : collection of str
        With `mmap`: binary files whose arrays are to be writable; what is written stays in this process.

    Raises
    ------
    IndexNotFoundError
        There is nothing, a file, or a directory without a manifest of ours.
    UnsupportedVersionError
        It was written in a format this version cannot read; the message names both versions.
    CorruptIndexError
        A file is missing, damaged, or something other than a regular file; the message names it and the
        reason.
    StorageError
        The system reported an error, or the index is larger than the memory.
    """
    with storage_errors("reading", path):
        directory = existing_directory(path)
        data = read_manifest_bytes(directory)
        until = time.monotonic() + READ_PATIENCE_S
        for attempt in count():
            try:
                reader = _Reader(directory, parse_manifest(data, directory), mmap, verify, private)
                snapshot = reader.read(rebuildable)
                if snapshot.damaged and read_manifest_bytes(directory) != data:
                    raise CorruptIndexError(f"{directory} was saved to while it was read")
                return snapshot
            except CorruptIndexError:
                # A save that committed meanwhile has moved its own files over those of the manifest in hand.
                again = read_manifest_bytes(directory)
                if again == data:
                    raise
                data = again
            if attempt >= LEAST_READ_ATTEMPTS and time.monotonic() > until:
                raise saved_too_fast(directory, attempt + 1)
            # Not longer from time to time: what is waited for is a gap between saves.
            time.sleep(0.001 * (attempt % 8))
        raise AssertionError("an attempt returns or raises")


def map_file(directory: Path, manifest: Manifest, name: str) -> Mapping[str, Any]:
    """Return the arrays of one binary file of a snapshot that was just written, as read-only memory maps.

    Raises
    ------
    CorruptIndexError
        The file is not the one that the manifest names.
    """
    with storage_errors("mapping", directory):
        return _Reader(directory, manifest, mapped=True, verify=False, private=()).mapped(name)


def saved_too_fast(directory: Path, attempts: int) -> StorageError:
    """Return the error of a reader that saves have overtaken again and again."""
    return StorageError(
        f"{directory} is saved to faster than it can be read: {attempts} attempts were overtaken; try again"
    )


class _Reader:
    """Reads the files of one manifest."""

    def __init__(
        self, directory: Path, manifest: Manifest, mapped: bool, verify: bool, private: Collection[str]
    ) -> None:
        self._directory = directory
        self._manifest = manifest
        self._mapped = mapped
        self._verify = verify
        self._private = private
        self._unverified: dict[str, CheckedReader] = {}
        folder = generation_folder(directory, manifest.generation)
        # The folder first: files only ever move from there to their own names, so no file can be missed in
        # between.
        self._places = [folder, directory] if fsio.is_directory(folder) else [directory]

    def read(self, rebuildable: Collection[str]) -> Snapshot:
        """Read every file; those in `rebuildable` may be damaged."""
        files: dict[str, FileContent] = {}
        damaged: dict[str, str] = {}
        try:
            mappings = self._binary(MAPPINGS)
            ids = self._id_table(mappings)
            files[MAPPINGS] = BinaryFile(mappings)
            for name in self._manifest.files:
                try:
                    if name != MAPPINGS:
                        files[name] = self.file(name, ids)
                except CorruptIndexError as error:
                    if name not in rebuildable:
                        raise
                    damaged[name] = str(error)
        except BaseException:
            for reader in self._unverified.values():
                reader.close()
            raise
        config = files.pop(CONFIG, JsonFile({}))
        assert isinstance(config, JsonFile)
        return Snapshot(
            config=dict(config.value),
            files=files,
            counts=dict(self._manifest.counts),
            index_uuid=self._manifest.index_uuid,
            created_at=self._manifest.created_at,
            manifest=self._manifest,
            damaged=damaged,
            _unverified=list(self._unverified.values()),
        )

    def mapped(self, name: str) -> Mapping[str, Any]:
        """Return the arrays of one binary file, its digests left unchecked."""
        arrays = self._binary(name)
        for reader in self._unverified.values():
            reader.close()
        return arrays

    def file(self, name: str, ids: IdTable) -> FileContent:
        """Read one file."""
        kind = FILES[name].kind
        if kind is Kind.BINARY:
            return BinaryFile(self._binary(name))
        if kind is Kind.JSON:
            return JsonFile(self._json(name))
        return self._lines(name, ids)

    def _matching(self, name: str, read: Callable[[Path], Any]) -> Any:
        """Return what `read` makes of the first place where the file is as the manifest says."""
        reasons = []
        for place in self._places:
            try:
                return read(place / name)
            except FileNotFoundError:
                reasons.append("is missing")
            except fsio.NotRegularFileError as error:
                reasons.append(str(error.strerror))
            except FileMismatchError as error:
                reasons.append(str(error))
        # A file that is there and wrong says more than one that has moved on.
        reason = next((reason for reason in reasons if reason != "is missing"), reasons[0])
        raise corrupt(self._directory / name, reason)

    def _binary(self, name: str) -> Mapping[str, Any]:
        entry = self._manifest.files[name]
        whose: dict[str, Any] = {
            "generation": self._manifest.generation,
            "index_uuid": self._manifest.index_uuid,
        }

        def read(path: Path) -> Mapping[str, Any]:
            if self._mapped:
                arrays = self._map(path, name, entry, whose)
            else:
                arrays = binary.read_arrays(path, entry.digest, **whose)
            found = {key: (array.dtype.str, array.shape) for key, array in arrays.items()}
            if found != entry.arrays:
                raise FileMismatchError(f"holds the arrays {found}, its manifest says {dict(entry.arrays)}")
            return arrays

        result: Mapping[str, Any] = self._matching(name, read)
        return result

    def _map(self, path: Path, name: str, entry: FileEntry, whose: Mapping[str, Any]) -> Mapping[str, Any]:
        reader = CheckedReader(path, entry.digest)
        # What other files are checked against is always verified itself.
        verify = self._verify or name == MAPPINGS
        try:
            arrays = binary.map_arrays(reader, **whose, private=name in self._private)
            if verify:
                reader.finish()
        except BaseException:
            reader.close()
            raise
        if verify:
            reader.close()
        else:
            self._unverified[name] = reader
        return arrays

    def _json(self, name: str) -> Mapping[str, Any]:
        entry = self._manifest.files[name]

        def read(path: Path) -> Mapping[str, Any]:
            if entry.digest.bytes > MAX_JSON_BYTES:
                raise FileMismatchError(f"has {entry.digest.bytes} bytes, at most {MAX_JSON_BYTES} are read")
            with CheckedReader(path, entry.digest) as reader:
                data = bytearray(entry.digest.bytes)
                reader.read_into(memoryview(data))
                reader.finish()
            try:
                value = strict_json.parse(bytes(data), max_depth=MAX_JSON_DEPTH)
            except strict_json.StrictJSONError as error:
                raise FileMismatchError(str(error)) from None
            if not isinstance(value, dict):
                raise FileMismatchError("is not a JSON object")
            return value

        result: Mapping[str, Any] = self._matching(name, read)
        return result

    def _lines(self, name: str, ids: IdTable) -> LinesFile:
        entry, spec = self._manifest.files[name], FILES[name]

        def read(path: Path) -> Iterable[str | None]:
            return lines.read(
                path, entry.digest, ids, empty=spec.empty, opener=spec.opener, mapped=self._mapped
            )

        return LinesFile(self._matching(name, read))

    def _id_table(self, mappings: Mapping[str, Any]) -> IdTable:
        try:
            return IdTable(mappings[ID_BYTES], mappings[ID_OFFSETS])
        except KeyError as error:
            raise corrupt(self._directory / MAPPINGS, f"has no array {error}") from None
        except ValueError as error:
            raise corrupt(self._directory / MAPPINGS, str(error)) from None

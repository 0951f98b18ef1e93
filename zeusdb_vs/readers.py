"""An index read back from its directory: the snapshot, and the journal brought to it; and handles that only read."""

from __future__ import annotations

import logging
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from zeusdb_vs import oplog
from zeusdb_vs.collection import Collection
from zeusdb_vs.errors import JournalDamagedError, StorageError
from zeusdb_vs.snapshots import JOURNALED, AnyCollection, IndexState, read_index
from zeusdb_vs.storage import (
    JournalReplay,
    Manifest,
    Snapshot,
    map_file,
    read_manifest,
    read_with_journal,
)
from zeusdb_vs.storage.directory import (
    existing_directory,
    storage_errors,
)

Lock = AbstractContextManager[bool]

logger = logging.getLogger("zeusdb_vs")

WRITABLE = ("hnsw_index.hnsw.graph",)
"""Files whose arrays change in place; mapped, a page that does becomes this process's own."""
VECTORS = "vectors.bin"
MAPS_BY_DEFAULT = sys.platform != "win32"
"""Windows does not let a file that is mapped be replaced."""


class Reader:
    """What ties a handle to a directory for reading only: takes no lock, writes nothing.

    Attributes
    ----------
    collection, state
        What the handle works on; others after `reload`.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        mmap: bool,
        verify: bool,
        maps_originals: bool = False,
    ) -> None:
        with storage_errors("opening", path):
            self.directory = existing_directory(path)
        self._mmap = mmap
        self._verify = verify
        # Of a quantized index, even where all else is read into memory.
        self._maps_originals = maps_originals
        self._read()

    def _read(self) -> None:
        snapshot, replay = read_directory(self.directory, self._mmap)
        with replay:
            self.collection, self.state = checked_index(
                self.directory, snapshot, Collection, self._mmap, self._verify
            )
            self._calls = replay.calls
            if self._maps_originals and snapshot.manifest is not None:
                map_originals(self.directory, snapshot.manifest, self.collection)
            apply_journal(replay, self.collection, self.state)
        assert snapshot.manifest is not None
        self.generation = snapshot.manifest.generation
        self._index_uuid = self.state.index_uuid

    def reload(self) -> bool:
        """Take in what has been written since; return whether anything has.

        Raises
        ------
        StorageError
            As when opening; what was read before stays.
        """
        with storage_errors("reading", self.directory):
            return self._reload()

    def _reload(self) -> bool:
        manifest = read_manifest(self.directory)
        if (manifest.generation, manifest.index_uuid) == (self.generation, self._index_uuid):
            try:
                if (is_new := self._read_on()) is not None:
                    return is_new
            except (JournalDamagedError, FileNotFoundError):
                # A checkpoint may have gone through meanwhile; if not, reading all raises this again.
                pass
        self._read()
        return True

    def _read_on(self) -> bool | None:
        """Take in the calls that the journal has gained; None where it is not the one that was read."""
        with JournalReplay(self.directory, self.generation, self._index_uuid) as replay:
            if replay.calls < self._calls:
                return None
            is_new = replay.calls > self._calls
            if is_new:
                apply_journal(replay, self.collection, self.state, skip=self._calls)
                self._calls = replay.calls
            return is_new


def apply_journal(replay: JournalReplay, collection: Collection, state: IndexState, *, skip: int = 0) -> int:
    """Bring the calls of a journal behind the first `skip` to an index; return the records they concern."""
    fold = oplog.Fold(collection)
    calls = iter(replay)
    for _ in range(skip):
        next(calls)
    fold.read(calls)
    if fold.generated_ids is not None:
        state.generated_ids = max(state.generated_ids, fold.generated_ids)
    if fold.index_metadata is not None:
        state.metadata = fold.index_metadata
    return fold.records


def map_originals(directory: Path, manifest: Manifest, collection: Collection) -> None:
    """Let a quantized index read its originals from the file they were just saved in, and not from memory."""
    if not (collection.is_quantized and collection.keeps_originals):
        return
    try:
        arrays = map_file(directory, manifest, VECTORS)
    except StorageError as error:
        # Another save has gone through, or the system has no more maps to give: memory has them all.
        logger.info("%s: the original vectors stay in memory: %s", directory, error)
        return
    collection.adopt_originals(arrays["vectors"])


def read_directory(directory: Path, mmap: bool) -> tuple[Snapshot, JournalReplay]:
    """Return the snapshot and the journal of a directory, which the caller closes."""
    # What is mapped is checked against its digests later, beside the making of the index.
    snapshot, replay = read_with_journal(directory, mmap=mmap, verify=not mmap, private=WRITABLE)
    try:
        require_journal(snapshot, replay)
    except BaseException:
        replay.close()
        raise
    return snapshot, replay


def require_journal(snapshot: Snapshot, replay: JournalReplay) -> None:
    """Raise JournalDamagedError where a journal has to be and is not, or has lost even its header."""
    if snapshot.config.get(JOURNALED) is True and not (replay.files and replay.files[0].end):
        raise JournalDamagedError(
            f"{replay.directory}: journal-{replay.generation}.log is missing or cut off at its very beginning, and "
            "with it the changes since the last checkpoint. Restore the directory from a copy, or repair it, "
            "which goes on without them"
        )


def checked_index(
    directory: Path, snapshot: Snapshot, kind: type[AnyCollection], mmap: bool, verify: bool
) -> tuple[AnyCollection, IndexState]:
    """Return the index of a snapshot; mapped files are checked by another thread meanwhile."""
    if not (mmap and verify):
        return read_index(directory, snapshot, kind, mapped=mmap, trusted=mmap)
    with ThreadPoolExecutor(1) as pool:
        verified = pool.submit(snapshot.verify)
        try:
            return read_index(directory, snapshot, kind, mapped=True, trusted=False)
        finally:
            # Which bytes are damaged says more than what was made of them: this error goes first.
            verified.result()

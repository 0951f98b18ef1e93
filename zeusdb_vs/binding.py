"""An index bound to its directory: the lock, the journal and checkpoints. Reading them back is in `readers.py`.

Writes change the collection first and are then written to the journal, under the handle's lock; the wait for
the disk comes after the lock is let go, so that threads share an fsync. A write that was broken off between
the two leaves memory ahead of the journal: the next write then begins with a checkpoint, which stores memory
as it is.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs import oplog
from zeusdb_vs.collection import Collection, Document
from zeusdb_vs.errors import IndexNotFoundError, ReadOnlyError, StorageError, ZeusDBError
from zeusdb_vs.inputs import RecordBatch
from zeusdb_vs.parts import CollectionConfig
from zeusdb_vs.quantization_config import QuantizationConfig
from zeusdb_vs.readers import apply_journal, checked_index, map_originals, read_directory
from zeusdb_vs.snapshots import IndexState, take_snapshot
from zeusdb_vs.storage import (
    DirectoryLock,
    Durability,
    Journal,
    Manifest,
    read_manifest,
    write_snapshot,
)
from zeusdb_vs.storage.directory import (
    as_path,
    committed_manifest,
    prepare_directory,
    storage_errors,
)
from zeusdb_vs.storage.manifest import MANIFEST
from zeusdb_vs.upkeep import UNCHANGED, Unchanged

Lock = AbstractContextManager[bool]

logger = logging.getLogger("zeusdb_vs")

CHECKPOINT_BYTES = 64 << 20
CHECKPOINT_SHARE = 0.25
"""A checkpoint follows when the journal has this many bytes and is this large a part of the snapshot."""
CHECKPOINT_RECORDS = 10_000
CHECKPOINT_RECORD_SHARE = 0.05
"""Or when so many records and such a share of all are only in the journal: opening has to link them."""


class JournaledCollection(Collection):
    """A collection that hands each change to a recorder once it is made.

    Attributes
    ----------
    binding : Binding or None
        Who records; None while the journal itself is being read.
    """

    binding: Binding | None = None

    def add(self, batch: RecordBatch, *, progress: Callable[[int], None] | None = None) -> None:
        """As `Collection.add`, journaled."""
        if self.binding is None:
            super().add(batch, progress=progress)
            return
        with self.binding.recording() as record:
            was_quantized, first = self.is_quantized, self.view.n
            super().add(batch, progress=progress)
            if self.is_quantized and not was_quantized:
                # Stored as a whole, and not journaled: no original that is to be dropped may reach the disk.
                self.binding.want_checkpoint()
                return
            stored = batch
            if not self.keeps_originals:
                stored = replace(batch, coded=self._codes_of(batch, first))
            record(oplog.added(stored, self.binding.state.generated_ids), len(batch))

    def _codes_of(self, batch: RecordBatch, first: int) -> NDArray[np.uint8]:
        """Return what is kept of the vectors of a batch that was just added, at the slots from `first` or compacted."""
        if self.view.n == first + len(batch):
            return self.coded_rows(first, first + len(batch))
        slots = [self.view.find(name) for name in batch.ids]
        return self.coded_rows(slots[0], slots[-1] + 1)

    def remove(self, slots: NDArray[np.integer]) -> None:
        """As `Collection.remove`, journaled."""
        if self.binding is None:
            super().remove(slots)
            return
        names = self.view.names
        ids = [names[slot] for slot in slots.tolist()]
        with self.binding.recording() as record:
            super().remove(slots)
            record(oplog.removed(ids), len(ids))

    def update(
        self,
        slots: NDArray[np.integer],
        *,
        metadata: Sequence[str | None] | None = None,
        text: Sequence[str | None] | None = None,
        payload: Sequence[str | None] | None = None,
        new: Sequence[Document] = (),
    ) -> None:
        """As `Collection.update`, journaled."""
        given = {"metadata": metadata, "text": text, "payload": payload}
        if self.binding is None:
            super().update(slots, **given, new=new)
            return
        names = self.view.names
        ids = [names[slot] for slot in slots.tolist()]
        with self.binding.recording() as record:
            super().update(slots, **given, new=new)
            columns = {name: texts for name, texts in given.items() if texts is not None}
            record(oplog.updated(ids, columns), len(ids))

    def clear(self) -> int:
        """As `Collection.clear`, journaled."""
        if self.binding is None:
            return super().clear()
        with self.binding.recording() as record:
            count = super().clear()
            record(oplog.cleared(), count)
        return count

    def compact(self) -> int:
        """As `Collection.compact`; it copies the originals that a quantized index reads from its file."""
        removed = super().compact()
        if removed and self.binding is not None and self.is_quantized and self.keeps_originals:
            self.binding.want_maps()
        return removed

    def rebuild(
        self,
        *,
        m: int | None = None,
        ef_construction: int | None = None,
        expected_size: int | None = None,
        quantization: QuantizationConfig | Unchanged | None = UNCHANGED,
    ) -> int:
        """As `Collection.rebuild`; parameters are not journaled, so a checkpoint has to follow."""
        count = super().rebuild(
            m=m, ef_construction=ef_construction, expected_size=expected_size, quantization=quantization
        )
        if self.binding is not None:
            self.binding.want_checkpoint()
        return count


class Binding:
    """What ties one handle to a directory for writing. `open_writer` makes it.

    Attributes
    ----------
    directory : Path
        All links resolved.
    generation : int
        Of the last checkpoint.
    collection, state
        What the handle works on.
    """

    def __init__(
        self,
        lock: DirectoryLock,
        journal: Journal,
        collection: JournaledCollection,
        state: IndexState,
        manifest: Manifest,
        records: int,
        maps: bool,
    ) -> None:
        self.directory = lock.directory
        self.generation = manifest.generation
        self.collection = collection
        self.state = state
        self._lock = lock
        self._journal = journal
        self._snapshot_bytes = _bytes_of(manifest)
        self._records = records
        self._maps = maps
        self._journaled_bytes = journal.size_bytes
        self._broken_off = 0
        self._ticket: int | None = None
        self._saving = threading.Lock()
        self._checkpointer: threading.Thread | None = None
        self._next_attempt = 1.0
        self._is_wanted = False
        self._wants_maps = False
        collection.binding = self

    def is_at(self, path: str | os.PathLike[str]) -> bool:
        """Return whether a path leads to this directory."""
        return os.path.realpath(as_path(path)) == str(self.directory)

    # ------------------------------------------------------------------------------------------ writing

    def begin(self) -> bool:
        """Say whether a write may begin now; the handle's lock is held. False: after a checkpoint.

        Raises
        ------
        ReadOnlyError
            An earlier write failed on disk, or this is a forked child.
        """
        if not self._lock.is_held:
            raise ReadOnlyError(
                f"{self.directory} belongs to another process, from which this one was forked: here the index "
                "can only be read; open it in the process that writes"
            )
        self._journal.check_usable()
        self._ticket = None
        return self._broken_off == 0

    @contextmanager
    def recording(self) -> Iterator[Callable[[list[oplog.Change], int], None]]:
        """Make a change and record it; yields the call that does the latter."""
        is_recorded = False

        def record(changes: list[oplog.Change], records: int) -> None:
            nonlocal is_recorded
            before = self._journal.size_bytes
            self._ticket = self._journal.append(changes)
            is_recorded = True
            self._journaled_bytes += self._journal.size_bytes - before
            self._records += records

        try:
            with storage_errors("journaling to", self.directory):
                yield record
        except BaseException:
            if not is_recorded:
                self._broken_off += 1
            raise

    def record_index_metadata(self, text: str) -> None:
        """Journal the index's own metadata, which is `text` as JSON now."""
        with self.recording() as record:
            record(oplog.index_metadata_set(text), 0)

    def want_checkpoint(self) -> None:
        """Store the index as it is as soon as the handle's lock is free: the journal does not tell what changed."""
        self._is_wanted = True
        self._broken_off += 1

    def want_maps(self) -> None:
        """Let a checkpoint follow after which originals are read from the disk again."""
        self._wants_maps = self._maps

    def ticket(self) -> int | None:
        """Return what the write that holds the handle's lock has to wait for, None if nothing was written."""
        return self._ticket

    def settle(self, ticket: int | None, lock: Lock) -> None:
        """Return when a write is as durable as was asked for; start a checkpoint when one is due.

        Raises
        ------
        StorageError
            The fsync failed, and the handle can only be read from now on.
        """
        if ticket is not None:
            self._journal.wait(ticket)
        if self._is_wanted:
            self.checkpoint(lock)
        elif self._is_due():
            self._start_checkpoint(lock)

    def flush(self) -> None:
        """Force everything written so far to disk."""
        with storage_errors("flushing", self.directory):
            self._journal.flush()

    # ------------------------------------------------------------------------------------------ checkpoints

    def checkpoint(self, lock: Lock) -> None:
        """Save the index where it is and begin a new journal; searches and writes go on meanwhile.

        Parameters
        ----------
        lock : reentrant lock
            The handle's, not held by this thread.

        Raises
        ------
        StorageError
            The directory is as it was, or, if the message says so, saved and not confirmed on disk. No
            change is lost in either case.
        """
        with self._saving:
            with lock:
                self.begin()
                generation = self._journal.generation + 1
                broken_off = self._broken_off
                with storage_errors("saving to", self.directory):
                    self._journal.rotate(generation)
                before = (self._records, self._journaled_bytes)
                snapshot = take_snapshot(self.collection, self.state, journaled=True)
                numbering = self.collection.numbering  # of what was saved: taking it may compact
                self._is_wanted = self._wants_maps = False
            try:
                manifest = write_snapshot(
                    self.directory,
                    snapshot,
                    lock=self._lock,
                    expected_generation=self.generation,
                    generation=generation,
                )
            except StorageError:
                if read_manifest(self.directory).generation == generation:  # saved, but not confirmed
                    self.generation = generation
                raise
            with lock:
                self.generation = generation
                self.state.created_at = manifest.created_at
                self._snapshot_bytes = _bytes_of(manifest)
                self._records -= before[0]
                self._journaled_bytes -= before[1]
                self._broken_off -= broken_off
                self._next_attempt = 1.0
                if self._maps and self.collection.numbering == numbering:
                    map_originals(self.directory, manifest, self.collection)
        logger.info("checkpoint of %d records in %s", snapshot.counts["records"], self.directory)

    def _is_due(self) -> bool:
        most_bytes = max(CHECKPOINT_BYTES, CHECKPOINT_SHARE * self._snapshot_bytes)
        most_records = max(CHECKPOINT_RECORDS, CHECKPOINT_RECORD_SHARE * self.collection.view.live_count)
        return self._wants_maps or (
            self._journaled_bytes >= most_bytes * self._next_attempt
            or self._records >= most_records * self._next_attempt
        )

    def _start_checkpoint(self, lock: Lock) -> None:
        if self._checkpointer is not None and self._checkpointer.is_alive():
            return
        self._checkpointer = threading.Thread(
            target=self._checkpoint_quietly, args=(lock,), name="zeusdb-vs-checkpoint", daemon=True
        )
        self._checkpointer.start()

    def _checkpoint_quietly(self, lock: Lock) -> None:
        try:
            self.checkpoint(lock)
        except (ZeusDBError, OSError) as error:
            # Nothing is lost: the journal goes on. The next attempt waits until it has grown again.
            self._next_attempt *= 2
            logger.warning("%s: a checkpoint failed, the journal goes on: %s", self.directory, error)

    # ------------------------------------------------------------------------------------------ the end

    def close(self) -> None:
        """Force everything to disk and give the directory back; does nothing the second time."""
        checkpointer = self._checkpointer
        if (
            checkpointer is not None
            and checkpointer.is_alive()
            and checkpointer is not threading.current_thread()
        ):
            checkpointer.join()
        self.collection.binding = None
        try:
            with storage_errors("closing", self.directory):
                self._journal.close()
        finally:
            self._lock.release()


def open_writer(
    path: str | os.PathLike[str],
    *,
    create: Callable[[], tuple[CollectionConfig, IndexState]] | None,
    durability: Durability,
    interval_s: float,
    lock_timeout_s: float,
    mmap: bool,
    verify: bool,
) -> Binding:
    """Open a directory for writing, or make an index in it.

    Parameters
    ----------
    create : callable or None
        Says what a new index is to be, where there is none; None: there has to be one.

    Raises
    ------
    IndexLockedError
        Another handle is writing.
    StorageError
        Of the class that says why the directory cannot be opened.
    """
    if create is None:
        read_manifest(path)
    elif not (as_path(path) / MANIFEST).exists():
        create()  # options that will not do are refused before anything is made
    with storage_errors("opening", path):
        directory = prepare_directory(path)
        lock = DirectoryLock(directory)
        lock.acquire(lock_timeout_s)
        try:
            if committed_manifest(directory) is None:
                if create is None:
                    raise IndexNotFoundError(f"{os.fspath(path)} holds no index")
                config, state = create()
                write_snapshot(directory, take_snapshot(Collection(config), state), lock=lock)
            snapshot, replay = read_directory(directory, mmap)
            with replay:
                collection, state = checked_index(directory, snapshot, JournaledCollection, mmap, verify)
                records = apply_journal(replay, collection, state)
                journal = Journal(replay, durability=durability, interval_s=interval_s)
            assert snapshot.manifest is not None
            return Binding(lock, journal, collection, state, snapshot.manifest, records, mmap)
        except BaseException:
            lock.release()
            raise


def _bytes_of(manifest: Manifest) -> int:
    return sum(entry.digest.bytes for entry in manifest.files.values())

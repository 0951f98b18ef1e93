"""Writing the journal: calls appended whole, and threads that wait for the disk together."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
import zlib
from collections.abc import Sequence
from typing import Literal

from zeusdb_vs.errors import ReadOnlyError, StorageError
from zeusdb_vs.storage import fsio
from zeusdb_vs.storage.frames import (
    COMMIT,
    COMMIT_KIND,
    FRAME,
    MARK,
    MAX_PAYLOAD_BYTES,
    commit_seed,
    header_bytes,
    journal_path,
    padding,
)
from zeusdb_vs.storage.replay import JournalReplay, ScannedJournal

logger = logging.getLogger("zeusdb_vs.storage")

Durability = Literal["always", "interval", "never"]
Payload = fsio.Buffer | Sequence[fsio.Buffer]

# Part of an fsync's time that the next one waits for threads to join it.
_PATIENCE = 0.4

_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


class Journal:
    """The journal of an index that is open for writing.

    `append` puts a call into the file; `wait` returns when it is as durable as was asked for. Between the
    two the caller can let go of its own locks, so that threads which wait together share one fsync.

    Parameters
    ----------
    replay : JournalReplay
        What was read when the index was opened. A torn tail is cut off here, and the cut forced to disk,
        before anything is appended.
    durability : "always", "interval" or "never"
        When calls are forced to disk: before `wait` returns; every `interval_s` seconds by a thread of the
        journal; or only by `flush` and by the operating system. In all three cases a call survives the end
        of the process, however it ends.
    interval_s : float
        For "interval", in seconds.

    Raises
    ------
    OSError
        The journal cannot be made ready.

    Notes
    -----
    After a failed write or fsync nothing can be said of what is on disk: every further call
    raises ReadOnlyError. The caller must hold the directory's lock. In a forked child the journal is
    closed.
    """

    def __init__(
        self, replay: JournalReplay, *, durability: Durability = "always", interval_s: float = 0.1
    ) -> None:
        self._directory = replay.directory
        self._index_uuid = replay.index_uuid
        self._durability: Durability = durability
        self._renew_conditions()
        self._is_syncing = False
        # Tickets of threads whose call is not on disk yet.
        self._waiting: list[int] = []
        self._expected = 1
        self._last_sync_s = 0.0
        self._failure: BaseException | None = None
        self._is_closed = False
        self._has_news = False
        for path in replay.unreachable:
            fsio.unlink(path)
        last = replay.files[-1] if replay.files else None
        self.generation = last.generation if last else replay.generation
        self._sequence = last.next_sequence if last else 0
        if last is None or last.end == 0:
            self._start_file(self.generation)
        else:
            self._continue_file(last)
        self._synced_sequence = self._sequence
        self._known_offset = self._file.position
        self._stop_timer = threading.Event()
        if durability == "interval":
            threading.Thread(
                target=_sync_regularly, args=(weakref.ref(self), self._stop_timer, interval_s), daemon=True
            ).start()
        _open_journals.add(self)

    def _renew_conditions(self) -> None:
        lock = threading.RLock()
        self._condition = threading.Condition(lock)
        # On the same lock: whoever is about to sync hears of threads that join, the others need not.
        self._joined = threading.Condition(lock)

    def _start_file(self, generation: int) -> None:
        path = journal_path(self._directory, generation)
        if fsio.kind_of(path) is not None:
            # Its header was torn, so nothing was ever appended.
            fsio.unlink(path)
        file = fsio.FileWriter(path)
        try:
            header = header_bytes(generation, self._index_uuid, self._sequence)
            file.write(header)
            file.sync()
            fsio.sync_directory(self._directory)
        except BaseException:
            file.close()
            raise
        self._file = file
        self._chain = zlib.crc32(header)
        self._seed = commit_seed(generation, self._index_uuid)
        self.generation = generation

    def _continue_file(self, last: ScannedJournal) -> None:
        file = fsio.FileWriter(last.path, existing=True)
        try:
            if file.position != last.end:
                logger.info("%s: dropping a torn tail of %d bytes", last.path, file.position - last.end)
                file.truncate(last.end)
            # Also what an earlier process wrote and never forced out.
            file.sync()
        except BaseException:
            file.close()
            raise
        self._file = file
        self._chain = last.chain
        self._seed = commit_seed(last.generation, self._index_uuid)

    @property
    def size_bytes(self) -> int:
        """Length of the current journal file."""
        return self._file.position

    def append(self, records: Sequence[tuple[int, Payload]]) -> int:
        """Write one call and return its ticket for `wait`.

        Parameters
        ----------
        records : sequence of (kind, payload)
            `kind` 1..255; the payload is bytes, or a sequence of them that is written as if joined, at most
            1 GiB.

        Raises
        ------
        OSError
            The write failed; the call is not there and the journal takes no more.
        ReadOnlyError
            An earlier write failed, or the journal is closed.
        """
        with self._condition:
            self.check_usable()
            sequence, chain = self._sequence, self._chain
            parts: list[fsio.Buffer] = []
            for kind, payload in records:
                frame, chain = _frame(kind, payload, sequence, chain)
                parts += frame
                sequence += 1
            start = self._file.position
            commit, chain = self._commit(sequence, chain, start + sum(map(_length, parts)))
            try:
                _write_parts(self._file, [*parts, commit])
            except OSError as error:
                self._fail(error)
                raise
            except BaseException as error:
                # An interrupt: nothing is wrong with the disk, so take back what got there.
                try:
                    self._file.truncate(start)
                except OSError:
                    self._fail(error)
                raise
            self._has_news = True
            self._sequence, self._chain = sequence + 1, chain
            return self._sequence

    def _commit(self, sequence: int, chain: int, offset: int) -> tuple[bytes, int]:
        head = FRAME.pack(MARK, 0, COMMIT_KIND, COMMIT.size, sequence)
        body = COMMIT.pack(offset, self._known_offset, self._sequence, 0, 0)
        body = COMMIT.pack(
            offset, self._known_offset, self._sequence, zlib.crc32(head[8:] + body[:24], self._seed), 0
        )
        chain = zlib.crc32(body, zlib.crc32(head[8:], chain))
        return FRAME.pack(MARK, chain, COMMIT_KIND, COMMIT.size, sequence) + body, chain

    def wait(self, ticket: int) -> None:
        """Return when the call of `ticket` is as durable as the journal promises.

        Raises
        ------
        StorageError
            The fsync failed: the call may or may not be there after a crash.
        """
        if self._durability == "always":
            self._sync_up_to(ticket)

    def flush(self) -> None:
        """Force everything appended so far to disk."""
        self._sync_up_to(self._sequence)

    def _sync_up_to(self, ticket: int) -> None:
        condition = self._condition
        with condition:
            self._waiting.append(ticket)
            try:
                self._joined.notify()
                while self._synced_sequence < ticket:
                    if self._failure is not None:
                        raise self._not_durable() from self._failure
                    if self._is_closed:
                        raise ReadOnlyError(f"{self._file.path} is closed")
                    if self._is_syncing:
                        condition.wait()
                    else:
                        self._sync_for_all()
            finally:
                if ticket in self._waiting:
                    self._waiting.remove(ticket)

    def _sync_for_all(self) -> None:
        """Force out what all threads have appended; lets go of the condition, which is held, meanwhile."""
        condition = self._condition
        self._is_syncing = True
        # The threads that the last fsync set free are on their way with their next call: a moment's patience
        # takes them along, otherwise half of them would miss each fsync.
        patience = time.monotonic() + _PATIENCE * self._last_sync_s
        while len(self._waiting) < self._expected and (left := patience - time.monotonic()) > 0:
            self._joined.wait(left)
        file, sequence, offset = self._file, self._sequence, self._file.position
        started = time.monotonic()
        is_synced = False
        condition.release()
        try:
            file.sync()
            is_synced = True
        except OSError as error:
            self._fail(error)
        finally:
            condition.acquire()
            self._is_syncing = False
            self._last_sync_s = time.monotonic() - started
            # Those that are set free now and those that came meanwhile: else two groups would take turns.
            self._expected = len(self._waiting)
            if is_synced:
                self._synced_sequence, self._known_offset = sequence, offset
                self._waiting = [ticket for ticket in self._waiting if ticket > sequence]
            condition.notify_all()

    def rotate(self, generation: int) -> None:
        """Go on in the journal of a generation that is about to be saved.

        Everything before is forced to disk, whatever the durability.
        """
        with self._condition:
            while self._is_syncing:
                self._condition.wait()
            self.check_usable()
            old = self._file
            try:
                old.sync()
                self._start_file(generation)
            except BaseException as error:
                self._fail(error)
                raise
            self._synced_sequence, self._known_offset = self._sequence, self._file.position
            self._has_news = False
            old.close()

    def close(self) -> None:
        """Force everything to disk and close; does nothing the second time.

        A last commit frame tells the next reader that all before it is on disk.
        """
        with self._condition:
            while self._is_syncing:
                self._condition.wait()
            if self._is_closed:
                return
            try:
                if self._has_news and self._failure is None:
                    self._file.sync()
                    self._synced_sequence, self._known_offset = self._sequence, self._file.position
                    self._synced_sequence = self.append([])
                    self._file.sync()
            finally:
                self._stop_timer.set()
                self._is_closed = True
                self._file.close()
                _open_journals.discard(self)

    def _not_durable(self) -> StorageError:
        error = StorageError(f"{self._file.path}: changes could not be forced to disk: {self._failure}")
        error.errno = getattr(self._failure, "errno", None)
        return error

    def check_usable(self) -> None:
        """Raise ReadOnlyError if nothing more can be appended."""
        if self._is_closed:
            raise ReadOnlyError(f"{self._file.path} is closed")
        if self._failure is not None:
            raise ReadOnlyError(
                f"{self._file.path}: an earlier change could not be written ({self._failure}), so what is on "
                "disk is not known; the index can only be read until it is opened again"
            ) from self._failure

    def _fail(self, error: BaseException) -> None:
        self._failure = self._failure or error

    def _forget_after_fork(self) -> None:
        # Locks may be held by threads that do not exist in the child.
        self._renew_conditions()
        self._is_syncing = False
        self._is_closed = True
        self._file.close()


def _length(part: fsio.Buffer) -> int:
    return memoryview(part).nbytes


def _frame(kind: int, payload: Payload, sequence: int, chain: int) -> tuple[list[fsio.Buffer], int]:
    parts: list[fsio.Buffer] = (
        [payload] if isinstance(payload, (bytes, bytearray, memoryview)) else [*payload]
    )
    length = sum(map(_length, parts))
    if not 1 <= kind <= 255 or length > MAX_PAYLOAD_BYTES:
        raise StorageError(
            f"a journal record of kind {kind} with {length} bytes; kinds are 1..255, one holds at most "
            f"{MAX_PAYLOAD_BYTES} bytes"
        )
    parts.append(bytes(padding(length)))
    head = FRAME.pack(MARK, 0, kind, length, sequence)
    chain = zlib.crc32(head[8:], chain)
    for part in parts:
        chain = zlib.crc32(part, chain)
    return [FRAME.pack(MARK, chain, kind, length, sequence), *parts], chain


def _write_parts(file: fsio.FileWriter, parts: Sequence[fsio.Buffer]) -> None:
    """Write small parts joined and large ones as they are."""
    small: list[fsio.Buffer] = []
    for part in parts:
        if _length(part) < 1 << 16:
            small.append(part)
        else:
            file.write(b"".join(small))
            file.write(part)
            small = []
    file.write(b"".join(small))


def _sync_regularly(reference: weakref.ref[Journal], stop: threading.Event, interval_s: float) -> None:
    while not stop.wait(interval_s):
        journal = reference()
        if journal is None:
            return
        try:
            journal.flush()
        except OSError as error:
            logger.error("the journal could not be forced to disk: %s", error)
            return
        except ReadOnlyError:
            return
        del journal


def _after_fork_in_child() -> None:
    for journal in list(_open_journals):
        journal._forget_after_fork()
    _open_journals.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)

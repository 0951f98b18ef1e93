"""The journal: what has changed since the snapshot, call by call, so that restarting costs what changed.

A journal is a header and frames. Each frame holds one opaque record and a CRC-32 chained over the frame
before it, so that a frame lost, repeated or moved shows at the next one. A commit frame ends each call:
after a crash a call is there wholly or not at all.

Pages that were not forced to disk may reach it in any order, so after a power loss good frames can follow
bad ones and mean nothing. What tells an ordinary torn tail from damage are the commit frames: each one says
up to where the journal was known to be on disk when it was written, under a CRC-32 of its own that needs no
chain. A call that is unreadable below the highest such point was acknowledged as durable and is damage;
above it is a tail to be dropped.

Layout, all little-endian (docs/format.md has the tables)::

    header   64 bytes   magic, version, generation, index uuid, first sequence number, crc
    frame    32 bytes   mark, chained crc, kind, length, sequence number;
                        then the payload, padded to 8 bytes
    commit              a frame of kind 0 with the payload: its own offset, the offset known to be on disk,
                        the first sequence number of the call, crc
"""

from __future__ import annotations

import logging
import os
import re
import struct
import threading
import time
import weakref
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from uuid import UUID

from zeusdb_vs.errors import JournalDamagedError, ReadOnlyError, StorageError
from zeusdb_vs.storage import fsio

logger = logging.getLogger("zeusdb_vs.storage")

Durability = Literal["always", "interval", "never"]
Payload = fsio.Buffer | Sequence[fsio.Buffer]

HEADER_BYTES = 64
MAX_PAYLOAD_BYTES = 1 << 30

_MAGIC = b"ZVSJNL\r\n"
_VERSION = 1
_HEADER = struct.Struct("<8sH6xQ16sQ12xI")
_MARK = b"ZVSF"
# mark, chained crc | kind, length, sequence number: the chained CRC covers what stands behind the bar and
# the payload.
_FRAME = struct.Struct("<4sIB7xQQ")
_COMMIT_KIND = 0
_COMMIT = struct.Struct("<QQQII")
_COMMIT_BYTES = _FRAME.size + _COMMIT.size
_NAME = re.compile(r"journal-(\d{1,18})\.log")
_WINDOW_BYTES = 1 << 20

# Part of an fsync's time that the next one waits for threads to join it.
_PATIENCE = 0.2

_open_journals: weakref.WeakSet[Journal] = weakref.WeakSet()


def journal_path(directory: Path, generation: int) -> Path:
    """Return where the changes since `generation` stand."""
    return directory / f"journal-{generation}.log"


def _padding(length: int) -> int:
    return -length % 8


def _header(generation: int, index_uuid: UUID, first_sequence: int) -> bytes:
    head = _HEADER.pack(_MAGIC, _VERSION, generation, index_uuid.bytes, first_sequence, 0)
    return head[:-4] + zlib.crc32(head[:-4]).to_bytes(4, "little")


def _commit_seed(generation: int, index_uuid: UUID) -> int:
    """Start of the CRC of commit frames: one of another journal, or one in a user's data, must not pass."""
    return zlib.crc32(index_uuid.bytes + generation.to_bytes(8, "little"))


# ------------------------------------------------------------ reading


@dataclass(slots=True)
class ScannedJournal:
    """What one journal file holds: every whole call, and where the next one would go.

    Attributes
    ----------
    end : int
        Offset behind the last whole call; 0 if not even the header is whole.
    size : int
        Length of the file; `size - end` bytes are a torn tail.
    first_sequence, next_sequence : int
        Sequence numbers of the first frame and of the one to come.
    chain : int
        CRC-32 that the next frame continues.
    calls : list of list of (kind, offset, length)
        Where the payloads stand.
    damage : str or None
        Why calls that were known to be on disk cannot be read; only with `repair`, otherwise it is raised.
    file : FileReader
        The journal, held open: the payloads stay readable when a checkpoint removes its name.
    """

    path: Path
    generation: int
    end: int = 0
    size: int = 0
    first_sequence: int = 0
    next_sequence: int = 0
    chain: int = 0
    calls: list[list[tuple[int, int, int]]] = field(default_factory=list)
    damage: str | None = None
    file: fsio.FileReader | None = None


class _Window:
    """Reads a file front to back in large pieces; small requests are slices of the last piece."""

    def __init__(self, file: fsio.FileReader) -> None:
        self._file = file
        self._start = 0
        self._data = memoryview(b"")

    def get(self, offset: int, count: int) -> memoryview:
        begin = offset - self._start
        if begin < 0 or begin + count > len(self._data):
            self._start, begin = offset, 0
            self._data = memoryview(self._file.read(offset, max(count, _WINDOW_BYTES)))
        return self._data[begin : begin + count]


def scan_journal(path: Path, generation: int, index_uuid: UUID, *, repair: bool = False) -> ScannedJournal:
    """Check a journal from its first byte to its last and return what it holds.

    Parameters
    ----------
    repair : bool
        Treat damage as if the journal had ended before it, and say so in `damage`.

    Raises
    ------
    JournalDamagedError
        A call known to be on disk cannot be read, or the journal is another index's.
    FileNotFoundError
        There is none.
    """
    result = ScannedJournal(path, generation)
    try:
        file = fsio.FileReader(path)
    except fsio.NotRegularFileError as error:
        raise JournalDamagedError(f"{path} {error.strerror}") from None
    result.file, result.size = file, file.size
    window = _Window(file)
    known, reason = 0, _check_header(window, result, generation, index_uuid)
    seed = _commit_seed(generation, index_uuid)
    if reason is None:
        known, reason = _read_frames(window, result, seed)
    if result.end < result.size:
        known = max(known, _known_on_disk(window, result, seed))
    if result.end < known:
        damage = (
            f"{path} is damaged: {reason}, but everything up to byte {known} was known to be on disk. "
            f"{len(result.calls)} calls before it are whole; restore the directory from a copy, or repair it "
            "by dropping everything from there on"
        )
        if not repair:
            raise JournalDamagedError(damage)
        result.damage = damage
    return result


def _check_header(window: _Window, result: ScannedJournal, generation: int, index_uuid: UUID) -> str | None:
    header = bytes(window.get(0, HEADER_BYTES))
    if len(header) < HEADER_BYTES:
        return "its header is cut off"
    magic, version, file_generation, file_uuid, first_sequence, _ = _HEADER.unpack(header)
    if header != _header(file_generation, UUID(bytes=file_uuid), first_sequence):
        is_whole = magic == _MAGIC and zlib.crc32(header[:-4]) == int.from_bytes(header[-4:], "little")
        if is_whole and version != _VERSION:
            raise JournalDamagedError(
                f"{result.path} is a journal of version {version}, this library reads version {_VERSION}"
            )
        return "its header is not whole"
    if (file_generation, file_uuid) != (generation, index_uuid.bytes):
        raise JournalDamagedError(
            f"{result.path} belongs to generation {file_generation} of index {UUID(bytes=file_uuid)}, "
            f"not to generation {generation} of {index_uuid}"
        )
    result.first_sequence = result.next_sequence = first_sequence
    result.chain = zlib.crc32(header)
    result.end = HEADER_BYTES
    return None


def _read_frames(window: _Window, result: ScannedJournal, seed: int) -> tuple[int, str]:
    """Read calls until the first bad frame; return what commits know to be on disk, and what is bad."""
    position, chain, sequence = result.end, result.chain, result.next_sequence
    call: list[tuple[int, int, int]] = []
    known = 0
    while position < result.size:
        head = window.get(position, _FRAME.size)
        if len(head) < _FRAME.size:
            return known, f"the frame at byte {position} is cut off"
        mark, crc, kind, length, frame_sequence = _FRAME.unpack(head)
        padded = length + _padding(length)
        if mark != _MARK or frame_sequence != sequence or length > MAX_PAYLOAD_BYTES:
            return known, f"there is no frame at byte {position}"
        behind = position + _FRAME.size + padded
        if behind > result.size:
            return known, f"the frame at byte {position} is cut off"
        chain = zlib.crc32(head[8:], chain)
        chain = zlib.crc32(window.get(position + _FRAME.size, padded), chain)
        if chain != crc:
            return known, f"the frame at byte {position} does not have the CRC-32 it was written with"
        sequence += 1
        if kind == _COMMIT_KIND:
            commit = _read_commit(window.get(position, _COMMIT_BYTES), position, seed)
            if commit is None or commit[1] != result.next_sequence:
                return known, f"the commit frame at byte {position} does not go with its place"
            known = max(known, commit[0])
            if call:
                result.calls.append(call)
                call = []
            result.end, result.chain, result.next_sequence = behind, chain, sequence
        else:
            call.append((kind, position + _FRAME.size, length))
        position = behind
    return known, "its last call has no end"


def _read_commit(frame: memoryview, position: int, seed: int) -> tuple[int, int] | None:
    """Return (offset known to be on disk, first sequence number of the call) of a whole commit frame."""
    if len(frame) < _COMMIT_BYTES:
        return None
    mark, _, kind, length, _ = _FRAME.unpack(frame[: _FRAME.size])
    own_offset, known, first_sequence, crc, _ = _COMMIT.unpack(frame[_FRAME.size :])
    if (
        mark != _MARK
        or kind != _COMMIT_KIND
        or length != _COMMIT.size
        or own_offset != position
        or known > position
    ):
        return None
    if crc != zlib.crc32(frame[8 : _FRAME.size + 24], seed):
        return None
    return known, first_sequence


def _known_on_disk(window: _Window, result: ScannedJournal, seed: int) -> int:
    """Return the highest offset that a commit frame behind the last whole call knew to be on disk."""
    known = 0
    position = result.end
    while position < result.size:
        data = bytes(window.get(position, min(_WINDOW_BYTES, result.size - position)))
        if not data:
            break
        at = data.find(_MARK)
        while at >= 0:
            commit = _read_commit(window.get(position + at, _COMMIT_BYTES), position + at, seed)
            if commit is not None:
                known = max(known, commit[0])
            at = data.find(_MARK, at + 1)
        # A mark may lie across the border of two pieces.
        position += max(1, len(data) - len(_MARK) + 1)
    return known


class JournalReplay:
    """Every call since a generation, from all journals that stand in a directory.

    Usually that is one. While a checkpoint is being written, changes already go to the journal of the
    generation that is to come; should the checkpoint fail, there are two and more, one continuing the
    other.

    Parameters
    ----------
    directory : Path
        The index's directory.
    generation, index_uuid
        Those of the manifest.
    repair : bool
        End before damage instead of raising it; `damage` then says what was met.

    Attributes
    ----------
    calls : int
        How many calls there are.
    torn_bytes : int
        Length of the torn tail that a writer is going to drop.

    Raises
    ------
    JournalDamagedError
        Calls known to be on disk cannot be read.
    """

    def __init__(self, directory: Path, generation: int, index_uuid: UUID, *, repair: bool = False) -> None:
        self.directory = directory
        self.generation = generation
        self.index_uuid = index_uuid
        self.damage: str | None = None
        self.files: list[ScannedJournal] = []
        self.unreachable: list[Path] = []
        for number in _journals_from(directory, generation):
            path = journal_path(directory, number)
            if self.damage is None:
                try:
                    self._take(scan_journal(path, number, index_uuid, repair=repair))
                    continue
                except JournalDamagedError as error:
                    if not repair:
                        raise
                    self.damage = str(error)
            self.unreachable.append(path)

    def _take(self, file: ScannedJournal) -> None:
        before = self.files[-1] if self.files else None
        if before is None and file.generation != self.generation:
            raise JournalDamagedError(
                f"{journal_path(self.directory, self.generation)} is missing, but {file.path} continues it. "
                "Restore the directory from a copy, or repair it, which drops what was in both"
            )
        if before is not None and file.end > 0 and file.first_sequence != before.next_sequence:
            raise JournalDamagedError(
                f"{file.path} continues at frame {file.first_sequence}, but {before.path} ends at frame "
                f"{before.next_sequence}: calls in between are lost. Restore the directory from a copy, or "
                "repair it, which drops everything from there on"
            )
        if before is not None and file.end == 0:
            file.first_sequence = file.next_sequence = before.next_sequence
        self.damage = file.damage
        self.files.append(file)

    @property
    def calls(self) -> int:
        """How many calls there are."""
        return sum(len(file.calls) for file in self.files)

    @property
    def torn_bytes(self) -> int:
        """Bytes behind the last whole call."""
        return sum(file.size - file.end for file in self.files)

    def __iter__(self) -> Iterator[list[tuple[int, bytes]]]:
        """Yield each call as a list of (kind, payload), oldest first."""
        for scanned in self.files:
            if scanned.file is None:
                raise ValueError("this replay is closed")
            window = _Window(scanned.file)
            for call in scanned.calls:
                yield [(kind, bytes(window.get(offset, length))) for kind, offset, length in call]

    def close(self) -> None:
        """Close the files; the calls can no longer be read."""
        for scanned in self.files:
            if scanned.file is not None:
                scanned.file.close()
                scanned.file = None

    def __enter__(self) -> JournalReplay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _journals_from(directory: Path, generation: int) -> list[int]:
    matches = (_NAME.fullmatch(name) for name in fsio.entry_names(directory))
    numbers = (
        int(match.group(1)) for match in matches if match and match.group(1) == str(int(match.group(1)))
    )
    return sorted(number for number in numbers if number >= generation)


# ------------------------------------------------------------ writing


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

    Notes ----- After a failed write or fsync nothing can be said of what is on disk: every further call
    raises ReadOnlyError. The caller must hold the directory's lock. In a forked child the journal is
    closed.
    """

    def __init__(
        self, replay: JournalReplay, *, durability: Durability = "always", interval_s: float = 0.1
    ) -> None:
        self._directory = replay.directory
        self._index_uuid = replay.index_uuid
        self._durability: Durability = durability
        self._condition = threading.Condition()
        self._is_syncing = False
        self._waiting = 0
        self._last_group = 1
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

    def _start_file(self, generation: int) -> None:
        path = journal_path(self._directory, generation)
        if fsio.kind_of(path) is not None:
            # Its header was torn, so nothing was ever appended.
            fsio.unlink(path)
        file = fsio.FileWriter(path)
        try:
            header = _header(generation, self._index_uuid, self._sequence)
            file.write(header)
            file.sync()
            fsio.sync_directory(self._directory)
        except BaseException:
            file.close()
            raise
        self._file = file
        self._chain = zlib.crc32(header)
        self._seed = _commit_seed(generation, self._index_uuid)
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
        self._seed = _commit_seed(last.generation, self._index_uuid)

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
            self._check_usable()
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
        head = _FRAME.pack(_MARK, 0, _COMMIT_KIND, _COMMIT.size, sequence)
        body = _COMMIT.pack(offset, self._known_offset, self._sequence, 0, 0)
        body = _COMMIT.pack(
            offset, self._known_offset, self._sequence, zlib.crc32(head[8:] + body[:24], self._seed), 0
        )
        chain = zlib.crc32(body, zlib.crc32(head[8:], chain))
        return _FRAME.pack(_MARK, chain, _COMMIT_KIND, _COMMIT.size, sequence) + body, chain

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
            self._waiting += 1
            try:
                condition.notify_all()
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
                self._waiting -= 1

    def _sync_for_all(self) -> None:
        """Force out what all threads have appended; lets go of the condition, which is held, meanwhile."""
        condition = self._condition
        self._is_syncing = True
        # The threads that the last fsync set free are on their way with their next call: a moment's patience
        # takes them along, otherwise half of them would miss each fsync.
        patience = time.monotonic() + _PATIENCE * self._last_sync_s
        while self._waiting < self._last_group and (left := patience - time.monotonic()) > 0:
            condition.wait(left)
        file, sequence, offset = self._file, self._sequence, self._file.position
        self._last_group = self._waiting
        started = time.monotonic()
        failure = None
        condition.release()
        try:
            file.sync()
        except OSError as error:
            failure = error
            self._fail(error)
        finally:
            condition.acquire()
            self._is_syncing = False
            self._last_sync_s = time.monotonic() - started
            condition.notify_all()
        if failure is None:
            self._synced_sequence, self._known_offset = sequence, offset

    def rotate(self, generation: int) -> None:
        """Go on in the journal of a generation that is about to be saved.

        Everything before is forced to disk, whatever the durability.
        """
        with self._condition:
            while self._is_syncing:
                self._condition.wait()
            self._check_usable()
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

    def _check_usable(self) -> None:
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
        self._condition = threading.Condition()
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
    parts.append(bytes(_padding(length)))
    head = _FRAME.pack(_MARK, 0, kind, length, sequence)
    chain = zlib.crc32(head[8:], chain)
    for part in parts:
        chain = zlib.crc32(part, chain)
    return [_FRAME.pack(_MARK, chain, kind, length, sequence), *parts], chain


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

"""Reading journals: every whole call, and whether what follows is a torn tail or damage."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from zeusdb_vs.errors import JournalDamagedError
from zeusdb_vs.storage import fsio
from zeusdb_vs.storage.frames import (
    COMMIT_BYTES,
    COMMIT_KIND,
    FRAME,
    HEADER,
    HEADER_BYTES,
    MAGIC,
    MARK,
    MAX_PAYLOAD_BYTES,
    VERSION,
    commit_seed,
    header_bytes,
    journal_path,
    padding,
    read_commit,
)

_NAME = re.compile(r"journal-(\d{1,18})\.log")
_WINDOW_BYTES = 1 << 20


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
    seed = commit_seed(generation, index_uuid)
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
    magic, version, file_generation, file_uuid, first_sequence, _ = HEADER.unpack(header)
    if header != header_bytes(file_generation, UUID(bytes=file_uuid), first_sequence):
        is_whole = magic == MAGIC and zlib.crc32(header[:-4]) == int.from_bytes(header[-4:], "little")
        if is_whole and version != VERSION:
            raise JournalDamagedError(
                f"{result.path} is a journal of version {version}, this library reads version {VERSION}"
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
        head = window.get(position, FRAME.size)
        if len(head) < FRAME.size:
            return known, f"the frame at byte {position} is cut off"
        mark, crc, kind, length, frame_sequence = FRAME.unpack(head)
        padded = length + padding(length)
        if mark != MARK or frame_sequence != sequence or length > MAX_PAYLOAD_BYTES:
            return known, f"there is no frame at byte {position}"
        behind = position + FRAME.size + padded
        if behind > result.size:
            return known, f"the frame at byte {position} is cut off"
        chain = zlib.crc32(head[8:], chain)
        chain = zlib.crc32(window.get(position + FRAME.size, padded), chain)
        if chain != crc:
            return known, f"the frame at byte {position} does not have the CRC-32 it was written with"
        sequence += 1
        if kind == COMMIT_KIND:
            commit = read_commit(window.get(position, COMMIT_BYTES), position, seed)
            if commit is None or commit[1] != result.next_sequence:
                return known, f"the commit frame at byte {position} does not go with its place"
            known = max(known, commit[0])
            if call:
                result.calls.append(call)
                call = []
            result.end, result.chain, result.next_sequence = behind, chain, sequence
        else:
            call.append((kind, position + FRAME.size, length))
        position = behind
    return known, "its last call has no end"


def _known_on_disk(window: _Window, result: ScannedJournal, seed: int) -> int:
    """Return the highest offset that a commit frame behind the last whole call knew to be on disk."""
    known = 0
    position = result.end
    while position < result.size:
        data = bytes(window.get(position, min(_WINDOW_BYTES, result.size - position)))
        if not data:
            break
        at = data.find(MARK)
        while at >= 0:
            commit = read_commit(window.get(position + at, COMMIT_BYTES), position + at, seed)
            if commit is not None:
                known = max(known, commit[0])
            at = data.find(MARK, at + 1)
        # A mark may lie across the border of two pieces.
        position += max(1, len(data) - len(MARK) + 1)
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

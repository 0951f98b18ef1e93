"""Metadata, text and payload of each slot, kept as text and decoded when read.

A column is a list of chunks of 1,024 entries. Appending fills the last chunk in place, which earlier views
never look at beyond their own length; changing an entry copies its chunk and the list of chunks, so that
views published earlier keep what they saw. A column nobody has used is no list at all.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Union

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.documents import (
    EncodedRecord,
    check_document,
    check_text,
    decode_document,
    decode_documents,
    encode_checked,
    encode_document,
)
from zeusdb_vs.errors import CorruptIndexError, MetadataError

__all__ = [
    "EncodedRecord",
    "Records",
    "RecordsView",
    "check_document",
    "check_text",
    "decode_document",
    "encode_checked",
    "encode_document",
]

CHUNK_BITS = 10
CHUNK = 1 << CHUNK_BITS
_OFFSET = CHUNK - 1

Chunk = Union["list[str | None]", "LazyChunk"]

_NOTHING: list[str | None] = [None] * CHUNK
"""A full chunk without content, shared by all columns: full chunks are never changed in place."""


class LazyChunk:
    """A full chunk that stays in the file and reads an entry when it is asked for.

    Parameters
    ----------
    lines : sequence of (str or None)
        JSON texts of a whole column.
    first : int
        Where the chunk begins in it.
    is_json : bool
        Whether entries are kept as JSON; otherwise they are texts, which stand as JSON strings in `lines`.
    """

    __slots__ = ("_first", "_is_json", "_lines")

    def __init__(self, lines: Sequence[str | None], first: int, is_json: bool) -> None:
        self._lines, self._first, self._is_json = lines, first, is_json

    def __len__(self) -> int:
        return CHUNK

    def __getitem__(self, at: int) -> str | None:
        line = self._lines[self._first + at]
        return line if line is None or self._is_json else _read_text(line, "text", self._first + at)

    def __iter__(self) -> Iterator[str | None]:
        return iter(self.copy())

    def copy(self) -> list[str | None]:
        """Return the entries as a chunk in memory."""
        return [self[at] for at in range(CHUNK)]

    def lines(self) -> Iterator[str | None]:
        """Yield the entries as JSON texts, as they stand in the file."""
        return (self._lines[at] for at in range(self._first, self._first + CHUNK))


class ColumnLines:
    """The entries of a column as they are now, each made a JSON text when it is asked for.

    What is written to the column later does not show.
    """

    def __init__(self, column: _Column, is_json: bool) -> None:
        self._chunks = list(column.chunks or ())
        self._count = column.count
        self._is_json = is_json

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[str | None]:
        left = self._count
        for chunk in self._chunks:
            if isinstance(chunk, LazyChunk):
                yield from chunk.lines()
            elif self._is_json:
                yield from islice(chunk, left)
            else:
                for text in islice(chunk, left):
                    yield None if text is None else json.dumps(text, ensure_ascii=False)
            left -= CHUNK


class _Column:
    """One kind of text for each slot. `chunks` is None until the first text arrives."""

    __slots__ = ("chunks", "count")

    def __init__(self, count: int = 0) -> None:
        self.chunks: list[Chunk] | None = None
        self.count = count

    @classmethod
    def from_lines(cls, lines: Sequence[str | None], *, is_json: bool) -> _Column:
        """Return a column whose full chunks stay in `lines`."""
        column = cls(len(lines))
        whole = len(lines) >> CHUNK_BITS << CHUNK_BITS
        column.chunks = [LazyChunk(lines, first, is_json) for first in range(0, whole, CHUNK)]
        if whole < len(lines):
            column.chunks.append([LazyChunk(lines, at, is_json)[0] for at in range(whole, len(lines))])
        return column

    def _last(self) -> list[str | None]:
        """Return the last chunk, which is not full and therefore in memory."""
        assert self.chunks is not None
        last = self.chunks[-1]
        assert isinstance(last, list)
        return last

    def append_empty(self, count: int) -> None:
        self.count += count
        chunks = self.chunks
        if chunks is None:
            return
        room = -len(chunks[-1]) % CHUNK if chunks else 0
        if room:
            self._last().extend([None] * min(room, count))
        full, rest = divmod(max(0, count - room), CHUNK)
        chunks.extend([_NOTHING] * full)
        if rest:
            chunks.append([None] * rest)

    def append(self, texts: Sequence[str | None]) -> None:
        if self.chunks is None:
            if not any(text is not None for text in texts):
                self.count += len(texts)
                return
            before, self.count, self.chunks = self.count, 0, []
            self.append_empty(before)
        chunks = self.chunks
        start = 0
        if chunks and len(chunks[-1]) < CHUNK:
            start = CHUNK - len(chunks[-1])
            self._last().extend(texts[:start])
        chunks.extend(list(texts[at : at + CHUNK]) for at in range(start, len(texts), CHUNK))
        self.count += len(texts)

    def update(self, slots: Iterable[int], texts: Iterable[str | None]) -> None:
        pairs = list(zip(slots, texts, strict=True))
        if self.chunks is None:
            if all(text is None for _, text in pairs):
                return
            before, self.count, self.chunks = self.count, 0, []
            self.append_empty(before)
        assert self.chunks is not None
        chunks = self.chunks.copy()
        copied: dict[int, list[str | None]] = {}
        for slot, text in pairs:
            at = slot >> CHUNK_BITS
            if at not in copied:
                copied[at] = chunks[at] = chunks[at].copy()
            copied[at][slot & _OFFSET] = text
        self.chunks = chunks

    def forget(self, slots: Sequence[int]) -> None:
        if self.chunks is not None:
            self.update(slots, [None] * len(slots))

    def take(self, slots: Sequence[int]) -> _Column:
        taken = _Column(len(slots))
        if self.chunks is not None:
            texts = self.texts(slots)
            taken.count = 0
            taken.append(texts)
        return taken

    def texts(self, slots: Sequence[int] | None = None) -> list[str | None]:
        """Return the entries of some slots or of all; the column must be in use."""
        chunks = self.chunks or []
        if slots is None:
            return [text for chunk in chunks for text in chunk]
        return [chunks[slot >> CHUNK_BITS][slot & _OFFSET] for slot in slots]

    def memory_bytes(self) -> int:
        if self.chunks is None:
            return 0
        total = sys.getsizeof(self.chunks)
        for chunk in self.chunks:
            if chunk is not _NOTHING and isinstance(chunk, list):
                total += sys.getsizeof(chunk) + sum(map(sys.getsizeof, filter(None, chunk)))
        return total


class RecordsView:
    """What readers see of the records at one moment; it never changes.

    Attributes
    ----------
    has_metadata, has_text, has_payload : bool
        Whether any record ever had one, so that readers can skip the look-up.
    """

    __slots__ = ("_metadata", "_payload", "_text", "has_metadata", "has_payload", "has_text")

    def __init__(
        self,
        metadata: list[Chunk] | None,
        text: list[Chunk] | None,
        payload: list[Chunk] | None,
    ) -> None:
        self._metadata, self._text, self._payload = metadata, text, payload
        self.has_metadata, self.has_text = metadata is not None, text is not None
        self.has_payload = payload is not None

    def metadata(self, slot: int) -> dict[str, Any]:
        """Return the metadata of a slot as a fresh dict, ``{}`` when it has none."""
        if self._metadata is None:
            return {}
        text = self._metadata[slot >> CHUNK_BITS][slot & _OFFSET]
        return {} if text is None else decode_document(text)

    def metadata_of(self, slots: Sequence[int]) -> list[dict[str, Any]]:
        """Return what `metadata` does for each of some slots."""
        chunks = self._metadata
        if chunks is None:
            return [{} for _ in slots]
        return decode_documents([chunks[slot >> CHUNK_BITS][slot & _OFFSET] for slot in slots])

    def text(self, slot: int) -> str | None:
        """Return the text of a slot."""
        return None if self._text is None else self._text[slot >> CHUNK_BITS][slot & _OFFSET]

    def payload(self, slot: int) -> dict[str, Any] | None:
        """Return the payload of a slot as a fresh dict, or None."""
        if self._payload is None:
            return None
        text = self._payload[slot >> CHUNK_BITS][slot & _OFFSET]
        return None if text is None else decode_document(text)

    def encoded(self, slot: int) -> EncodedRecord:
        """Return what is stored of a slot, undecoded."""
        at, offset = slot >> CHUNK_BITS, slot & _OFFSET
        return EncodedRecord(
            *(None if c is None else c[at][offset] for c in (self._metadata, self._text, self._payload))
        )


class Records:
    """Metadata, text and payload by slot; one writer, any number of views.

    Parameters
    ----------
    count : int
        Slots that exist already and hold nothing.
    """

    def __init__(self, count: int = 0) -> None:
        self._metadata, self._text, self._payload = _Column(count), _Column(count), _Column(count)

    def __len__(self) -> int:
        return self._metadata.count

    def append(self, records: Sequence[EncodedRecord]) -> None:
        """Add the records of the next ``len(records)`` slots."""
        self._metadata.append([record.metadata for record in records])
        self._text.append([record.text for record in records])
        self._payload.append([record.payload for record in records])

    def append_empty(self, count: int) -> None:
        """Add `count` slots that hold nothing; costs next to nothing."""
        for column in (self._metadata, self._text, self._payload):
            column.append_empty(count)

    def update(
        self,
        slots: Sequence[int] | NDArray[np.int64],
        *,
        metadata: Sequence[str | None] | None = None,
        text: Sequence[str | None] | None = None,
        payload: Sequence[str | None] | None = None,
    ) -> None:
        """Replace columns of some slots; a column that is not given stays. Lists run parallel to `slots`."""
        plain = _plain_slots(slots)
        for column, texts in ((self._metadata, metadata), (self._text, text), (self._payload, payload)):
            if texts is not None:
                column.update(plain, texts)

    def forget(self, slots: Sequence[int] | NDArray[np.int64]) -> None:
        """Drop all content of slots that are dead; views published earlier still have it."""
        plain = _plain_slots(slots)
        for column in (self._metadata, self._text, self._payload):
            column.forget(plain)

    def view(self) -> RecordsView:
        """Return what readers may use from now on; it does not change with later calls."""
        return RecordsView(self._metadata.chunks, self._text.chunks, self._payload.chunks)

    def take(self, slots: NDArray[np.int64]) -> Records:
        """Return a copy that holds the given slots only, in the given order."""
        plain = _plain_slots(slots)
        taken = Records(len(plain))
        taken._metadata = self._metadata.take(plain)
        taken._text = self._text.take(plain)
        taken._payload = self._payload.take(plain)
        return taken

    def lines(self) -> dict[str, ColumnLines]:
        """Return what `state` returns of all slots, made line by line while it is read, and by then unchanged."""
        return {
            name: ColumnLines(column, name != "text")
            for name, column in self._columns()
            if column.chunks is not None
        }

    def state(self, slots: NDArray[np.int64] | None = None) -> dict[str, list[str | None]]:
        """Return what is to be saved: a list of JSON texts for each column in use.

        Parameters
        ----------
        slots : ndarray of int64, optional
            The slots to save, in this order; all without it.

        Returns
        -------
        dict
            Any of the keys ``metadata``, ``text``, ``payload``. None stands for a slot without content.
        """
        plain = None if slots is None else slots.tolist()
        state = {name: column.texts(plain) for name, column in self._columns() if column.chunks is not None}
        if "text" in state:
            state["text"] = [
                None if text is None else json.dumps(text, ensure_ascii=False) for text in state["text"]
            ]
        return state

    @classmethod
    def from_state(
        cls,
        state: Mapping[str, Sequence[str | None]],
        n: int,
        slots: NDArray[np.int64] | None = None,
        *,
        lazy: bool = False,
    ) -> Records:
        """Return the part that `state` describes, every text of it checked.

        Parameters
        ----------
        state : mapping
            As `state` returns it.
        n : int
            Slots there are.
        slots : ndarray of int64, optional
            The slots the texts belong to, ascending; all without it. The others hold nothing.
        lazy : bool
            Leave the texts in the sequences of `state`, to be read, and checked, when they are asked for.

        Raises
        ------
        CorruptIndexError
            A column has too many or too few entries, or an entry is not what the column holds.
        """
        records = cls(n)
        count = n if slots is None else len(slots)
        for name, column in records._columns():
            lines = state.get(name)
            if lines is None:
                continue
            if len(lines) != count:
                raise CorruptIndexError(f"{name}: {len(lines):,} records, {count:,} expected")
            if lazy and slots is None:
                setattr(records, f"_{name}", _Column.from_lines(lines, is_json=name != "text"))
                continue
            read = _read_text if name == "text" else _read_document
            texts = [None if line is None else read(line, name, i) for i, line in enumerate(lines)]
            if slots is None:
                column.count = 0
                column.append(texts)
            else:
                column.update(slots.tolist(), texts)
        return records

    def _columns(self) -> tuple[tuple[str, _Column], ...]:
        return (("metadata", self._metadata), ("text", self._text), ("payload", self._payload))

    def memory_bytes(self) -> int:
        """Return the bytes of all texts and the lists that hold them."""
        return sum(column.memory_bytes() for _, column in self._columns())


def _plain_slots(slots: Sequence[int] | NDArray[np.int64]) -> list[int]:
    return slots.tolist() if isinstance(slots, np.ndarray) else list(slots)


def _read_document(line: str, name: str, row: int) -> str:
    try:
        decode_document(line)
    except CorruptIndexError as error:
        raise CorruptIndexError(f"{name}, record {row}: {error}") from None
    return line


def _read_text(line: str, name: str, row: int) -> str | None:
    try:
        text = check_text(json.loads(line))
    except (ValueError, RecursionError, MetadataError) as error:
        raise CorruptIndexError(f"{name}, record {row}: no JSON string: {error}") from None
    return text

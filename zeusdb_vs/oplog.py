"""Changes of an index as the journal's records, and back: what each call did, in a compact binary form.

A call becomes one or a few records of (kind, payload). All numbers are little-endian, all text is UTF-8
(docs/format.md has the tables). Reading back trusts nothing, and folds all calls into what they come to in the
end, so that the changes reach the collection in a few batches, however many calls there were.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.collection import Collection
from zeusdb_vs.documents import EncodedRecord, check_text, decode_document
from zeusdb_vs.errors import CorruptIndexError, JournalDamagedError, RecordError
from zeusdb_vs.inputs import RecordBatch, check_id

Payload = list[bytes | memoryview]
Change = tuple[int, Payload]
COLUMNS = ("metadata", "text", "payload")

_ADD_HEAD = struct.Struct("<IIQB7x")  # records, width, number in the last generated id, columns that follow
_HEAD = struct.Struct("<IB3x")  # records, columns that follow
_LONGEST_PAYLOAD = 256 << 20
_FOLDED_RECORDS = 65_536
"""Records held back while calls are folded; then they go to the collection."""


class Kind(IntEnum):
    """What a record of the journal says."""

    ADD = 1
    REMOVE = 2
    UPDATE = 3
    INDEX_METADATA = 4
    CLEAR = 5
    ADD_CODED = 6


# ---------------------------------------------------------------------------------------------- writing


def added(batch: RecordBatch, generated_ids: int) -> list[Change]:
    """Return what says that records were stored, replacing those with the same ids.

    Parameters
    ----------
    batch : RecordBatch
        As the collection took it, or with what is kept of its vectors.
    generated_ids : int
        Number in the last generated id.
    """
    kind = Kind.ADD if batch.coded is None else Kind.ADD_CODED
    rows = batch.vectors if batch.coded is None else batch.coded
    step = max(1, _LONGEST_PAYLOAD // (rows.itemsize * rows.shape[1] + 1))
    return [
        (kind, _added(batch, rows, start, min(start + step, len(rows)), generated_ids))
        for start in range(0, len(rows), step)
    ]


def _added(batch: RecordBatch, vectors: NDArray[Any], start: int, stop: int, generated_ids: int) -> Payload:
    rows = np.ascontiguousarray(vectors[start:stop], "<f4" if batch.coded is None else "|u1")
    parts: Payload = [b"", rows.reshape(-1).view(np.uint8).data, *_strings(batch.ids[start:stop])]
    columns = 0
    if batch.documents is not None:
        documents = batch.documents[start:stop]
        for bit, name in enumerate(COLUMNS):
            texts = [getattr(document, name) for document in documents]
            if any(text is not None for text in texts):
                columns |= 1 << bit
                parts += _strings(texts)
    parts[0] = _ADD_HEAD.pack(stop - start, rows.shape[1], generated_ids, columns)
    return parts


def removed(ids: Sequence[str]) -> list[Change]:
    """Return what says that records were removed."""
    return [(Kind.REMOVE, [_HEAD.pack(len(ids), 0), *_strings(ids)])]


def updated(ids: Sequence[str], columns: dict[str, Sequence[str | None]]) -> list[Change]:
    """Return what says that columns of records were replaced; the lists run parallel to `ids`."""
    parts: Payload = [b"", *_strings(ids)]
    present = 0
    for bit, name in enumerate(COLUMNS):
        if name in columns:
            present |= 1 << bit
            parts += _strings(columns[name])
    parts[0] = _HEAD.pack(len(ids), present)
    return [(Kind.UPDATE, parts)]


def index_metadata_set(text: str) -> list[Change]:
    """Return what says that the index's own metadata is another now, given as JSON."""
    return [(Kind.INDEX_METADATA, [text.encode()])]


def cleared() -> list[Change]:
    """Return what says that every record was removed."""
    return [(Kind.CLEAR, [])]


def _strings(texts: Sequence[str | None]) -> Payload:
    encoded = [None if text is None else text.encode() for text in texts]
    lengths = np.array([-1 if data is None else len(data) for data in encoded], "<i4")
    return [lengths.tobytes(), b"".join([data for data in encoded if data is not None])]


# ---------------------------------------------------------------------------------------------- reading


class _Cursor:
    """Takes a payload apart from front to back."""

    def __init__(self, payload: bytes) -> None:
        self._data = memoryview(payload)
        self._at = 0

    def take(self, count: int) -> memoryview:
        piece = self._data[self._at : self._at + count]
        if len(piece) != count:
            _refuse("a record is shorter than it says")
        self._at += count
        return piece

    def numbers(self, head: struct.Struct) -> tuple[int, ...]:
        return head.unpack(self.take(head.size))

    def strings(self, count: int) -> list[str | None]:
        lengths = np.frombuffer(self.take(4 * count), "<i4").tolist()
        if any(length < -1 for length in lengths):
            _refuse("a text has a negative length")
        try:
            return [None if length < 0 else str(self.take(length), "utf-8") for length in lengths]
        except UnicodeDecodeError as error:
            _refuse(f"a text is not UTF-8 ({error})")

    def finish(self) -> None:
        if self._at != len(self._data):
            _refuse("a record is longer than it says")


def _refuse(reason: str) -> NoReturn:
    raise JournalDamagedError(
        f"the journal holds what this library would not have written: {reason}. Restore the directory from a copy"
    )


class Fold:
    """What the calls of a journal come to, brought to a collection in few batches.

    Parameters
    ----------
    collection : Collection
        The one that the snapshot gave; changed by `apply`.

    Attributes
    ----------
    generated_ids : int or None
        Number in the last generated id, where a call tells it.
    index_metadata : dict or None
        The index's own metadata, where a call has changed it.
    records : int
        Records that calls have added, removed or changed.
    """

    def __init__(self, collection: Collection) -> None:
        self._collection = collection
        self.generated_ids: int | None = None
        self.index_metadata: dict[str, Any] | None = None
        self.records = 0
        self._start()

    def _start(self) -> None:
        self._view = self._collection.view
        self._is_cleared = False
        self._new: dict[str, tuple[NDArray[Any], dict[str, str | None]]] = {}
        self._gone: dict[str, None] = {}
        self._changed: dict[str, dict[str, str | None]] = {}

    def read(self, calls: Iterable[Sequence[tuple[int, bytes]]]) -> None:
        """Fold calls, oldest first, and bring all to the collection.

        Raises
        ------
        JournalDamagedError
            A record is not one that was ever written, or speaks of records that are not there.
        """
        for call in calls:
            for kind, payload in call:
                self._take(kind, payload)
            if len(self._new) + len(self._changed) + len(self._gone) >= _FOLDED_RECORDS:
                self._apply()
        self._apply()

    def _take(self, kind: int, payload: bytes) -> None:
        cursor = _Cursor(payload)
        if kind in (Kind.ADD, Kind.ADD_CODED):
            self._add(cursor, is_coded=kind == Kind.ADD_CODED)
        elif kind == Kind.REMOVE:
            self._remove(cursor)
        elif kind == Kind.UPDATE:
            self._update(cursor)
        elif kind == Kind.INDEX_METADATA:
            self.index_metadata = _document(str(cursor.take(len(payload)), "utf-8", "replace"))
        elif kind == Kind.CLEAR:
            self._start()
            self._is_cleared = True
        else:
            _refuse(f"a record of kind {kind}")
        cursor.finish()

    def _add(self, cursor: _Cursor, *, is_coded: bool) -> None:
        count, width, generated_ids, present = cursor.numbers(_ADD_HEAD)
        if is_coded == self._collection.keeps_originals:
            _refuse(f"{'codes' if is_coded else 'vectors'} for an index that keeps the other")
        vectors = self._codes(cursor, count, width) if is_coded else self._vectors(cursor, count, width)
        ids = _ids(cursor, count)
        columns = _columns(cursor, present, count)
        for row, record_id in enumerate(ids):
            # A record stored again stands behind all others.
            self._new.pop(record_id, None)
            self._new[record_id] = (vectors[row], {name: texts[row] for name, texts in columns.items()})
        self.generated_ids = generated_ids
        self.records += count

    def _vectors(self, cursor: _Cursor, count: int, dim: int) -> NDArray[np.float32]:
        config = self._collection.config
        if dim != config.dim:
            _refuse(f"vectors of width {dim} in an index of width {config.dim}")
        vectors = np.frombuffer(cursor.take(4 * count * dim), "<f4").reshape(count, dim)
        if not np.isfinite(vectors).all():
            _refuse("a vector with NaN or infinite values")
        if self._collection.metric.is_normalizing and not vectors.any(axis=1).all():
            _refuse("a zero vector in a cosine index")
        return vectors

    def _codes(self, cursor: _Cursor, count: int, width: int) -> NDArray[np.uint8]:
        if width != self._collection.coded_width:
            _refuse(f"codes of {width} bytes a record, the index's have {self._collection.coded_width}")
        return np.frombuffer(cursor.take(count * width), np.uint8).reshape(count, width)

    def _remove(self, cursor: _Cursor) -> None:
        count, _ = cursor.numbers(_HEAD)
        for record_id in _ids(cursor, count):
            was_new = self._new.pop(record_id, None) is not None
            if self._is_stored(record_id):
                self._gone[record_id] = None
                self._changed.pop(record_id, None)
            elif not was_new:
                _refuse(f"the removal of {record_id!r}, which is not there")
        self.records += count

    def _update(self, cursor: _Cursor) -> None:
        count, present = cursor.numbers(_HEAD)
        ids = _ids(cursor, count)
        columns = _columns(cursor, present, count)
        for row, record_id in enumerate(ids):
            if record_id in self._new:
                kept = self._new[record_id][1]
            elif self._is_stored(record_id):
                kept = self._changed.setdefault(record_id, {})
            else:
                _refuse(f"a change of {record_id!r}, which is not there")
            kept.update({name: texts[row] for name, texts in columns.items()})
        self.records += count

    def _is_stored(self, record_id: str) -> bool:
        return not self._is_cleared and record_id not in self._gone and self._view.find(record_id) >= 0

    def _apply(self) -> None:
        if self._is_cleared:
            self._collection.clear()
        self._apply_changes()
        if self._gone:
            self._collection.remove(np.array([self._view.find(name) for name in self._gone], np.int64))
        if self._new:
            try:
                self._collection.add(self._batch())
            except CorruptIndexError as error:
                _refuse(str(error))
        self._start()

    def _apply_changes(self) -> None:
        records = self._view.records
        ids = [name for name in self._changed if name not in self._new]
        if not ids:
            return
        slots = [self._view.find(name) for name in ids]
        kept = [records.encoded(slot) for slot in slots]
        for name, document in zip(ids, kept, strict=True):
            for column, text in self._changed[name].items():
                setattr(document, column, text)
        self._collection.update(
            np.array(slots, np.int64),
            metadata=[document.metadata for document in kept],
            text=[document.text for document in kept],
            payload=[document.payload for document in kept],
            new=[_decoded(document) for document in kept],
        )

    def _batch(self) -> RecordBatch:
        rows = np.array([row for row, _ in self._new.values()])
        is_coded = not self._collection.keeps_originals
        vectors = np.empty((0, self._collection.config.dim), np.float32) if is_coded else rows
        coded = rows if is_coded else None
        documents = [EncodedRecord(**texts) for _, texts in self._new.values()]
        if not any(texts for _, texts in self._new.values()):
            return RecordBatch(list(self._new), vectors, coded=coded)
        decoded = [_decoded(document) for document in documents]
        return RecordBatch(list(self._new), vectors, documents, decoded, coded)


def _ids(cursor: _Cursor, count: int) -> list[str]:
    try:
        return [check_id(name) for name in cursor.strings(count)]
    except RecordError as error:
        _refuse(str(error))


def _columns(cursor: _Cursor, present: int, count: int) -> dict[str, list[str | None]]:
    columns = {name: cursor.strings(count) for bit, name in enumerate(COLUMNS) if present >> bit & 1}
    try:
        for text in columns.get("text", ()):
            check_text(text)
    except RecordError as error:
        _refuse(str(error))
    return columns


def _document(text: str) -> dict[str, Any]:
    try:
        return decode_document(text)
    except CorruptIndexError as error:
        _refuse(str(error))


def _decoded(document: EncodedRecord) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    metadata, payload = document.metadata, document.payload
    return (
        None if metadata is None else _document(metadata),
        None if payload is None else _document(payload),
    )

"""What users hand to `add`, in any of its forms, turned into checked batches.

Three steps. `read_rows` tells the forms apart and lays any of them out as columns (`Rows`); a generator gives
one `Rows` for each chunk of it. `check_rows` checks ids, vectors and documents and parts what can be stored
(`CheckedRows`) from what cannot. `admit_rows` settles what depends on the index: ids to be generated, ids
that are taken. Nothing here costs Python work per record for an array without metadata, generated ids aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.checks import did_you_mean
from zeusdb_vs.coerce import check_values, check_vectors, is_number
from zeusdb_vs.documents import EncodedRecord, check_document, check_text, encode_checked
from zeusdb_vs.errors import (
    ArgumentTypeError,
    IdError,
    MetadataError,
    RecordError,
    VectorError,
)
from zeusdb_vs.results import AddError

MAX_ID_BYTES = 1024
GENERATOR_CHUNK = 1024
"""Records taken from a generator at a time: enough for an efficient build, little to hold."""
_BREATH_ROWS = 256
"""Records encoded between two releases of the GIL: about 2 ms of work."""

Document = tuple["dict[str, Any] | None", "dict[str, Any] | None"]


@dataclass(slots=True)
class RecordBatch:
    """Records that can be stored as they are.

    Attributes
    ----------
    ids : list of str
        Unique inside the batch.
    vectors : ndarray of float32, shape (n, dim)
        C order, finite, not zero where the space forbids it. May be the caller's own array.
    documents : list of EncodedRecord or None
        What is stored beside the vectors; None when no record has anything.
    decoded : list of (dict or None, dict or None) or None
        Own copies of metadata and payload, for the field indexes; None together with `documents`.
    coded : ndarray of uint8, shape (n, width), or None
        Instead of vectors, of which there are none then: what an index that has dropped its vectors kept of them.
    """

    ids: list[str]
    vectors: NDArray[np.float32]
    documents: list[EncodedRecord] | None = None
    decoded: list[Document] | None = None
    coded: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.ids)


class Failure(NamedTuple):
    """A record that cannot be stored: where it stood, its id where it had a usable one, and why."""

    position: int
    id: str | None
    error: RecordError

    def entry(self) -> AddError:
        """Return the entry for `AddResult.errors`."""
        return AddError(self.position, self.id, str(self.error))

    def exception(self) -> RecordError:
        """Return the error with the record's place in front, to be raised."""
        return type(self.error)(str(self.entry()))


@dataclass(slots=True)
class Rows:
    """Records laid out in columns, unchecked. A column nobody gave is None; a missing entry is None."""

    first: int
    count: int
    vectors: NDArray[Any] | list[Any]
    ids: list[Any] | None = None
    metadata: list[Any] | None = None
    text: list[Any] | None = None
    payload: list[Any] | None = None
    failed: dict[int, RecordError] = field(default_factory=dict)


@dataclass(slots=True)
class CheckedRows:
    """Records that can be stored as they are, as far as they themselves tell, and those that cannot.

    Attributes
    ----------
    count : int
        Records given, the refused among them.
    positions : sequence of int
        Where the good records stood in the input.
    ids : list of (str or None) or None
        Their ids, each at most once; None where one is to be generated, and altogether when nobody gave any.
    vectors, documents, decoded
        As in `RecordBatch`.
    failures : list of Failure
        The others, by position.
    """

    count: int
    positions: Sequence[int]
    ids: list[str | None] | None
    vectors: NDArray[np.float32]
    documents: list[EncodedRecord] | None
    decoded: list[Document] | None
    failures: list[Failure]


# ---------------------------------------------------------------------------------------------- forms

_RECORD_KEYS = {
    "id": "ids",
    "vector": "vectors",
    "values": "vectors",
    "embedding": "vectors",
    "metadata": "metadata",
    "text": "text",
    "payload": "payload",
}
_COLUMN_KEYS = {
    "ids": "ids",
    "vectors": "vectors",
    "embeddings": "vectors",
    "metadatas": "metadata",
    "texts": "text",
    "payloads": "payload",
}
_ALL_KEYS = _COLUMN_KEYS | _RECORD_KEYS
_FORMS = (
    "a dict {id, vector, metadata, text, payload}, a list of such dicts, a dict of arrays {ids, vectors, "
    "metadatas, texts, payloads}, a 1-D or 2-D array, a list of vectors, or a generator of dicts or vectors"
)


def read_rows(data: Any) -> Iterator[Rows]:
    """Lay out what was given to `add` in columns.

    Parameters
    ----------
    data : dict, list, ndarray or iterator
        Any form that `HNSWIndex.add` takes.

    Yields
    ------
    Rows
        One for a form that holds everything, one for each chunk of a generator.

    Raises
    ------
    ArgumentTypeError
        The container is of no known form.
    RecordError
        Columns are of unequal length, or a key of a dict of arrays is unknown.
    """
    if isinstance(data, Mapping):
        yield _read_columns(data) if _holds_columns(data) else _read_records([data], 0)
    elif isinstance(data, np.ndarray) or hasattr(data, "__array__"):
        yield _read_array(np.asarray(data))
    elif isinstance(data, list | tuple):
        yield _read_items([data] if _is_one_vector(data) else list(data), 0)
    elif isinstance(data, Iterable) and not isinstance(data, str | bytes | bytearray | set | frozenset):
        yield from _read_chunks(iter(data))
    else:
        raise ArgumentTypeError(f"add cannot take {type(data).__name__}; pass {_FORMS}")


def _read_chunks(items: Iterator[Any]) -> Iterator[Rows]:
    first = 0
    while chunk := list(islice(items, GENERATOR_CHUNK)):
        yield _read_items(chunk, first)
        first += len(chunk)


def _read_items(items: list[Any], first: int) -> Rows:
    # One dict among them is enough: the others are then records gone wrong.
    if any(isinstance(item, dict) for item in items) or (items and isinstance(items[0], Mapping)):
        return _read_records(items, first)
    return Rows(first, len(items), items)


def _read_array(array: NDArray[Any]) -> Rows:
    if array.dtype.kind == "O":
        return _read_items(list(array), 0)
    if array.ndim == 1:
        array = array[np.newaxis] if array.size else array.reshape(0, 0)
    if array.ndim != 2:
        raise VectorError(f"an array of vectors has 1 or 2 dimensions, this one has shape {array.shape}")
    return Rows(0, len(array), array)


def _is_one_vector(value: Any) -> bool:
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.dtype.kind != "O" and value.size > 0
    return isinstance(value, list | tuple) and len(value) > 0 and is_number(value[0])


def _holds_columns(data: Mapping[Any, Any]) -> bool:
    """Tell a dict of arrays from a record: by a plural key, else by vectors that are two-dimensional."""
    if any(key in _COLUMN_KEYS for key in data):
        return True
    for key in ("values", "vector", "embedding"):
        vectors = data.get(key)
        if isinstance(vectors, list | tuple):
            return len(vectors) > 0 and isinstance(vectors[0], list | tuple | np.ndarray)
        if vectors is not None:
            return getattr(vectors, "ndim", 1) == 2
    return False


def _read_columns(data: Mapping[Any, Any]) -> Rows:
    columns: dict[str, Any] = {}
    named: dict[str, str] = {}
    for key, values in data.items():
        column = _ALL_KEYS.get(key) if isinstance(key, str) else None
        if column is None:
            raise RecordError(f"unknown key {key!r} in a dict of arrays; {did_you_mean(key, _ALL_KEYS)}")
        if column in named:
            raise RecordError(f"keys {named[column]!r} and {key!r} both give the {column}; pass one of them")
        columns[column], named[column] = values, key
    if columns.get("vectors") is None:
        raise VectorError("a dict of arrays needs its vectors: under 'vectors', 'embeddings' or 'values'")

    vectors = columns.pop("vectors")
    one = _is_one_vector(vectors)
    if one:
        vectors = [vectors]
        columns = {k: [v] if isinstance(v, str | Mapping) else v for k, v in columns.items()}
    rows = _read_array(np.asarray(vectors)) if _is_array_like(vectors) else None
    if rows is None:
        items = _column_list(vectors, named["vectors"])
        rows = Rows(0, len(items), items)
    for column, values in columns.items():
        if values is None:
            continue
        entries = _column_list(values, named[column])
        if len(entries) != rows.count:
            raise RecordError(
                f"{len(entries)} entries under {named[column]!r} and {rows.count} under "
                f"{named['vectors']!r}; a dict of arrays needs one of each for every record"
            )
        setattr(rows, column, entries)
    return rows


def _is_array_like(value: Any) -> bool:
    return isinstance(value, np.ndarray) or (hasattr(value, "__array__") and not isinstance(value, list))


def _column_list(values: Any, name: str) -> list[Any]:
    if isinstance(values, str | bytes | Mapping | set | frozenset) or not isinstance(values, Iterable):
        raise ArgumentTypeError(
            f"{name!r} must be a list with one entry for each record, got {type(values).__name__}"
        )
    if isinstance(values, np.ndarray):
        if values.ndim == 0:
            raise ArgumentTypeError(f"{name!r} must be a list with one entry for each record, got one value")
        return list(values.tolist()) if values.ndim == 1 else list(values)
    return list(values)


def _read_records(records: list[Any], first: int) -> Rows:
    count = len(records)
    rows = Rows(first, count, [None] * count)
    columns: dict[str, list[Any]] = {"vectors": rows.vectors}  # type: ignore[dict-item]
    for row, record in enumerate(records):
        try:
            _spread_record(record, row, count, columns)
        except RecordError as error:
            rows.failed[row] = error
    rows.ids = columns.get("ids")
    rows.metadata, rows.text = columns.get("metadata"), columns.get("text")
    rows.payload = columns.get("payload")
    return rows


def _spread_record(record: Any, row: int, count: int, columns: dict[str, list[Any]]) -> None:
    if not isinstance(record, Mapping):
        raise RecordError(f"a record must be a dict here, got {type(record).__name__}")
    unknown: object = None
    for key, value in record.items():
        column = _RECORD_KEYS.get(key) if isinstance(key, str) else None
        if column is None:
            # The rest is still read, so that the report can name the record's id.
            unknown = unknown or key
            continue
        if value is None:
            continue
        entries = columns.get(column)
        if entries is None:
            entries = columns[column] = [None] * count
        if entries[row] is not None:
            raise RecordError("has two vectors; pass one of 'vector', 'values' and 'embedding'")
        entries[row] = value
    if unknown is not None:
        raise RecordError(f"unknown key {unknown!r}; {did_you_mean(unknown, _RECORD_KEYS)}")
    if columns["vectors"][row] is None:
        raise VectorError("has no vector; pass it as 'vector' or 'values'")


# ---------------------------------------------------------------------------------------------- checks


def check_rows(rows: Rows, *, dim: int, forbid_zero: bool) -> CheckedRows:
    """Check records and convert them to what is stored.

    Parameters
    ----------
    rows : Rows
    dim : int
        Width every vector must have.
    forbid_zero : bool
        Refuse vectors without a direction, as the cosine space must.

    Returns
    -------
    CheckedRows
    """
    failed = rows.failed
    vectors = check_vectors(rows.vectors, rows.count, dim, failed)
    check_values(vectors, rows.vectors, forbid_zero, failed)
    ids = None if rows.ids is None else _check_ids(rows.ids, failed)
    documents, decoded = _check_documents(rows, failed)
    failures = [
        Failure(rows.first + row, None if ids is None else ids[row], failed[row]) for row in sorted(failed)
    ]
    positions = range(rows.first, rows.first + rows.count)
    checked = CheckedRows(rows.count, positions, ids, vectors, documents, decoded, failures)
    if failed:
        checked = _select(checked, [row for row in range(rows.count) if row not in failed])
    return _last_of_each_id(checked)


def merge_rows(parts: Sequence[CheckedRows]) -> CheckedRows:
    """Return several parts of one input as one; of records with the same id the last one stays."""
    if len(parts) == 1:
        return parts[0]
    ids: list[str | None] | None = None
    if any(part.ids is not None for part in parts):
        ids = [i for part in parts for i in (part.ids or [None] * len(part.vectors))]
    documents: list[EncodedRecord] | None = None
    decoded: list[Document] | None = None
    if any(part.documents is not None for part in parts):
        documents, decoded = [], []
        for part in parts:
            size = len(part.vectors)
            documents += part.documents or [EncodedRecord() for _ in range(size)]
            decoded += part.decoded or [(None, None)] * size
    return _last_of_each_id(
        CheckedRows(
            sum(part.count for part in parts),
            [position for part in parts for position in part.positions],
            ids,
            np.concatenate([part.vectors for part in parts]),
            documents,
            decoded,
            [failure for part in parts for failure in part.failures],
        )
    )


def admit_rows(
    checked: CheckedRows,
    *,
    new_ids: Callable[[int, set[str]], list[str]],
    is_taken: Callable[[str], bool] | None = None,
) -> tuple[RecordBatch, list[Failure]]:
    """Settle what depends on the index; to be called by the one who may write to it.

    Parameters
    ----------
    checked : CheckedRows
    new_ids : callable
        ``new_ids(count, given)`` returns `count` ids that are neither stored nor in the set `given`.
    is_taken : callable, optional
        Refuse records whose id it says is stored already.

    Returns
    -------
    batch : RecordBatch
    failures : list of Failure
        All refusals, by position.
    """
    failures = checked.failures
    if checked.ids is None:
        ids = new_ids(len(checked.vectors), set())
        return RecordBatch(ids, checked.vectors, checked.documents, checked.decoded), failures
    if is_taken is not None:
        taken = [row for row, i in enumerate(checked.ids) if i is not None and is_taken(i)]
        if taken:
            error = IdError("the id is in the index already; overwrite=True would replace it")
            refused = [Failure(checked.positions[row], checked.ids[row], error) for row in taken]
            failures = sorted([*failures, *refused], key=lambda failure: failure.position)
            out = set(taken)
            checked = _select(checked, [row for row in range(len(checked.vectors)) if row not in out])
    assert checked.ids is not None
    given = {i for i in checked.ids if i is not None}
    fresh = iter(new_ids(len(checked.ids) - len(given), given))
    ids = [next(fresh) if i is None else i for i in checked.ids]
    return RecordBatch(ids, checked.vectors, checked.documents, checked.decoded), failures


def _select(checked: CheckedRows, rows: list[int]) -> CheckedRows:
    """Return the good records at the given rows; the failures stay."""
    return CheckedRows(
        checked.count,
        [checked.positions[row] for row in rows],
        None if checked.ids is None else [checked.ids[row] for row in rows],
        checked.vectors[rows],
        None if checked.documents is None else [checked.documents[row] for row in rows],
        None if checked.decoded is None else [checked.decoded[row] for row in rows],
        checked.failures,
    )


def _last_of_each_id(checked: CheckedRows) -> CheckedRows:
    if checked.ids is None:
        return checked
    last = {record_id: row for row, record_id in enumerate(checked.ids)}
    unnamed = checked.ids.count(None)
    if len(last) - (unnamed > 0) + unnamed == len(checked.ids):
        return checked
    last.pop(None, None)
    rows = [row for row, record_id in enumerate(checked.ids) if record_id is None]
    return _select(checked, sorted([*last.values(), *rows]))


# ---------------------------------------------------------------------------------------------- ids


def check_id(value: object) -> str:
    """Return an id as an exact str.

    Raises
    ------
    IdError
        It is no str, empty, longer than 1,024 bytes in UTF-8, or holds NUL or a lone surrogate.
    """
    if not isinstance(value, str):
        raise IdError(f"id must be a str, got {value!r} of type {type(value).__name__}; use str(...)")
    record_id = value if type(value) is str else str.__str__(value)
    if not record_id:
        raise IdError("id is empty; leave it out to have one generated")
    if "\0" in record_id:
        raise IdError(f"id {record_id[:40]!r} holds a NUL character")
    try:
        size = len(record_id.encode())
    except UnicodeEncodeError:
        raise IdError(f"id {record_id[:40]!r} holds a lone surrogate, which UTF-8 cannot encode") from None
    if size > MAX_ID_BYTES:
        raise IdError(f"id {record_id[:40]!r}... takes {size:,} bytes, at most {MAX_ID_BYTES:,} are allowed")
    return record_id


def _check_ids(given: list[Any], failed: dict[int, RecordError]) -> list[str | None]:
    """Return the ids given; None where there was none or none that can be used."""
    if _all_ids_good(given):
        return given
    ids: list[str | None] = [None] * len(given)
    for row, value in enumerate(given):
        if value is None:
            continue
        try:
            ids[row] = check_id(value)
        except IdError as error:
            failed.setdefault(row, error)
    return ids


def _all_ids_good(ids: list[Any]) -> bool:
    """Check all at once, at the speed of C; says False when any one needs a closer look."""
    if set(map(type, ids)) != {str}:
        return False
    joined = "\0".join(ids)
    return (
        joined.isascii()
        and joined.count("\0") == len(ids) - 1
        and "" not in ids
        and max(map(len, ids)) <= MAX_ID_BYTES
    )


# ---------------------------------------------------------------------------------------------- documents


def _check_documents(
    rows: Rows, failed: dict[int, RecordError]
) -> tuple[list[EncodedRecord] | None, list[Document] | None]:
    if rows.metadata is None and rows.text is None and rows.payload is None:
        return None, None
    nothing: list[None] = [None] * rows.count
    columns = zip(rows.metadata or nothing, rows.text or nothing, rows.payload or nothing, strict=True)
    encoded: list[EncodedRecord] = []
    decoded: list[Document] = []
    empty = True
    for row, (metadata, text, payload) in enumerate(columns):
        if row % _BREATH_ROWS == _BREATH_ROWS - 1:
            # Searches in other threads would otherwise wait 5 ms for the GIL, again and again.
            time.sleep(0)
        record = EncodedRecord()
        plain: Document = (None, None)
        if row not in failed:
            try:
                record, plain = _check_document_row(metadata, text, payload)
            except MetadataError as error:
                failed[row] = error
        encoded.append(record)
        decoded.append(plain)
        empty = empty and record.metadata is None and record.text is None and record.payload is None
    return (None, None) if empty else (encoded, decoded)


def _check_document_row(metadata: Any, text: Any, payload: Any) -> tuple[EncodedRecord, Document]:
    record = EncodedRecord()
    plain_metadata = plain_payload = None
    if metadata is not None:
        checked = check_document(metadata, what="metadata")
        if checked:
            plain_metadata = checked
            record.metadata = encode_checked(checked, what="metadata")
    if text is not None:
        record.text = check_text(text)
    if payload is not None:
        plain_payload = check_document(payload, what="payload")
        record.payload = encode_checked(plain_payload, what="payload")
    return record, (plain_metadata, plain_payload)

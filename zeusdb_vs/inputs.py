"""What users hand to `add`, in any of its forms, turned into checked batches.

Three steps. `record_forms.read_rows` tells the forms apart and lays any of them out as columns (`Rows`); a generator
gives one `Rows` for each chunk of it. `check_rows` checks ids, vectors and documents and parts what can be stored
(`CheckedRows`) from what cannot. `admit_rows` settles what depends on the index: ids to be generated, ids
that are taken. Nothing here costs Python work per record for an array without metadata, generated ids aside.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.coerce import check_values, check_vectors
from zeusdb_vs.documents import EncodedRecord, check_document, check_text, encode_checked
from zeusdb_vs.errors import (
    IdError,
    MetadataError,
    RecordError,
)
from zeusdb_vs.record_forms import Rows
from zeusdb_vs.results import AddError

MAX_ID_BYTES = 1024
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

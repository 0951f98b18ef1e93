"""The forms in which users hand records to `add`, told apart and laid out as columns; nothing is checked yet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.checks import did_you_mean
from zeusdb_vs.coerce import is_number
from zeusdb_vs.errors import (
    ArgumentTypeError,
    RecordError,
    VectorError,
)

GENERATOR_CHUNK = 1024
"""Records taken from a generator at a time: enough for an efficient build, little to hold."""


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

"""Segments as bytes: a directory in JSON that says what lies where, and the arrays one after the other.

Nothing read back is trusted: every number is checked before it is used to reach into an array, so that a
damaged file is an error and never a wrong index or an answer from the wrong record.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.filtering.blobs import Blobs
from zeusdb_vs.filtering.columns import DENSE_TERMS, MAX_SIZE, Column, Elements, record_dtype
from zeusdb_vs.filtering.segments import Pairs, Segment
from zeusdb_vs.filtering.terms import Keys, Terms, pack_keys
from zeusdb_vs.filtering.tree import SOURCES
from zeusdb_vs.filtering.values import Kind, from_json, to_json

_FORMAT = 1
_ALIGNMENT = 8
_SIGNED = ("i1", "i2", "i4", "i8")
_UNSIGNED = ("u2", "u4", "u8")


def pack_segments(segments: Sequence[Segment]) -> tuple[NDArray[np.uint8], list[NDArray[np.uint8]]]:
    """Return a directory and the pieces of data it refers to; segments have no changed records.

    Returns
    -------
    directory : ndarray of uint8
        JSON.
    data : list of ndarray of uint8
        Pieces that belong one after the other.
    """
    packer = _Packer()
    described = [
        {
            "size": segment.size,
            "fields": [
                [source, path, packer.column(column)]
                for source, by_path in zip(SOURCES, segment.columns, strict=True)
                for path, column in by_path.items()
            ],
            "scarce": [
                [source, path, [record for record, _ in pairs], [to_json(value) for _, value in pairs]]
                for source, by_path in zip(SOURCES, segment.scarce, strict=True)
                for path, pairs in by_path.items()
            ],
        }
        for segment in segments
    ]
    text = json.dumps({"format": _FORMAT, "segments": described}, separators=(",", ":"))
    return np.frombuffer(text.encode(), np.uint8), packer.pieces


class _Packer:
    def __init__(self) -> None:
        self.pieces: list[NDArray[np.uint8]] = []
        self.position = 0

    def column(self, column: Column) -> dict[str, Any]:
        described: dict[str, Any] = {"terms": self.terms(column.terms)}
        if column.elements is not None:
            described["elements"] = {
                "terms": self.terms(column.elements.terms),
                "starts": self.array(column.elements.starts),
                "members": self.array(column.elements.members),
            }
        for name in ("codes", "order", "starts"):
            part = getattr(column, name)
            if part is not None:
                described[name] = self.array(part)
        return described

    def terms(self, terms: Terms) -> dict[str, Any]:
        return {kind.name: self.keys(keys) for kind, keys in zip(Kind, terms.keys, strict=True) if len(keys)}

    def keys(self, keys: Keys) -> Any:
        if isinstance(keys, Blobs):
            return [self.array(keys.offsets), self.array(np.frombuffer(keys.data, np.uint8))]
        if isinstance(keys, np.ndarray):
            return self.array(keys)
        return [hex(key) for key in keys]

    def array(self, array: NDArray[Any]) -> list[Any]:
        """Add an array, aligned; returns its type, length and place."""
        array = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
        place = self.position
        padding = -array.nbytes % _ALIGNMENT
        self.pieces.append(array.view(np.uint8))
        if padding:
            self.pieces.append(np.zeros(padding, np.uint8))
        self.position += array.nbytes + padding
        return [array.dtype.str[1:], len(array), place]


def unpack_segments(state: dict[str, Any], n: int) -> tuple[Segment, ...]:
    """Return the segments that `pack_segments` described, everything checked and copied.

    Parameters
    ----------
    state : dict
        ``directory`` and ``data``; the latter may be one array or a list of pieces.
    n : int
        Records there must be in all.

    Raises
    ------
    CorruptIndexError
        Anything contradicts anything else.
    """
    try:
        directory = json.loads(bytes(np.asarray(state["directory"], np.uint8)), parse_constant=_refuse)
        data = state["data"]
        if not isinstance(data, np.ndarray):
            data = np.concatenate([np.empty(0, np.uint8), *data])
        if directory["format"] != _FORMAT:
            _refuse(f"format {directory['format']!r} is not {_FORMAT}")
        unpacker = _Unpacker(data.view(np.uint8).ravel())
        segments = tuple(unpacker.segment(described) for described in directory["segments"])
    except CorruptIndexError:
        raise
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        raise CorruptIndexError(
            f"field indexes are damaged: {error!r}; they can be built anew from the documents"
        ) from None
    if sum(segment.size for segment in segments) != n:
        _refuse(f"they hold {sum(segment.size for segment in segments)} records instead of {n}")
    return segments


def _refuse(reason: str) -> NoReturn:
    raise CorruptIndexError(f"field indexes are damaged: {reason}; they can be built anew from the documents")


def _is_ascending(values: NDArray[Any]) -> bool:
    return bool((values[1:] > values[:-1]).all())


def _numbering(count: int) -> tuple[str]:
    """Return the one type that numbers so many things, as it is written."""
    return (np.dtype(record_dtype(count)).str[1:],)


class _Unpacker:
    def __init__(self, data: NDArray[np.uint8]) -> None:
        self.data = data

    def segment(self, described: dict[str, Any]) -> Segment:
        size = described["size"]
        if type(size) is not int or not 0 < size <= MAX_SIZE:
            _refuse(f"a segment of {size!r} records")
        columns: tuple[dict[str, Column], ...] = ({}, {})
        for source, path, column in described["fields"]:
            if type(path) is not str:
                _refuse(f"a field named {path!r}")
            columns[SOURCES.index(source)][path] = self.column(size, column, path)
        scarce: tuple[dict[str, Pairs], ...] = ({}, {})
        for source, path, records, values in described["scarce"]:
            number = SOURCES.index(source)
            if type(path) is not str or path in columns[number] or path in scarce[number]:
                _refuse(f"a field named {path!r} is kept twice")
            scarce[number][path] = self.pairs(size, records, values)
        return Segment(size, columns, scarce)

    def pairs(self, size: int, records: list[int], values: list[Any]) -> Pairs:
        if not all(type(record) is int for record in records) or not records:
            _refuse(f"records are numbered {records!r}")
        if records[0] < 0 or records[-1] >= size or not all(a < b for a, b in pairwise(records)):
            _refuse(f"records {records!r} are out of order or beyond the {size} there are")
        return [(record, from_json(value)) for record, value in zip(records, values, strict=True)]

    def column(self, size: int, described: dict[str, Any], path: str) -> Column:
        terms = self.terms(described["terms"])
        low, high = terms.range_of(Kind.ARRAY)
        elements = self.elements(described["elements"], high - low) if "elements" in described else None
        if (low < high) != (elements is not None):
            _refuse(f"field {path!r} has arrays without elements, or elements without arrays")
        if "codes" in described:
            codes = self.array(described["codes"], ("u1",))
            used = np.bincount(codes, minlength=256)
            if len(codes) != size or len(terms) > DENSE_TERMS or used[len(terms) + 1 :].any():
                _refuse(f"codes of field {path!r} point beyond its terms")
            if not used[1 : len(terms) + 1].all():
                _refuse(f"field {path!r} has terms that no record has")
            return Column(size, terms, elements, codes=codes)
        order = self.array(described["order"], _numbering(size))
        if len(order) and (int(order.max()) >= size or int(np.bincount(order).max()) > 1):
            _refuse(f"field {path!r} names records twice or beyond the {size} there are")
        starts = self.starts(described["starts"], len(terms), len(order)) if "starts" in described else None
        if starts is None and len(order) != len(terms):
            _refuse(f"field {path!r} has {len(order)} records for {len(terms)} terms")
        inside = np.ones(max(0, len(order) - 1), np.bool_)
        inside[(np.arange(1, len(terms)) if starts is None else starts[1:-1].astype(np.int64)) - 1] = False
        if not (order[1:] > order[:-1])[inside].all():
            _refuse(f"field {path!r} has records out of order")
        return Column(size, terms, elements, order=order, starts=starts)

    def elements(self, described: dict[str, Any], arrays: int) -> Elements:
        terms = self.terms(described["terms"])
        members = self.array(described["members"], _numbering(arrays))
        starts = self.starts(described["starts"], len(terms), len(members))
        if len(members) and int(members.max()) >= arrays:
            _refuse(f"elements belong to arrays beyond the {arrays} there are")
        return Elements(terms, starts, members)

    def starts(self, described: Any, terms: int, total: int) -> NDArray[Any]:
        starts = self.array(described, _UNSIGNED)
        if (
            len(starts) != terms + 1
            or int(starts[0])
            or int(starts[-1]) != total
            or not _is_ascending(starts)
        ):
            _refuse("the places of terms are out of order")
        return starts

    def terms(self, described: dict[str, Any]) -> Terms:
        if not described.keys() <= Kind.__members__.keys():
            _refuse(f"unknown kinds of values {sorted(described)}")
        return Terms(
            [
                self.keys(kind, described[kind.name]) if kind.name in described else pack_keys(kind, ())
                for kind in Kind
            ]
        )

    def keys(self, kind: Kind, described: Any) -> Keys:
        keys: Keys
        if kind >= Kind.TEXT:
            return self.blobs(kind, *described)
        if kind is Kind.BIG:
            keys = tuple(int(str(key), 16) for key in described)
            is_valid = all(a < b for a, b in pairwise(keys))
        else:
            allowed = {Kind.INT: _SIGNED, Kind.FLOAT: ("f8",), Kind.DATE: ("i8",)}.get(kind, ("i1",))
            keys = self.array(described, allowed)
            is_valid = _is_ascending(keys) and not np.isnan(keys).any()
            is_valid = is_valid and (kind > Kind.TRUE or len(keys) == 1)
        if not is_valid or not len(keys):
            _refuse(f"the distinct values of kind {kind.name} are out of order")
        return keys

    def blobs(self, kind: Kind, offsets: Any, data: Any) -> Blobs:
        bounds, text = self.array(offsets, _UNSIGNED), self.array(data, ("u1",)).tobytes()
        if (
            len(bounds) < 2
            or int(bounds[0])
            or int(bounds[-1]) != len(text)
            or not (bounds[1:] >= bounds[:-1]).all()
        ):
            _refuse(f"the distinct values of kind {kind.name} overlap")
        blobs = Blobs(text, bounds)
        strings = blobs.to_list()
        if not all(a < b for a, b in pairwise(strings)):
            _refuse(f"the distinct values of kind {kind.name} are out of order")
        if kind is Kind.TEXT:
            for string in strings:
                string.decode("utf-8", "surrogatepass")
        return blobs

    def array(self, described: Any, allowed: tuple[str, ...]) -> NDArray[Any]:
        """Return a copy of one array, of one of the allowed types."""
        name, count, place = described
        if name not in allowed or type(count) is not int or type(place) is not int:
            _refuse(f"an array is described as {described!r}")
        dtype = np.dtype(f"<{name}")
        if count < 0 or place < 0 or place + count * dtype.itemsize > len(self.data):
            _refuse(f"an array lies beyond the {len(self.data)} bytes there are: {described!r}")
        stored = self.data[place : place + count * dtype.itemsize].tobytes()
        return np.frombuffer(stored, dtype).astype(dtype.newbyteorder("="))

"""All fields over a range of records, and how a filter is evaluated there.

A `Segment` holds columns. `Rows` hold records as they came, for the newest and the changed ones. Both answer
the same small protocol, so that a filter is evaluated on either by the same few lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.choices import Matcher, complement, intersection, union
from zeusdb_vs.filtering.columns import NOTHING, Column, Matches, combine, record_dtype
from zeusdb_vs.filtering.matching import prepare
from zeusdb_vs.filtering.tree import SOURCES, And, Comparison, Filter, Not, Or
from zeusdb_vs.filtering.values import MISSING

Row: TypeAlias = "tuple[dict[str, Any], dict[str, Any]]"
"""Paths with their values: of the metadata, and of the payload."""

Pairs: TypeAlias = "list[tuple[int, Any]]"
"""Records that have a field, ascending, and their values."""

EMPTY_ROW: Row = ({}, {})
_SOURCE_NUMBER = {source: number for number, source in enumerate(SOURCES)}


class Block(Protocol):
    """A range of records that a filter is evaluated on."""

    @property
    def size(self) -> int:
        """How many records there are."""
        ...

    def match(self, comparisons: Sequence[Comparison], *, every: bool) -> Matches:
        """Return the records that match all, or any, of some comparisons of one and the same field."""
        ...


def evaluate(tree: Filter, block: Block) -> Matches:
    """Return the records of a block that a filter matches."""
    if isinstance(tree, Comparison):
        return block.match((tree,), every=True)
    if isinstance(tree, And):
        return _evaluate_all(tree, block)
    if isinstance(tree, Or):
        return _evaluate_any(tree.children, block)
    assert isinstance(tree, Not)
    return _negate(_evaluate_any(tree.children, block), block.size)


def _evaluate_all(tree: And, block: Block) -> Matches:
    result: Matches | None = None
    for part in _parts(tree.children):
        found = evaluate(part, block) if isinstance(part, Filter) else block.match(part, every=True)
        result = found if result is None else _both(result, found)
        if not len(result):
            break
    return np.ones(block.size, np.bool_) if result is None else result


def _evaluate_any(children: Sequence[Filter], block: Block) -> Matches:
    found = (
        evaluate(part, block) if isinstance(part, Filter) else block.match(part, every=False)
        for part in _parts(children)
    )
    return reduce(lambda a, b: _either(a, b, block.size), found, NOTHING)


def _parts(children: Sequence[Filter]) -> Iterable[Filter | list[Comparison]]:
    """Put comparisons of one field together: they are united as terms, before any record is touched."""
    if len(children) == 1:
        return children
    together: dict[tuple[str, str], list[Comparison]] = {}
    groups: list[Filter] = []
    for child in children:
        if isinstance(child, Comparison):
            together.setdefault((child.source, child.field), []).append(child)
        else:
            groups.append(child)
    return [*together.values(), *groups]


def _both(first: Matches, second: Matches) -> Matches:
    if first.dtype == np.bool_:
        return first & second if second.dtype == np.bool_ else second[first[second]]
    if second.dtype == np.bool_:
        return first[second[first]]
    return np.intersect1d(first, second, assume_unique=True)


def _either(first: Matches, second: Matches, size: int) -> Matches:
    if first.dtype != np.bool_ and second.dtype != np.bool_:
        if not len(first) or not len(second):
            return second if len(second) else first
        mask = as_mask(first, size)
        mask[second] = True
        return mask
    if first.dtype == np.bool_ and second.dtype == np.bool_:
        return first | second
    mask, few = (first, second) if first.dtype == np.bool_ else (second, first)
    if len(few):
        mask = mask.copy()
        mask[few] = True
    return mask


def _negate(found: Matches, size: int) -> Matches:
    if found.dtype == np.bool_:
        return ~found
    mask = np.ones(size, np.bool_)
    mask[found] = False
    return mask


def as_mask(found: Matches, size: int) -> NDArray[np.bool_]:
    """Return matches as a mask; one that is a mask already is not copied."""
    if found.dtype == np.bool_:
        return found
    mask = np.zeros(size, np.bool_)
    mask[found] = True
    return mask


class Rows:
    """Records as they came, tested one by one."""

    __slots__ = ("rows",)

    def __init__(self, rows: Sequence[Row]) -> None:
        self.rows = rows

    @property
    def size(self) -> int:
        """How many records there are."""
        return len(self.rows)

    def match(self, comparisons: Sequence[Comparison], *, every: bool) -> Matches:
        """Return the records that match all, or any, of some comparisons of one field, as a mask."""
        matchers = [prepare(comparison) for comparison in comparisons]
        source = _SOURCE_NUMBER[comparisons[0].source]
        path = comparisons[0].field
        values = [row[source].get(path, MISSING) for row in self.rows]
        masks = [_tested(values, matcher) for matcher in matchers]
        return reduce(np.logical_and if every else np.logical_or, masks)


def _tested(values: list[Any], matcher: Matcher) -> NDArray[np.bool_]:
    test, missing = matcher.test, matcher.missing
    return np.array([missing if value is MISSING else test(value) for value in values], np.bool_)


class Segment:
    """All fields over a range of records; immutable.

    Parameters
    ----------
    size : int
        Records in the range.
    columns : tuple of dict
        By path, for each source in the order of `SOURCES`.
    scarce : tuple of dict
        Fields that few records have, as they came: by path, pairs of record and value, for each source. A
        column for each would cost far more than it holds where every record has keys of its own.
    changed : ndarray of int64
        Ascending numbers of records changed since the columns were folded.
    rows : list of Row
        What those hold now.
    """

    __slots__ = ("changed", "columns", "rows", "scarce", "size")

    def __init__(
        self,
        size: int,
        columns: tuple[dict[str, Column], ...],
        scarce: tuple[dict[str, Pairs], ...] = ({}, {}),
        changed: NDArray[np.int64] | None = None,
        rows: Sequence[Row] = (),
    ) -> None:
        self.size = size
        self.columns = columns
        self.scarce = scarce
        self.changed = np.empty(0, np.int64) if changed is None else changed
        self.rows = rows

    @classmethod
    def build(cls, rows: Sequence[Row]) -> Segment:
        """Fold records into columns."""
        size = len(rows)
        columns: tuple[dict[str, Column], ...] = ({}, {})
        scarce: tuple[dict[str, Pairs], ...] = ({}, {})
        for source in range(len(SOURCES)):
            for path, (records, values) in _gather([row[source] for row in rows]).items():
                if _is_scarce(len(records), size):
                    scarce[source][path] = list(zip(records, values, strict=True))
                else:
                    columns[source][path] = Column.build(size, records, values)
        return cls(size, columns, scarce)

    def evaluate(self, tree: Filter) -> Matches:
        """Return the records that a filter matches, changed ones included."""
        found = evaluate(tree, self)
        if not len(self.changed):
            return found
        mask: Matches = as_mask(found, self.size).copy()
        mask[self.changed] = as_mask(evaluate(tree, Rows(self.rows)), len(self.rows))
        return mask

    def match(self, comparisons: Sequence[Comparison], *, every: bool) -> Matches:
        """Return the records whose columns match all, or any, of some comparisons of one field."""
        matchers = [prepare(comparison) for comparison in comparisons]
        missing = (all if every else any)([matcher.missing for matcher in matchers])
        column = self.column(comparisons[0])
        if column is None:
            return self._match_scarce(comparisons[0], matchers, missing, every)
        chosen = matchers[0].choose(column)
        if len(matchers) > 1 or missing:
            size = len(column.terms)
            for matcher in matchers[1:]:
                other = matcher.choose(column)
                chosen = intersection(chosen, other, size) if every else union((chosen, other), size)
            if missing:
                return _negate(column.records_of(complement(chosen, size)), self.size)
        return column.records_of(chosen)

    def _match_scarce(
        self, comparison: Comparison, matchers: list[Matcher], missing: bool, every: bool
    ) -> Matches:
        pairs = self.scarce[_SOURCE_NUMBER[comparison.source]].get(comparison.field, ())
        quantify = all if every else any
        differing = [
            record
            for record, value in pairs
            if quantify([matcher.test(value) for matcher in matchers]) is not missing
        ]
        found = np.array(differing, record_dtype(self.size))
        return _negate(found, self.size) if missing else found

    def column(self, comparison: Comparison) -> Column | None:
        """Return the column of the field that a comparison asks about."""
        return self.columns[_SOURCE_NUMBER[comparison.source]].get(comparison.field)

    def replaced(self, records: NDArray[np.int64], rows: Sequence[Row]) -> Segment:
        """Return this segment with other contents for some records."""
        contents = dict(zip(self.changed.tolist(), self.rows, strict=True))
        contents.update(zip(records.tolist(), rows, strict=True))
        order = sorted(contents)
        changed = np.array(order, np.int64)
        return Segment(self.size, self.columns, self.scarce, changed, [contents[record] for record in order])

    def memory_bytes(self) -> int:
        """Return the bytes held, changed records estimated."""
        columns = sum(
            column.memory_bytes() + COLUMN_OVERHEAD_BYTES + len(path)
            for by_path in self.columns
            for path, column in by_path.items()
        )
        scarce = sum(
            _SCARCE_BYTES * len(pairs) + len(path)
            for by_path in self.scarce
            for path, pairs in by_path.items()
        )
        return columns + scarce + rows_memory_bytes(self.rows)


def _gather(documents: list[dict[str, Any]]) -> dict[str, tuple[Sequence[int], list[Any]]]:
    """Return for each path which documents have it, and their values."""
    numbers = range(len(documents))
    first = documents[0].keys() if documents else ()
    if all(document.keys() == first for document in documents):
        # Documents alike, the common case: column by column is three times as fast.
        return {path: (numbers, [document[path] for document in documents]) for path in first}
    gathered: dict[str, tuple[list[int], list[Any]]] = {}
    for number, document in enumerate(documents):
        for path, value in document.items():
            if path not in gathered:
                gathered[path] = ([], [])
            records, values = gathered[path]
            records.append(number)
            values.append(value)
    return dict(gathered)


def _is_scarce(count: int, size: int) -> bool:
    return count <= SCARCE_RECORDS and count * SCARCE_SHARE <= size


SCARCE_RECORDS = 4
SCARCE_SHARE = 32
"""A field is kept as it came when at most so many records have it, and at most one in so many."""
COLUMN_OVERHEAD_BYTES = 900
"""Python objects and array headers of one column."""
_SCARCE_BYTES = 400
"""A path, a pair, a value and their places in a dict and a list."""
_VALUE_BYTES = 150
"""A key and a value in a dict, roughly."""


def rows_memory_bytes(rows: Sequence[Row]) -> int:
    """Estimate the bytes held by records as they came."""
    return sum(64 + _VALUE_BYTES * (len(metadata) + len(payload)) for metadata, payload in rows)


def combine_segments(size: int, parts: Sequence[tuple[Segment, NDArray[np.int64]]]) -> Segment:
    """Unite ranges of records into one, all changes folded in.

    Parameters
    ----------
    size : int
        Records of the new range.
    parts : sequence of (Segment, ndarray of int64, shape (segment.size,))
        Each with the new number of each of its records, -1 for a record that is dropped.

    Returns
    -------
    Segment
    """
    folded: list[tuple[Segment, NDArray[np.int64]]] = []
    for segment, places in parts:
        if len(segment.changed):
            old = places.copy()
            old[segment.changed] = -1
            folded.append((segment, old))
            folded.append((Segment.build(segment.rows), places[segment.changed]))
        else:
            folded.append((segment, places))
    columns: tuple[dict[str, Column], ...] = ({}, {})
    scarce: tuple[dict[str, Pairs], ...] = ({}, {})
    for source in range(len(SOURCES)):
        by_path: dict[str, list[tuple[Column, NDArray[np.int64]]]] = {}
        pairs: dict[str, Pairs] = {}
        for segment, places in folded:
            for path, column in segment.columns[source].items():
                by_path.setdefault(path, []).append((column, places))
            for path, few in segment.scarce[source].items():
                moved = ((places.item(record), value) for record, value in few)
                pairs.setdefault(path, []).extend(pair for pair in moved if pair[0] >= 0)
        for path, few in pairs.items():
            few.sort(key=lambda pair: pair[0])
            if path not in by_path and _is_scarce(len(few), size):
                if few:
                    scarce[source][path] = few
            elif few:
                column = Column.build(size, [record for record, _ in few], [value for _, value in few])
                by_path.setdefault(path, []).append((column, np.arange(size)))
        united = {path: combine(size, pieces) for path, pieces in by_path.items()}
        columns[source].update({path: column for path, column in united.items() if column is not None})
    return Segment(size, columns, scarce)

"""A comparison, prepared: as a test of one value, and as a choice among the sorted terms of a field.

Both say the same; the first serves records that are not folded into columns yet, the second columns.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np

from zeusdb_vs.filtering import texts
from zeusdb_vs.filtering.blobs import Blobs
from zeusdb_vs.filtering.choices import (
    Choice,
    Matcher,
    Vocabulary,
    complement,
    from_flags,
    from_ids,
    intersection,
    union,
)
from zeusdb_vs.filtering.operands import MissingRule, Op
from zeusdb_vs.filtering.terms import Terms
from zeusdb_vs.filtering.tree import Comparison
from zeusdb_vs.filtering.values import (
    EMPTY_ARRAY_KEY,
    KIND_NAMES,
    NUMBER_KINDS,
    Kind,
    classify,
    instant_of,
    instant_of_text,
)

SCAN_SHARE = 16
"""Looking up a string costs as much as passing over so many."""


class _Equal(Matcher):
    """Equal to at least one of some values."""

    def __init__(self, values: Iterable[Any]) -> None:
        keys: dict[Kind, set[Any]] = {}
        instants = set()
        for value in values:
            kind, key = classify(value)
            keys.setdefault(kind, set()).add(key)
            if kind is Kind.DATE:
                instants.add(key)
            elif kind is Kind.TEXT and (instant := instant_of_text(value)) is not None:
                keys.setdefault(Kind.DATE, set()).add(instant)
        self.keys = {kind: [None] if None in found else sorted(found) for kind, found in keys.items()}
        self.sets = keys
        self.instants = instants
        """Of the dates among the values: what text in ISO form is compared with."""

    def test(self, value: Any) -> bool:
        kind, key = classify(value)
        if key in self.sets.get(kind, ()):
            return True
        return kind is Kind.TEXT and bool(self.instants) and instant_of_text(value) in self.instants

    def choose(self, field: Vocabulary) -> Choice:
        parts = [self._choose_kind(field.terms, kind, keys) for kind, keys in self.keys.items()]
        if len(parts) == 1 and not self.instants:
            return parts[0]
        if self.instants:
            indexes, instants = field.terms.blobs(Kind.TEXT).dates()
            same = indexes[np.isin(instants, np.array(list(self.instants), np.int64))]
            parts.append(from_ids(np.sort(same) + field.terms.bases[Kind.TEXT], len(field.terms)))
        return union(parts, len(field.terms))

    def _choose_kind(self, terms: Terms, kind: Kind, keys: Sequence[Any]) -> Choice:
        if len(keys) == 1:
            at = terms.find(kind, keys[0])
            return [(at, at + 1)] if at >= 0 else []
        low, high = terms.range_of(kind)
        if low == high:
            return []
        held = terms.keys[kind]
        if isinstance(held, np.ndarray):
            wanted = np.asarray(keys, np.float64 if kind is Kind.FLOAT else np.int64)
            places = np.minimum(held.searchsorted(wanted), len(held) - 1)
            return from_ids(places[held[places] == wanted] + low, len(terms))
        if len(keys) * SCAN_SHARE < high - low:
            found = [at for at in (terms.find(kind, key) for key in keys) if at >= 0]
            return from_ids(np.array(found, np.int64), len(terms))
        everything = held.to_list() if isinstance(held, Blobs) else held
        flags = np.fromiter((key in self.sets[kind] for key in everything), np.bool_, high - low)
        return from_flags(flags, low, len(terms))


class _EqualPlain(_Equal):
    """Equal to one number, or one string in no ISO form: the commonest tests, without classifying."""

    def __init__(self, operand: str | float) -> None:
        super().__init__([operand])
        self.operand = operand

    def test(self, value: Any) -> bool:
        # Python compares numbers exactly, but takes a bool for one.
        return value == self.operand and type(value) is not bool


class _Differs(Matcher):
    """Equal to none of some values."""

    def __init__(self, equal: _Equal, missing: bool) -> None:
        self.equal = equal
        self.missing = missing

    def test(self, value: Any) -> bool:
        return not self.equal.test(value)

    def choose(self, field: Vocabulary) -> Choice:
        return complement(self.equal.choose(field), len(field.terms))


class _Ordered(Matcher):
    """Above or below a number, a string or an instant."""

    index = "range"

    def __init__(self, op: Op, operand: Any) -> None:
        self.above = op in (Op.GT, Op.GTE)
        self.inclusive = op in (Op.GTE, Op.LTE)
        self.compare: Callable[[Any, Any], bool] = getattr(
            operator, {Op.GT: "gt", Op.GTE: "ge", Op.LT: "lt", Op.LTE: "le"}[op]
        )
        self.bounds: dict[Kind, Any] = {}
        self.instant: int | None = None
        """Of a date as operand: what text in ISO form is compared with."""
        if isinstance(operand, date):
            self.instant = instant_of(operand)
            self.bounds[Kind.DATE] = self.instant
        elif isinstance(operand, str):
            self.bounds[Kind.TEXT] = classify(operand)[1]
            if (instant := instant_of_text(operand)) is not None:
                self.bounds[Kind.DATE] = instant
        else:
            self.bounds = dict.fromkeys(NUMBER_KINDS, operand)

    def test(self, value: Any) -> bool:
        if type(value) in (int, float):
            return Kind.INT in self.bounds and self.compare(value, self.bounds[Kind.INT])
        kind, key = classify(value)
        if kind in self.bounds:
            return self.compare(key, self.bounds[kind])
        if kind is Kind.TEXT and self.instant is not None:
            instant = instant_of_text(value)
            return instant is not None and self.compare(instant, self.instant)
        return False

    def choose(self, field: Vocabulary) -> Choice:
        parts: list[Choice] = []
        for kind, bound in self.bounds.items():
            low, high = field.terms.range_of(kind)
            if low == high:
                continue
            # What sorts before the bound, the bound itself on the side where it is not wanted.
            before = field.terms.lower_bound if self.above == self.inclusive else field.terms.upper_bound
            edge = low + before(kind, bound)
            low, high = (edge, high) if self.above else (low, edge)
            if low < high:
                parts.append([(low, high)])
        if self.instant is not None:
            indexes, instants = field.terms.blobs(Kind.TEXT).dates()
            edge = int(
                instants.searchsorted(self.instant, "left" if self.above == self.inclusive else "right")
            )
            same = np.sort(indexes[edge:] if self.above else indexes[:edge])
            parts.append(from_ids(same + field.terms.bases[Kind.TEXT], len(field.terms)))
        return union(parts, len(field.terms))

    def strangers(self, kinds: Iterable[Kind]) -> list[str]:
        """Return the names of kinds that do not compare with the operand, null aside."""
        known = {Kind.NULL, *self.bounds}
        if self.instant is not None:
            known.add(Kind.TEXT)
        return sorted({KIND_NAMES[kind] for kind in kinds if kind not in known})


class _Contains(Matcher):
    """A substring of text, or an element of arrays."""

    index = "text scan"

    def __init__(self, operand: Any) -> None:
        self.element = _Elements([operand], every=False, scalars=False)
        self.text = texts.containing(operand) if isinstance(operand, str) else None

    def test(self, value: Any) -> bool:
        return self.element.test(value) or (self.text is not None and self.text.test(value))

    def choose(self, field: Vocabulary) -> Choice:
        parts = [self.element.choose(field)]
        if self.text is not None:
            parts.append(self.text.choose(field))
        return union(parts, len(field.terms))


class _Elements(Matcher):
    """Arrays that hold one of some values, or every one; with `scalars`, a scalar is an array of itself."""

    index = "elements"

    def __init__(self, values: Sequence[Any], *, every: bool, scalars: bool) -> None:
        self.wanted = [_Equal([value]) for value in values] if every else [_Equal(values)]
        self.combine: Callable[[Iterable[bool]], bool] = all if every else any
        self.scalars = scalars

    def test(self, value: Any) -> bool:
        if isinstance(value, list):
            return self.combine(any(map(wanted.test, value)) for wanted in self.wanted)
        return self.scalars and self.combine(wanted.test(value) for wanted in self.wanted)

    def choose(self, field: Vocabulary) -> Choice:
        low, high = field.terms.range_of(Kind.ARRAY)
        size = len(field.terms)
        flags = np.full(high - low, self.combine is all)
        for wanted in self.wanted:
            if field.elements is None:
                flags[:] = False
            else:
                holds = field.elements.owners(wanted.choose(field.elements), high - low)
                flags = flags & holds if self.combine is all else flags | holds
        arrays = from_flags(flags, low, size)
        if not self.scalars:
            return arrays
        others = complement([(low, high)] if low < high else [], size)
        scalars: Choice = others
        for wanted in self.wanted:
            scalars = intersection(scalars, wanted.choose(field), size)
        return union([arrays, scalars], size)


class _Presence(Matcher):
    """Whether the field is there, null, or empty, and the opposite of each."""

    index = "presence"

    def __init__(self, op: Op, wanted: bool) -> None:
        self.op = op
        self.wanted = wanted
        self.missing = wanted if op is Op.IS_EMPTY else not wanted

    def _holds(self, value: Any) -> bool:
        if self.op is Op.EXISTS:
            return True
        return value is None or (self.op is Op.IS_EMPTY and isinstance(value, str | list) and not value)

    def test(self, value: Any) -> bool:
        return self._holds(value) == self.wanted

    def choose(self, field: Vocabulary) -> Choice:
        size = len(field.terms)
        chosen: Choice
        if self.op is Op.EXISTS:
            chosen = [(0, size)] if size else []
        else:
            keys: list[tuple[Kind, bytes | None]] = [(Kind.NULL, None)]
            if self.op is Op.IS_EMPTY:
                keys += [(Kind.TEXT, b""), (Kind.ARRAY, EMPTY_ARRAY_KEY)]
            found = [field.terms.find(kind, key) for kind, key in keys]
            chosen = union([[(at, at + 1)] for at in found if at >= 0], size)
        return chosen if self.wanted else complement(chosen, size)


class _NullAsMissing(Matcher):
    """Another matcher under `MissingRule.NULL_DIFFERS`: null matches exactly when a missing field does."""

    def __init__(self, inner: Matcher) -> None:
        self.inner = inner
        self.missing = inner.missing
        self.index = inner.index

    def test(self, value: Any) -> bool:
        return self.missing if value is None else self.inner.test(value)

    def choose(self, field: Vocabulary) -> Choice:
        chosen = self.inner.choose(field)
        low, high = field.terms.range_of(Kind.NULL)
        if low == high:
            return chosen
        if self.missing:
            return union([chosen, [(low, high)]], len(field.terms))
        return intersection(chosen, complement([(low, high)], len(field.terms)), len(field.terms))


# ---------------------------------------------------------------------------------------------- preparation


@lru_cache(maxsize=512)
def prepare(comparison: Comparison) -> Matcher:
    """Return the matcher of a comparison; prepared once for all columns that are asked."""
    matcher = _prepare(comparison.op, comparison.operand, comparison.missing)
    if comparison.missing is MissingRule.NULL_DIFFERS and not isinstance(matcher, _Presence):
        return _NullAsMissing(matcher)
    return matcher


def _prepare(op: Op, operand: Any, missing: MissingRule) -> Matcher:
    if op in (Op.EXISTS, Op.IS_NULL, Op.IS_EMPTY):
        return _Presence(op, operand)
    if op is Op.EQ:
        return _equal(operand)
    if op is Op.IN:
        return _Equal(operand)
    if op in (Op.NE, Op.NIN):
        equal = _equal(operand) if op is Op.NE else _Equal(operand)
        return _Differs(equal, missing is not MissingRule.NEVER)
    if op in (Op.GT, Op.GTE, Op.LT, Op.LTE):
        return _Ordered(op, operand)
    if op is Op.CONTAINS:
        return _Contains(operand)
    if op in (Op.ANY, Op.ALL, Op.ANY_ELEMENT, Op.ALL_ELEMENTS):
        return _Elements(operand, every=op in (Op.ALL, Op.ALL_ELEMENTS), scalars=op in (Op.ANY, Op.ALL))
    return _TEXT_OPS[op](operand)


_TEXT_OPS: Mapping[Op, Callable[[str], Matcher]] = {
    Op.STARTSWITH: texts.starting,
    Op.ENDSWITH: texts.ending,
    Op.LIKE: lambda pattern: texts.like(pattern, is_ordered=True),
    Op.ILIKE: texts.ilike,
    Op.TEXT_MATCH: texts.containing,
    Op.TEXT_MATCH_INSENSITIVE: texts.containing_insensitive,
    Op.REGEX: texts.regex,
}


def _equal(operand: Any) -> _Equal:
    is_plain = (
        instant_of_text(operand) is None if isinstance(operand, str) else isinstance(operand, int | float)
    )
    if is_plain and not isinstance(operand, bool):
        return _EqualPlain(operand)
    return _Equal([operand])


def strangers(comparison: Comparison, kinds: Iterable[Kind]) -> list[str]:
    """Return the names of kinds that an ordering comparison meets in a field but cannot order, null aside."""
    matcher = prepare(comparison)
    if isinstance(matcher, _NullAsMissing):
        matcher = matcher.inner
    return matcher.strangers(kinds) if isinstance(matcher, _Ordered) else []

"""A comparison, prepared: as a test of one value, and as a choice among the sorted terms of a field.

Both say the same; the first serves records that are not folded into columns yet, the second columns.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from functools import lru_cache
from itertools import pairwise
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs.filtering.blobs import Blobs
from zeusdb_vs.filtering.terms import Terms
from zeusdb_vs.filtering.tree import Comparison, MissingRule, Op
from zeusdb_vs.filtering.values import (
    EMPTY_ARRAY_KEY,
    KIND_NAMES,
    NUMBER_KINDS,
    Kind,
    classify,
    instant_of,
    instant_of_text,
)

Ranges: TypeAlias = "list[tuple[int, int]]"
Choice: TypeAlias = "Ranges | NDArray[np.bool_]"
"""Terms chosen: a few ascending, disjoint, non-empty half-open ranges, or a flag for each term."""

MANY_RANGES = 8
"""From here on flags are cheaper than ranges."""
_CHARACTER = rb"(?:[\x00-\x7f]|[\xc0-\xff][\x80-\xbf]*)"
"""One character of UTF-8."""
SCAN_SHARE = 16
"""Looking up a string costs as much as passing over so many."""


class Vocabulary(Protocol):
    """What is known of a field's distinct values; of the elements of its arrays if it has any."""

    @property
    def terms(self) -> Terms:
        """The distinct values."""
        ...

    @property
    def elements(self) -> Elements | None:
        """The distinct elements of the arrays among them."""
        ...


class Elements(Vocabulary, Protocol):
    """What is asked of the elements of a field's arrays."""

    def owners(self, chosen: Choice, arrays: int) -> NDArray[np.bool_]:
        """Return for each of so many arrays whether it holds a chosen element."""
        ...


# ---------------------------------------------------------------------------------------------- choices


def as_flags(chosen: Choice, size: int) -> NDArray[np.bool_]:
    """Return a choice as one flag for each term."""
    if not isinstance(chosen, list):
        return chosen
    flags = np.zeros(size, np.bool_)
    for low, high in chosen:
        flags[low:high] = True
    return flags


def from_flags(flags: NDArray[np.bool_], base: int, size: int) -> Choice:
    """Return the choice of the flagged terms among those from `base` on, out of `size` in all."""
    edges = np.flatnonzero(flags[1:] != flags[:-1])
    if len(edges) < 2 * MANY_RANGES:
        bounds = [0, *(edges + 1).tolist(), len(flags)]
        return [(base + low, base + high) for low, high in pairwise(bounds) if low < high and flags[low]]
    if len(flags) == size:
        return flags
    every = np.zeros(size, np.bool_)
    every[base : base + len(flags)] = flags
    return every


def _from_ids(ids: NDArray[np.integer[Any]], size: int) -> Choice:
    """Return ascending term numbers as a choice."""
    if not len(ids):
        return []
    breaks = np.flatnonzero(np.diff(ids) > 1)
    if len(breaks) < MANY_RANGES:
        firsts = [0, *(breaks + 1).tolist()]
        lasts = [*breaks.tolist(), len(ids) - 1]
        return [(int(ids[a]), int(ids[b]) + 1) for a, b in zip(firsts, lasts, strict=True)]
    flags = np.zeros(size, np.bool_)
    flags[ids] = True
    return flags


def union(parts: Iterable[Choice], size: int) -> Choice:
    """Return the terms in any of the choices."""
    parts = [part for part in parts if not isinstance(part, list) or part]
    if len(parts) <= 1:
        return parts[0] if parts else []
    if all(isinstance(part, list) for part in parts) and sum(map(len, parts)) <= MANY_RANGES:
        merged: Ranges = []
        for low, high in sorted(bounds for part in parts for bounds in part):
            if merged and low <= merged[-1][1]:
                merged[-1] = merged[-1][0], max(high, merged[-1][1])
            else:
                merged.append((low, high))
        return merged
    flags: NDArray[np.bool_] = as_flags(parts[0], size).copy()
    for part in parts[1:]:
        if isinstance(part, list):
            for low, high in part:
                flags[low:high] = True
        else:
            flags |= part
    return flags


def intersection(first: Choice, second: Choice, size: int) -> Choice:
    """Return the terms in both choices."""
    if isinstance(first, list) and isinstance(second, list):
        pairs = ((max(a, c), min(b, d)) for a, b in first for c, d in second)
        return [(low, high) for low, high in pairs if low < high]
    flags: NDArray[np.bool_] = as_flags(first, size) & as_flags(second, size)
    return flags


def complement(chosen: Choice, size: int) -> Choice:
    """Return the terms not chosen."""
    if not isinstance(chosen, list):
        return ~chosen
    edges = [0, *(edge for bounds in chosen for edge in bounds), size]
    return [(low, high) for low, high in zip(edges[::2], edges[1::2], strict=True) if low < high]


# ---------------------------------------------------------------------------------------------- matchers


class Matcher:
    """One comparison, ready to be asked.

    Attributes
    ----------
    missing : bool
        Whether records that lack the field match.
    index : str
        How terms are chosen, for reports: "equality", "range", "text scan", "elements" or "presence".
    """

    index = "equality"
    missing = False

    def test(self, value: Any) -> bool:
        """Whether a value that is there matches."""
        raise NotImplementedError

    def choose(self, field: Vocabulary) -> Choice:
        """Return the terms that match."""
        raise NotImplementedError


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
            parts.append(_from_ids(np.sort(same) + field.terms.bases[Kind.TEXT], len(field.terms)))
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
            return _from_ids(places[held[places] == wanted] + low, len(terms))
        if len(keys) * SCAN_SHARE < high - low:
            found = [at for at in (terms.find(kind, key) for key in keys) if at >= 0]
            return _from_ids(np.array(found, np.int64), len(terms))
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
            parts.append(_from_ids(same + field.terms.bases[Kind.TEXT], len(field.terms)))
        return union(parts, len(field.terms))

    def strangers(self, kinds: Iterable[Kind]) -> list[str]:
        """Return the names of kinds that do not compare with the operand, null aside."""
        known = {Kind.NULL, *self.bounds}
        if self.instant is not None:
            known.add(Kind.TEXT)
        return sorted({KIND_NAMES[kind] for kind in kinds if kind not in known})


class _Text(Matcher):
    """A test of strings; `scan` chooses among the terms that are text."""

    index = "text scan"

    def __init__(self, test: Callable[[str], object], scan: Callable[[Blobs], Choice]) -> None:
        self.holds = test
        self.scan = scan

    def test(self, value: Any) -> bool:
        return isinstance(value, str) and bool(self.holds(value))

    def choose(self, field: Vocabulary) -> Choice:
        base, end = field.terms.range_of(Kind.TEXT)
        if base == end:
            return []
        chosen = self.scan(field.terms.blobs(Kind.TEXT))
        if isinstance(chosen, list):
            return [(base + low, base + high) for low, high in chosen if low < high]
        return from_flags(chosen, base, len(field.terms))


class _Contains(Matcher):
    """A substring of text, or an element of arrays."""

    index = "text scan"

    def __init__(self, operand: Any) -> None:
        self.element = _Elements([operand], every=False, scalars=False)
        self.text = _containing(operand) if isinstance(operand, str) else None

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


# ---------------------------------------------------------------------------------------------- text


def _containing(needle: str) -> _Text:
    key = classify(needle)[1]
    assert isinstance(key, bytes)
    return _Text(lambda text: needle in text, lambda blobs: blobs.containing(key))


def _starting(prefix: str) -> _Text:
    key = prefix.encode("utf-8", "surrogatepass")
    return _Text(lambda text: text.startswith(prefix), lambda blobs: [blobs.prefix_range(key)])


def _starting_unordered(prefix: str) -> _Text:
    key = prefix.encode("utf-8", "surrogatepass")
    return _Text(lambda text: text.startswith(prefix), lambda blobs: blobs.starting_with(key))


def _ending(suffix: str) -> _Text:
    key = suffix.encode("utf-8", "surrogatepass")
    return _Text(lambda text: text.endswith(suffix), lambda blobs: blobs.ending_with(key))


def _containing_insensitive(needle: str) -> _Text:
    lowered = needle.lower()
    key = lowered.encode("utf-8", "surrogatepass")
    return _Text(lambda text: lowered in text.lower(), lambda blobs: blobs.lowered().containing(key))


def _regex(pattern: str) -> _Text:
    search = re.compile(pattern).search
    return _Text(search, lambda blobs: blobs.matching(search))


def _like(pattern: str, *, is_ordered: bool) -> _Text:
    """Return the test of a LIKE pattern; `is_ordered` says whether the strings that are scanned ascend."""
    tokens = _like_tokens(pattern)
    literals = [token for token in tokens if token]
    wildcards = "".join("_" if token == "" else "%" if token is None else "x" for token in tokens)
    if wildcards == "x%":
        return (_starting if is_ordered else _starting_unordered)(literals[0])
    if wildcards == "%x":
        return _ending(literals[0])
    if wildcards == "%x%":
        return _containing(literals[0])
    matches = re.compile(
        "".join(".*" if t is None else "." if t == "" else re.escape(t) for t in tokens), re.DOTALL
    )
    as_bytes = re.compile(
        b"".join(
            b".*"
            if token is None
            else _CHARACTER
            if token == ""
            else re.escape(token.encode("utf-8", "surrogatepass"))
            for token in tokens
        ),
        re.DOTALL,
    )
    exact = _pieces(tokens)
    loose = _pieces([token or None for token in tokens])
    prefix = (literals[0] if wildcards.startswith("x") else "").encode("utf-8", "surrogatepass")

    def scan(blobs: Blobs) -> NDArray[np.bool_]:
        if "" in tokens and not blobs.data.isascii():
            # One character is several bytes there: the rest of the pattern leaves few for the expression.
            return blobs.full_matching(as_bytes, blobs.holding_in_order(loose))
        return blobs.holding_in_order(exact)

    def scan_ordered(blobs: Blobs) -> NDArray[np.bool_]:
        low, high = blobs.prefix_range(prefix)
        found = np.zeros(len(blobs), np.bool_)
        found[low:high] = scan(blobs.between(low, high))
        return found

    return _Text(matches.fullmatch, scan_ordered if is_ordered and prefix else scan)


def _ilike(pattern: str) -> _Text:
    lowered = _like(pattern.lower(), is_ordered=False)
    return _Text(lambda text: lowered.holds(text.lower()), lambda blobs: lowered.scan(blobs.lowered()))


def _like_tokens(pattern: str) -> list[str | None]:
    """Split a LIKE pattern: None is any run, "" any one character, other strings stand for themselves."""
    tokens: list[str | None] = []
    literal = ""
    characters = iter(pattern)
    for character in characters:
        if character == "\\":
            # A backslash at the end stands for itself.
            literal += next(characters, "\\")
            continue
        if character not in "%_":
            literal += character
            continue
        if literal:
            tokens.append(literal)
            literal = ""
        if character == "_":
            tokens.append("")
        elif not tokens or tokens[-1] is not None:
            tokens.append(None)
    if literal:
        tokens.append(literal)
    return tokens


def _pieces(tokens: Sequence[str | None]) -> list[list[int | None]]:
    """Split a LIKE pattern where any run may stand, into bytes; None is any one byte."""
    pieces: list[list[int | None]] = [[]]
    before: str | None = ""
    for token in tokens:
        if token:
            pieces[-1] += token.encode("utf-8", "surrogatepass")
        elif token == "":
            pieces[-1].append(None)
        elif before is not None:
            pieces.append([])
        before = token
    return pieces


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
    Op.STARTSWITH: _starting,
    Op.ENDSWITH: _ending,
    Op.LIKE: lambda pattern: _like(pattern, is_ordered=True),
    Op.ILIKE: _ilike,
    Op.TEXT_MATCH: _containing,
    Op.TEXT_MATCH_INSENSITIVE: _containing_insensitive,
    Op.REGEX: _regex,
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

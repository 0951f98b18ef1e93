"""The dict filter language: a mapping of conditions becomes a checked tree of filter objects.

Two spellings, freely mixed:

- bare operators, ``{"year": {"gte": 2020}}``: a record without the field never matches, not even ``ne``;
- ``$`` operators, ``{"year": {"$gte": 2020}}``: Mongo's, where ``$ne`` and ``$nin`` match such records.

A plain value means equality in both. Several fields, and several operators of a field, must all hold. Groups
are ``$and``, ``$or`` and ``$nor`` with a list of filters, and ``$not`` before a filter or inside a field.
Errors name the path to the part at fault, as in ``$and[2].price.$gt``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from zeusdb_vs.errors import FilterError
from zeusdb_vs.filtering.operands import MissingRule, Op
from zeusdb_vs.filtering.tree import (
    MAX_DEPTH,
    MAX_TERMS,
    And,
    Comparison,
    Field,
    Filter,
    Not,
    Or,
    comparisons_of,
    field,
    filter_from_json,
    matches_everything,
)

__all__ = [
    "MAX_DEPTH",
    "MAX_TERMS",
    "And",
    "Comparison",
    "Field",
    "Filter",
    "MissingRule",
    "Not",
    "Op",
    "Or",
    "comparisons_of",
    "field",
    "filter_from_json",
    "matches_everything",
    "parse_filter",
]

_SHARED: Final = (
    Op.EQ,
    Op.NE,
    Op.GT,
    Op.GTE,
    Op.LT,
    Op.LTE,
    Op.CONTAINS,
    Op.STARTSWITH,
    Op.ENDSWITH,
    Op.IN,
    Op.NIN,
    Op.ANY,
    Op.ALL,
    Op.EXISTS,
)
_BARE: Final = {op.value: op for op in (*_SHARED, Op.IS_NULL)}
_DOLLAR: Final = {f"${op.value}": op for op in (*_SHARED, Op.LIKE, Op.ILIKE, Op.REGEX)}
_LIST_GROUPS: Final[dict[str, Callable[..., Filter]]] = {"$and": And, "$or": Or, "$nor": Not}
_GROUPS: Final = (*_LIST_GROUPS, "$not")
_OPERATORS: Final = (*_BARE, "is_missing", *_DOLLAR, "$between", "$not")

_MAX_KNOWN = 256
_MAX_KNOWN_PARTS = 256
_KNOWN: dict[tuple[Any, ...], Filter] = {}
"""Trees of small filters parsed lately: programs ask with the same few, and parsing one costs as much as a narrow
search."""
_PLAIN_TYPES: Final = frozenset({str, int, float, bool, type(None)})


def parse_filter(filter: Mapping[str, Any] | Filter) -> Filter:
    """Turn a filter in dict form into a checked tree; a filter object is returned as it is.

    Parameters
    ----------
    filter : Mapping or Filter
        Conditions by field name, and groups. An empty mapping matches every record.

    Returns
    -------
    Filter
        Immutable, holding copies of all values.

    Raises
    ------
    FilterError
        An operator or ``$key`` is unknown, an operand has the wrong type, or a limit is broken: groups nested
        more than `MAX_DEPTH` deep, or more than `MAX_TERMS` terms.
    """
    key = None
    if type(filter) is dict:
        key = _key_of(filter)
        known = None if key is None else _KNOWN.get(key)
        if known is not None:
            return known
    if isinstance(filter, Filter):
        return filter
    if not isinstance(filter, Mapping):
        raise FilterError(
            f"a filter is a dict or a filter object, got {_seen(filter)}; "
            "write {'field': value} or {'field': {'operator': value}}"
        )
    tree = _Parser().mapping(filter, "", 0)
    # The same before and after: no other thread has changed the filter while it was read.
    if key is not None and _key_of(filter) == key:
        if len(_KNOWN) >= _MAX_KNOWN:
            _KNOWN.clear()
        _KNOWN[key] = tree
    return tree


def _key_of(filter: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Return what tells plain filters apart, types included: 1, 1.0 and True are three, though Python calls them equal.

    None for large ones, and for those that hold anything but plain values.
    """
    key: list[Any] = []
    waiting: list[Any] = [filter]
    while waiting:
        value = waiting.pop()
        kind = type(value)
        key.append(kind)
        if kind in _PLAIN_TYPES:
            key.append(value)
            continue
        if kind is not dict and kind is not list and kind is not tuple:
            return None
        # Hostile input may share one dict in a million places.
        if len(key) + len(waiting) + 2 * len(value) > _MAX_KNOWN_PARTS:
            return None
        key.append(len(value))
        if kind is dict:
            for name in value:
                if type(name) is not str:
                    return None
                key.append(name)
            waiting += value.values()
        else:
            waiting += value
    return tuple(key)


class _Parser:
    """Walks one filter, counting what it has met: hostile input may share one dict in a million places."""

    def __init__(self) -> None:
        self.terms = 0

    def mapping(self, conditions: Mapping[str, Any], path: str, depth: int) -> Filter:
        """Parse all conditions of a mapping as one conjunction."""
        parts = []
        for key, condition in conditions.items():
            if not isinstance(key, str):
                raise FilterError(f"{_at(path)}field names and operators are str, got {_seen(key)}")
            parts.append(self.entry(key, condition, _join(path, key), depth))
        if not parts:
            self.count(path)
        return parts[0] if len(parts) == 1 else And(*parts)

    def entry(self, key: str, condition: Any, path: str, depth: int) -> Filter:
        """Parse one entry: a group, or the conditions of one field."""
        if not key.startswith("$"):
            return self.field(Field(key), condition, path, depth)
        if key not in _GROUPS:
            raise FilterError(
                f"{path}: {_unknown(key, _GROUPS, 'group')}; a field stands before its operators"
            )
        depth += 1
        if depth > MAX_DEPTH:
            raise FilterError(f"{path}: nested deeper than {MAX_DEPTH} groups, or the filter contains itself")
        if key == "$not":
            if not isinstance(condition, Mapping):
                raise FilterError(f"{path}: takes one filter, a dict, got {_seen(condition)}")
            return Not(self.mapping(condition, path, depth))
        if not isinstance(condition, list | tuple):
            raise FilterError(f"{path}: takes a list of filters, got {_seen(condition)}")
        children = [self.child(child, f"{path}[{i}]", depth) for i, child in enumerate(condition)]
        if not children:
            self.count(path)
        return _LIST_GROUPS[key](*children)

    def child(self, child: Any, path: str, depth: int) -> Filter:
        if isinstance(child, Filter):
            self.count(path, child.terms)
            return _built(path, And, child)
        if not isinstance(child, Mapping):
            raise FilterError(f"{path}: is a filter, a dict, got {_seen(child)}")
        return self.mapping(child, path, depth)

    def field(self, subject: Field, condition: Any, path: str, depth: int) -> Filter:
        """Parse what is asked of one field: a plain value, or operators that must all hold."""
        if not isinstance(condition, Mapping):
            self.count(path)
            return _built(path, Comparison, subject.name, Op.EQ, condition)
        if not condition:
            raise FilterError(
                f"{path}: holds no operator; write {{'exists': True}} for any value, "
                "or {'$eq': {}} to compare with an empty object"
            )
        parts = [self.operator(subject, name, operand, path, depth) for name, operand in condition.items()]
        return parts[0] if len(parts) == 1 else And(*parts)

    def operator(self, subject: Field, name: Any, operand: Any, path: str, depth: int) -> Filter:
        """Parse one operator of a field."""
        if not isinstance(name, str):
            raise FilterError(f"{path}: operators are str, got {_seen(name)}")
        path = f"{path}.{name}"
        if name == "$not":
            if depth >= MAX_DEPTH:
                raise FilterError(
                    f"{path}: nested deeper than {MAX_DEPTH} groups, or the filter contains itself"
                )
            if not isinstance(operand, Mapping):
                raise FilterError(
                    f"{path}: takes a dict of operators, got {_seen(operand)}; use $ne for a value"
                )
            return Not(self.field(subject, operand, path, depth + 1))
        self.count(path)
        if name == "$between":
            return self.between(subject, operand, path)
        if name == "is_missing":
            if type(operand) is not bool:
                raise FilterError(f"{path}: 'is_missing' takes True or False, got {_seen(operand)}")
            return Comparison(subject.name, Op.EXISTS, not operand)
        if name in _BARE:
            return _built(path, Comparison, subject.name, _BARE[name], operand)
        if name in _DOLLAR:
            return _built(path, Comparison, subject.name, _DOLLAR[name], operand, missing=MissingRule.DIFFERS)
        raise FilterError(
            f"{path}: {_unknown(name, _OPERATORS, 'operator')}; "
            "to compare with an object write {'$eq': {...}}"
        )

    def between(self, subject: Field, operand: Any, path: str) -> Filter:
        if not isinstance(operand, list | tuple) or len(operand) != 2:
            raise FilterError(f"{path}: takes a list of two values, lowest and highest, got {_seen(operand)}")
        self.count(path)
        low, high = operand
        mongo = {"missing": MissingRule.DIFFERS}
        return And(
            _built(f"{path}[0]", Comparison, subject.name, Op.GTE, low, **mongo),
            _built(f"{path}[1]", Comparison, subject.name, Op.LTE, high, **mongo),
        )

    def count(self, path: str, terms: int = 1) -> None:
        self.terms += terms
        if self.terms > MAX_TERMS:
            raise FilterError(
                f"{_at(path)}more than {MAX_TERMS:,} terms; compare with many values at once through 'in'"
            )


def _built(path: str, kind: Callable[..., Filter], *arguments: Any, **options: Any) -> Filter:
    """Make a filter object, putting the path in front of what it has to complain about."""
    try:
        return kind(*arguments, **options)
    except FilterError as error:
        raise FilterError(f"{path}: {error}") from None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _at(path: str) -> str:
    return f"{path}: " if path else "filter: "


def _seen(value: Any) -> str:
    try:
        shown = repr(value)
    except Exception:  # a foreign object's repr may do anything
        return f"a {type(value).__name__}"
    return f"{shown[:80] + '…' if len(shown) > 80 else shown} of type {type(value).__name__}"


def _unknown(name: str, known: tuple[str, ...], what: str) -> str:
    plain = name.lstrip("$").lower()
    by_plain: dict[str, str] = {}
    for candidate in known:
        # Of two spellings of one operator the one in the spelling of the mistake is meant.
        if candidate.lstrip("$") not in by_plain or candidate.startswith("$") == name.startswith("$"):
            by_plain[candidate.lstrip("$")] = candidate
    near = get_close_matches(_ALIASES.get(plain, plain), by_plain, n=1, cutoff=0.5)
    hint = f", did you mean {by_plain[near[0]]!r}?" if near else ""
    return f"unknown {what} {name!r}{hint} (known: {', '.join(known)})"


_ALIASES: Final = {
    "equals": "eq",
    "equal": "eq",
    "not_equals": "ne",
    "neq": "ne",
    "ge": "gte",
    "le": "lte",
    "not_in": "nin",
    "notin": "nin",
    "starts_with": "startswith",
    "ends_with": "endswith",
    "includes": "contains",
    "has": "contains",
    "null": "is_null",
    "missing": "is_missing",
}
"""What people write for an operator where the letters alone would not lead to it."""

"""The operators of comparisons, and what they are compared with: checked, and made immutable."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from math import isnan
from types import MappingProxyType
from typing import Any

import numpy as np

from zeusdb_vs.errors import FilterError
from zeusdb_vs.filtering.values import MAX_VALUE_DEPTH, Kind, canonical, classify

MAX_OPERAND_VALUES = 1_000_000
"""Values within the operand of one comparison, such as a list of ids."""
MAX_INTEGER_BITS = 4096
"""As for stored integers: Python refuses to print integers much longer than this."""


class Op(Enum):
    """The operators; the value is the name used in messages and in JSON."""

    EQ = "eq"
    NE = "ne"
    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    IN = "in"
    NIN = "nin"
    CONTAINS = "contains"
    STARTSWITH = "startswith"
    ENDSWITH = "endswith"
    LIKE = "like"
    ILIKE = "ilike"
    REGEX = "regex"
    TEXT_MATCH = "text_match"
    TEXT_MATCH_INSENSITIVE = "text_match_insensitive"
    ANY = "any"
    ALL = "all"
    ANY_ELEMENT = "any_element"
    ALL_ELEMENTS = "all_elements"
    EXISTS = "exists"
    IS_NULL = "is_null"
    IS_EMPTY = "is_empty"


class MissingRule(Enum):
    """What a comparison says of a record that lacks the field.

    `Op.EXISTS`, `Op.IS_NULL` and `Op.IS_EMPTY` speak of missing fields themselves and follow no rule.
    """

    NEVER = "never"
    """It never matches, not even `ne` and `nin`: the bare language."""
    DIFFERS = "differs"
    """It matches `ne` and `nin`, as something else than the operand: the ``$`` language."""
    NULL_DIFFERS = "null_differs"
    """The same, and null is treated as missing throughout: LlamaIndex."""


_ORDERING = (Op.GT, Op.GTE, Op.LT, Op.LTE)
_LISTS = (Op.IN, Op.NIN, Op.ANY, Op.ALL, Op.ANY_ELEMENT, Op.ALL_ELEMENTS)
_TEXTS = (
    Op.STARTSWITH,
    Op.ENDSWITH,
    Op.LIKE,
    Op.ILIKE,
    Op.REGEX,
    Op.TEXT_MATCH,
    Op.TEXT_MATCH_INSENSITIVE,
)
FLAG_OPS = (Op.EXISTS, Op.IS_NULL, Op.IS_EMPTY)


def member_of(kind: Any, value: Any) -> Any:
    """Return the member of an enumeration that a value names."""
    if isinstance(value, kind):
        return value
    try:
        return kind(value)
    except ValueError:
        names = ", ".join(member.value for member in kind)
        raise FilterError(f"unknown {kind.__name__} {value!r}; allowed are {names}") from None


def checked_operand(op: Op, operand: Any) -> Any:
    """Return the operand as an immutable value of the type the operator wants."""
    if isinstance(operand, np.ndarray | np.generic):
        operand = _from_numpy(operand)
    if op in FLAG_OPS:
        if type(operand) is not bool:
            raise FilterError(f"'{op.value}' takes True or False, got {shown(operand)}")
        return operand
    if op in _TEXTS:
        if not isinstance(operand, str):
            raise FilterError(f"'{op.value}' takes a str, got {shown(operand)}")
        if op is Op.REGEX:
            _check_pattern(operand)
        return str.__str__(operand)
    if op in _LISTS:
        if not isinstance(operand, list | tuple | set | frozenset | range):
            raise FilterError(f"'{op.value}' takes a list of values, got {shown(operand)}")
        return _Freezer().freeze(tuple(operand))
    frozen = _Freezer().freeze(operand)
    if op in _ORDERING and not (
        isinstance(frozen, int | float | str | date) and not isinstance(frozen, bool)
    ):
        raise FilterError(f"'{op.value}' takes a number, a str, a datetime or a date, got {shown(operand)}")
    return frozen


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise FilterError(
            f"'regex' takes a pattern of Python's re module, got {pattern!r}: {error}"
        ) from None


def shown(value: Any) -> str:
    """Return a value for a message: its repr, cut, and its type."""
    try:
        text = repr(value)
    except Exception:  # a foreign object's repr may do anything
        return f"a {type(value).__name__}"
    return f"{text[:80] + '…' if len(text) > 80 else text} of type {type(value).__name__}"


def _from_numpy(value: Any) -> Any:
    if value.dtype.kind == "M" and value.dtype != "datetime64[D]":
        value = value.astype("datetime64[us]")
    plain = value.tolist()
    if isinstance(plain, np.generic):
        raise FilterError(f"cannot compare with a NumPy value of dtype {value.dtype}")
    return plain


class _Freezer:
    """Copies an operand into tuples, read-only mappings and plain values, within limits."""

    def __init__(self) -> None:
        self.values = 0

    def freeze(self, value: Any, depth: int = 0) -> Any:
        self.values += 1
        if self.values > MAX_OPERAND_VALUES:
            raise FilterError(f"an operand holds more than {MAX_OPERAND_VALUES:,} values")
        kind = type(value)
        if kind is str or kind is bool or value is None:
            return value
        if kind is int or kind is float:
            return _checked_number(value)
        if isinstance(value, np.ndarray | np.generic):
            return self.freeze(_from_numpy(value), depth)
        if depth > MAX_VALUE_DEPTH // 2:
            raise FilterError(
                f"an operand is nested deeper than {MAX_VALUE_DEPTH // 2} levels, or contains itself"
            )
        if isinstance(value, list | tuple):
            return tuple([self.freeze(item, depth + 1) for item in value])
        if isinstance(value, Mapping):
            for key in value:
                if not isinstance(key, str):
                    raise FilterError(f"keys of an object are str, got {shown(key)}")
            items = {str.__str__(key): self.freeze(item, depth + 1) for key, item in value.items()}
            return MappingProxyType(items)
        return _plain_scalar(value)


def _checked_number(value: int | float) -> int | float:
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise FilterError(
                f"an integer of {value.bit_length():,} bits, at most {MAX_INTEGER_BITS:,} are allowed"
            )
    elif isnan(value):
        raise FilterError("NaN compares with nothing; use is_null, or leave the condition out")
    return value


def _plain_scalar(value: Any) -> Any:
    """Reduce subclasses of str, int, float, datetime and date to those types."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int | float):
        return _checked_number(int(value) if isinstance(value, int) else float(value))
    if isinstance(value, date):
        try:
            if isinstance(value, datetime):
                return datetime.fromisoformat(datetime.isoformat(value))
            return date(value.year, value.month, value.day)
        except (ValueError, TypeError, OverflowError) as error:
            raise FilterError(f"cannot compare with {shown(value)}: {error}") from None
    raise FilterError(
        f"cannot compare with {shown(value)}; "
        "use str, int, float, bool, None, datetime, date, and lists and dicts of these"
    )


def typed_key(operand: Any) -> Any:
    """Return what tells operands apart: 1, 1.0 and True are three, though Python calls them equal."""
    if isinstance(operand, tuple):
        return tuple(map(typed_key, operand))
    if isinstance(operand, Mapping):
        return canonical(operand)
    if isinstance(operand, date):
        return type(operand), operand.isoformat()
    kind, key = classify(operand)
    return (int(kind), type(operand), key) if kind in (Kind.INT, Kind.FLOAT) else (int(kind), key)


def operand_repr(operand: Any) -> str:
    """Return the repr of an operand, tuples as the lists they were given as."""
    if isinstance(operand, tuple):
        return f"[{', '.join(map(operand_repr, operand))}]"
    if isinstance(operand, Mapping):
        return f"{{{', '.join(f'{key!r}: {operand_repr(item)}' for key, item in operand.items())}}}"
    return repr(operand)

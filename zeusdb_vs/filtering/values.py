"""How one metadata value is classified, compared and keyed: the one place that says when two are equal.

- Numbers are equal and ordered by their exact value, whatever their type: ``10 == 10.0``, and ``2**53 + 1``
  is not ``2.0**53``. A bool is never a number.
- A datetime stands for an instant. A naive one is taken as UTC, a date as its midnight in UTC.
- Strings are equal and ordered by code point. Where one side is a datetime or a date, a string in ISO form on
  the other side is read as the instant it names; two strings always compare as strings.
- Arrays and objects compare whole, element by element, without reading strings as instants.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta, timezone
from enum import IntEnum
from hashlib import blake2b
from math import isinf
from typing import Any, Final, TypeAlias

MAX_VALUE_DEPTH = 64
"""Twice what documents may have: a value nested deeper is refused instead of exhausting the stack."""

_INT64_MIN, _INT64_MAX = -(2**63), 2**63 - 1
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_DAY_US = 86_400_000_000
_EPOCH_ORDINAL = date(1970, 1, 1).toordinal()
_SHORT_KEY_BYTES = 16
"""Arrays and objects up to this long are their own key; longer ones are keyed by a digest."""

_ISO = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[Tt ](\d\d):(\d\d)(?::(\d\d)(?:[.,](\d{1,9}))?)?(?:([Zz])|([+-])(\d\d)(?::?(\d\d))?)?)?",
    re.ASCII,
)


class Missing:
    """The type of `MISSING`, which stands for a field that a record does not have."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


class Kind(IntEnum):
    """The classes of values, in the order in which a field's distinct values are kept."""

    NULL = 0
    FALSE = 1
    TRUE = 2
    INT = 3
    FLOAT = 4
    BIG = 5
    DATE = 6
    TEXT = 7
    ARRAY = 8
    OBJECT = 9


Key: TypeAlias = "int | float | bytes | None"
"""What a value is found by within its kind: ordered like the values themselves."""

KIND_NAMES: Final = {
    Kind.NULL: "null",
    Kind.FALSE: "bool",
    Kind.TRUE: "bool",
    Kind.INT: "int",
    Kind.FLOAT: "float",
    Kind.BIG: "int",
    Kind.DATE: "datetime",
    Kind.TEXT: "str",
    Kind.ARRAY: "list",
    Kind.OBJECT: "dict",
}

NUMBER_KINDS: Final = (Kind.INT, Kind.FLOAT, Kind.BIG)


def classify(value: Any) -> tuple[Kind, Key]:
    """Return the kind and key of a value; two values are equal exactly when these are.

    Parameters
    ----------
    value : str, int, float, bool, None, datetime, date, sequence or mapping
        Floats are finite or infinite, never NaN.

    Returns
    -------
    tuple of (Kind, None | int | float | bytes)
        Null and booleans have no key; datetimes have microseconds since 1970 in UTC; text its UTF-8; arrays
        and objects their canonical form, or its digest where that is long.
    """
    kind = type(value)
    if kind is str:
        return Kind.TEXT, value.encode("utf-8", "surrogatepass")
    if kind is bool:
        return (Kind.TRUE if value else Kind.FALSE), None
    if kind is int:
        return _classify_int(value)
    if kind is float:
        return _classify_float(value)
    if value is None:
        return Kind.NULL, None
    if isinstance(value, datetime | date):
        return Kind.DATE, instant_of(value)
    if isinstance(value, list | tuple):
        return Kind.ARRAY, _short(canonical(value))
    if isinstance(value, Mapping):
        return Kind.OBJECT, _short(canonical(value))
    return classify(_plain(value))


def _plain(value: Any) -> Any:
    """Reduce an instance of a subclass to the plain type it extends."""
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain.__str__(value) if plain is str else plain(value)
    raise TypeError(f"a {type(value).__name__} is no metadata value")


def _classify_int(value: int) -> tuple[Kind, Key]:
    if _INT64_MIN <= value <= _INT64_MAX:
        return Kind.INT, value
    try:
        near = float(value)
    except OverflowError:
        return Kind.BIG, value
    return (Kind.FLOAT, near) if near == value else (Kind.BIG, value)


def _classify_float(value: float) -> tuple[Kind, Key]:
    # An integral float within int64 is kept as the integer it equals, so that 10 and 10.0 are one term.
    if value.is_integer() and -9.3e18 < value < 9.3e18:
        return _classify_int(int(value))
    return Kind.FLOAT, value


def instant_of(value: date) -> int:
    """Return a datetime or date as microseconds since 1970 in UTC; naive is UTC, a date is its midnight."""
    if isinstance(value, datetime):
        if value.utcoffset() is None:
            value = value.replace(tzinfo=timezone.utc)
        return (value - _EPOCH) // _MICROSECOND
    return (value.toordinal() - _EPOCH_ORDINAL) * _DAY_US


def instant_of_text(text: str) -> int | None:
    """Return the instant that a string in ISO form names, or None when it is in no such form.

    ``YYYY-MM-DD``, optionally followed by ``T`` or a blank, ``HH:MM``, seconds, a fraction (cut to
    microseconds) and ``Z`` or an offset; without an offset it is UTC.
    """
    match = _ISO.fullmatch(text)
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, _, sign, off_hours, off_minutes = match.groups()
    offset = int(off_hours or 0) * 60 + int(off_minutes or 0)
    if offset >= 24 * 60 or int(off_minutes or 0) > 59:
        return None
    try:
        moment = datetime(
            int(year),
            int(month),
            int(day),
            int(hour or 0),
            int(minute or 0),
            int(second or 0),
            tzinfo=timezone.utc,
        )
    except ValueError:
        return None
    instant = instant_of(moment) + int((fraction or "0").ljust(6, "0")[:6])
    return instant - (offset if sign == "+" else -offset) * 60_000_000


def instant_from_key(instant: int) -> datetime:
    """Return the aware UTC datetime of an instant; one beyond Python's years is cut to the nearest."""
    try:
        return _EPOCH + timedelta(microseconds=instant)
    except OverflowError:
        edge = datetime.min if instant < 0 else datetime.max
        return edge.replace(tzinfo=timezone.utc)


_CONTAINERS: Final[dict[type[Any], Kind]] = {list: Kind.ARRAY, dict: Kind.OBJECT}


def classify_array(value: Sequence[Any]) -> tuple[bytes, list[tuple[Kind, Key]] | None]:
    """Return the key of an array, and what `classify` says of its items if there are arrays or objects among them.

    Both take the canonical forms of the items, which are most of the work.
    """
    if _CONTAINERS.keys().isdisjoint(map(type, value)):
        return _short(canonical(value)), None
    forms = [canonical(item, 1) for item in value]
    classes = [
        (_CONTAINERS[type(item)], _short(form)) if type(item) in _CONTAINERS else classify(item)
        for item, form in zip(value, forms, strict=True)
    ]
    return _short(b"[" + b",".join(forms) + b"]"), classes


_EXACT: Final = frozenset({dict, int, float, bool, type(None)})


def canonical(value: Any, depth: int = 0) -> bytes:
    """Return bytes that are equal for two values exactly when the values are.

    Raises
    ------
    RecursionError
        Nested deeper than `MAX_VALUE_DEPTH`, or containing itself.
    """
    # Exact types first: asking whether something is a Mapping costs more than all the rest.
    exact = type(value)
    if exact is str:
        return _text_token(value)
    if depth > MAX_VALUE_DEPTH:
        raise RecursionError(f"nested deeper than {MAX_VALUE_DEPTH} levels, or contains itself")
    if exact is list or (exact not in _EXACT and isinstance(value, list | tuple)):
        return b"[" + b",".join([canonical(item, depth + 1) for item in value]) + b"]"
    if exact is dict or (exact not in _EXACT and isinstance(value, Mapping)):
        pairs = [_text_token(key) + b":" + canonical(item, depth + 1) for key, item in value.items()]
        pairs.sort()
        return b"{" + b",".join(pairs) + b"}"
    kind, key = classify(value)
    if isinstance(key, bytes):
        return b"s%d:%b" % (len(key), key)
    if isinstance(key, float):
        return b"f" + key.hex().encode()
    return b"%b%x" % (_TAGS[kind], key or 0)


def _text_token(text: str) -> bytes:
    key = text.encode("utf-8", "surrogatepass")
    return b"s%d:%b" % (len(key), key)


def _short(key: bytes) -> bytes:
    if len(key) <= _SHORT_KEY_BYTES:
        return key
    # 0xff begins no canonical form, so a digest never equals one.
    return b"\xff" + blake2b(key, digest_size=16).digest()


_TAGS: Final = {
    Kind.NULL: b"n",
    Kind.FALSE: b"no",
    Kind.TRUE: b"yes",
    Kind.INT: b"i",
    Kind.BIG: b"i",
    Kind.DATE: b"d",
}
EMPTY_ARRAY_KEY: Final = canonical([])


def flatten(document: dict[str, Any]) -> dict[str, Any]:
    """Return every path of a document with its value, objects under their own path included.

    A path joins keys by dots. Where several ways lead to one path, the longest key wins at each level: the
    literal key ``"a.b"`` before ``b`` within ``a``. A document without nested objects is returned as it is.
    """
    for value in document.values():
        if type(value) is dict:
            paths: dict[str, Any] = {}
            _flatten_into(paths, "", document)
            return paths
    return document


def _flatten_into(paths: dict[str, Any], prefix: str, document: dict[str, Any]) -> None:
    keys: Any = document
    if any("." in key for key in document):
        keys = sorted(document, key=len, reverse=True)
    for key in keys:
        value = document[key]
        path = prefix + key
        paths.setdefault(path, value)
        if type(value) is dict:
            _flatten_into(paths, path + ".", value)


# ---------------------------------------------------------------------------------------------- JSON

_MARKS = ("$date", "$datetime", "$literal", "$float")


def to_json(value: Any) -> Any:
    """Return a value as plain JSON: dates and infinities marked, objects that look like a mark wrapped."""
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        plain = {key: to_json(item) for key, item in value.items()}
        return {"$literal": plain} if any(mark in plain for mark in _MARKS) else plain
    if isinstance(value, date):
        return {"$datetime" if isinstance(value, datetime) else "$date": value.isoformat()}
    if isinstance(value, float) and isinf(value):
        return {"$float": repr(value)}
    return value


def from_json(plain: Any, depth: int = 0) -> Any:
    """Return the value that `to_json` wrote.

    Raises
    ------
    ValueError, TypeError
        A mark does not hold what belongs there.
    RecursionError
        Nested deeper than `MAX_VALUE_DEPTH`, or containing itself.
    """
    if depth > MAX_VALUE_DEPTH:
        raise RecursionError(f"nested deeper than {MAX_VALUE_DEPTH} levels, or contains itself")
    if isinstance(plain, list):
        return [from_json(item, depth + 1) for item in plain]
    if not isinstance(plain, Mapping):
        return plain
    if len(plain) == 1:
        ((mark, value),) = plain.items()
        if mark == "$date":
            return date.fromisoformat(value)
        if mark == "$datetime":
            return datetime.fromisoformat(value)
        if mark == "$float" and value in ("inf", "-inf"):
            return float(value)
        if mark == "$literal" and isinstance(value, Mapping):
            plain = value
    return {key: from_json(item, depth + 1) for key, item in plain.items()}

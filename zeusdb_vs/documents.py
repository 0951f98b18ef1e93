"""Metadata, text and payload of one record: checked, copied, and kept as compact JSON text.

JSON knows no dates. A date is written as an object with one key, ``{"$date": "2024-05-01"}`` or
``{"$datetime": "2024-05-01T12:00:00"}``. A quote inside a JSON string is always escaped, so the characters
``{"$date`` occur in a text only where an object with such a first key begins: one substring test tells the
texts that need the slow decoder from the many that do not. An object of the user's that would look like a
mark has its key escaped.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from math import isfinite
from typing import Any

import msgspec
import numpy as np

from zeusdb_vs.errors import CorruptIndexError, MetadataError

MAX_DEPTH = 32
"""Nesting allowed in a document: far beyond real metadata, far below Python's recursion limit."""
MAX_DOCUMENT_BYTES = 1 << 20
MAX_INTEGER_BITS = 4096
"""Python refuses to print integers much longer than this."""

_DATE = "$date"
_DATETIME = "$datetime"
_ESCAPE = "$date-key:"
_MARK = '{"$date'


@dataclass(slots=True)
class EncodedRecord:
    """What is stored of a record beside its id and vector.

    Attributes
    ----------
    metadata : str or None
        JSON text of the metadata; None stands for ``{}``.
    text : str or None
        The text itself, not JSON.
    payload : str or None
        JSON text of the payload, or None when the record has none.
    """

    metadata: str | None = None
    text: str | None = None
    payload: str | None = None


class _UnstorableError(Exception):
    """A value JSON cannot keep; the path to it is collected on the way out."""

    def __init__(self, reason: str) -> None:
        self.reason = reason
        self.path: list[str] = []


def encode_document(value: Mapping[str, Any], *, what: str) -> str:
    """Check a document and turn it into compact JSON text.

    Parameters
    ----------
    value : Mapping
        Keys are str; values are str, int, finite float, bool, None, datetime, date, NumPy scalars and arrays,
        and lists, tuples and mappings of these, at most 32 deep.
    what : str
        What the document is called in error messages, such as ``"metadata"``.

    Returns
    -------
    str
        JSON of at most 1 MiB in UTF-8.

    Raises
    ------
    MetadataError
        Something cannot be kept; the message names the path to it.
    """
    return encode_checked(check_document(value, what=what), what=what)


def check_document(value: Mapping[str, Any], *, what: str) -> dict[str, Any]:
    """Return an own copy of a document made of plain Python values only.

    NumPy values become Python's, tuples and arrays become lists, datetimes keep their offset as a fixed one.

    Raises
    ------
    MetadataError
        As for `encode_document`, the total size aside.
    """
    if not isinstance(value, Mapping):
        raise MetadataError(f"{what} must be a dict, got {type(value).__name__}; pass a dict with str keys")
    try:
        return _copy_mapping(value, 1)
    except _UnstorableError as error:
        path = "".join(reversed(error.path))
        raise MetadataError(f"{what}{path} {error.reason}") from None


def encode_checked(document: dict[str, Any], *, what: str) -> str:
    """Turn the outcome of `check_document` into compact JSON text of at most 1 MiB.

    Raises
    ------
    MetadataError
        The text is longer than 1 MiB, or holds a character that UTF-8 cannot encode.
    """
    text = _encode(document)
    if _MARK in text and _has_mark_like_key(document):
        text = _encode(_escaped(document))
    size = len(text)
    if not text.isascii():
        size = _utf8_size(text, what)
    if size > MAX_DOCUMENT_BYTES:
        raise MetadataError(
            f"{what} takes {size:,} bytes as JSON, at most {MAX_DOCUMENT_BYTES:,} are allowed; "
            "keep long text in the record's `text`"
        )
    return text


def decode_document(text: str) -> dict[str, Any]:
    """Return the document a text of `encode_document` holds: a fresh dict at each call.

    Raises
    ------
    CorruptIndexError
        The text is not one JSON object.
    """
    try:
        document = _decode(text)
    except (ValueError, TypeError, RecursionError) as error:
        raise CorruptIndexError(f"stored document is not JSON: {error!r} in {text[:60]!r}") from None
    if type(document) is not dict:
        raise CorruptIndexError(f"stored document is not one JSON object: {text[:60]!r}")
    return document


def decode_documents(texts: Iterable[str | None]) -> list[dict[str, Any]]:
    """Return what `decode_document` does for each text, ``{}`` for None, with less around each.

    Raises
    ------
    CorruptIndexError
        A text is not one JSON object.
    """
    documents: list[dict[str, Any]] = []
    decode, mark = _decode_json, _MARK
    for text in texts:
        if text is None:
            documents.append({})
            continue
        try:
            # As in `_decode`, whose frame would cost as much again.
            document = decode(text if text.isascii() else text.encode())
            if mark in text:
                document = _restored(document)
        except (ValueError, TypeError, RecursionError):
            document = None
        documents.append(document if type(document) is dict else decode_document(text))
    return documents


def check_text(value: object) -> str | None:
    """Return a record's text as an exact str, or None.

    Raises
    ------
    MetadataError
        It is neither str nor None, or holds a character that UTF-8 cannot encode.
    """
    if value is None:
        return None
    if not isinstance(value, str):
        raise MetadataError(f"text must be a str, got {type(value).__name__}")
    if not value.isascii():
        _utf8_size(value, "text")
    return value if type(value) is str else str.__str__(value)


def _utf8_size(text: str, what: str) -> int:
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        near = text[max(0, error.start - 20) : error.start]
        raise MetadataError(
            f"{what} holds a lone surrogate (U+{ord(text[error.start]):04X}) after {near!r}; "
            "it cannot be written as UTF-8, remove or replace it"
        ) from None


# ---------------------------------------------------------------------------------------------- checking

_PLAIN = (str, int, bool, type(None))


def _copy_mapping(value: Mapping[Any, Any], depth: int) -> dict[str, Any]:
    if depth > MAX_DEPTH:
        raise _UnstorableError(f"is nested deeper than {MAX_DEPTH} levels, or contains itself; flatten it")
    copy: dict[str, Any] = {}
    # One element at a time and exact types first: this loop is the cost of adding metadata.
    for key, item in value.items():
        if type(key) is not str:
            key = _plain_key(key)
        kind = type(item)
        if kind is str or kind is bool or item is None or (kind is float and isfinite(item)):
            copy[key] = item
        else:
            try:
                copy[key] = _copy_value(item, depth)
            except _UnstorableError as error:
                error.path.append(f".{key}")
                raise
    return copy


def _plain_key(key: object) -> str:
    if isinstance(key, str):
        return str.__str__(key)
    raise _UnstorableError(f"has the key {key!r} of type {type(key).__name__}; keys must be str")


def _copy_sequence(value: list[Any] | tuple[Any, ...], depth: int) -> list[Any]:
    if depth > MAX_DEPTH:
        raise _UnstorableError(f"is nested deeper than {MAX_DEPTH} levels, or contains itself; flatten it")
    copy = []
    for position, item in enumerate(value):
        kind = type(item)
        if kind is str or kind is bool or item is None or (kind is float and isfinite(item)):
            copy.append(item)
        else:
            try:
                copy.append(_copy_value(item, depth))
            except _UnstorableError as error:
                error.path.append(f"[{position}]")
                raise
    return copy


def _copy_value(value: Any, depth: int) -> Any:
    """Copy what is not an exact str, bool, None or finite float; subclasses are reduced to the plain type."""
    exact = type(value)  # asking whether something is a Mapping takes as long as copying a small one
    if exact is dict:
        return _copy_mapping(value, depth + 1)
    if exact is list:
        return _copy_sequence(value, depth + 1)
    if isinstance(value, int):
        if value.bit_length() > MAX_INTEGER_BITS:
            raise _UnstorableError(
                f"is an integer of {value.bit_length():,} bits, at most {MAX_INTEGER_BITS:,}"
            )
        return int.__int__(value)
    if isinstance(value, float):
        if not isfinite(value):
            raise _UnstorableError(f"is {value!r}; JSON has no such number; use None or leave the key out")
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, Mapping):
        return _copy_mapping(value, depth + 1)
    if isinstance(value, list | tuple):
        return _copy_sequence(value, depth + 1)
    if isinstance(value, date):
        return _copy_date(value)
    if isinstance(value, np.ndarray | np.generic):
        return _copy_numpy(value, depth)
    raise _UnstorableError(
        f"is of type {type(value).__name__}, which cannot be kept; "
        "use str, int, float, bool, None, datetime, date, list or dict"
    )


def _copy_date(value: date) -> date:
    # Through the text that will be stored: subclasses (and pandas' NaT, which claims to be a datetime) show
    # here whether they can come back.
    try:
        if isinstance(value, datetime):
            return datetime.fromisoformat(datetime.isoformat(value))
        return date(value.year, value.month, value.day)
    except (ValueError, TypeError, OverflowError) as error:
        raise _UnstorableError(f"is {value!r}, which is no date that can be kept ({error})") from None


def _copy_numpy(value: np.ndarray[Any, Any] | np.generic, depth: int) -> Any:
    kind = value.dtype.kind
    if kind == "M":
        # Finer units than microseconds come out of tolist() as integers.
        value = value if value.dtype == "datetime64[D]" else value.astype("datetime64[us]")
        if np.isnat(value).any():
            raise _UnstorableError("is NaT; use None or leave the key out")
    elif kind not in "biufUO" or (kind == "f" and value.dtype.itemsize > 8):
        raise _UnstorableError(f"is a NumPy value of dtype {value.dtype}, which cannot be kept")
    plain = value.tolist()
    if isinstance(plain, list):
        return _copy_sequence(plain, depth + 1)
    if isinstance(plain, np.generic):
        raise _UnstorableError(f"is a NumPy value of dtype {value.dtype}, which cannot be kept")
    return plain if type(plain) in _PLAIN else _copy_value(plain, depth)


# ---------------------------------------------------------------------------------------------- JSON


def _date_mark(value: object) -> dict[str, str]:
    if isinstance(value, datetime):
        return {_DATETIME: value.isoformat()}
    if isinstance(value, date):
        return {_DATE: value.isoformat()}
    raise TypeError(f"unchecked value {value!r} reached the JSON encoder")


_encode = json.JSONEncoder(
    ensure_ascii=False, check_circular=False, allow_nan=False, separators=(",", ":"), default=_date_mark
).encode


def _has_mark_like_key(value: object) -> bool:
    if isinstance(value, dict):
        if len(value) == 1 and next(iter(value)).startswith(_DATE):
            return True
        return any(map(_has_mark_like_key, value.values()))
    return isinstance(value, list) and any(map(_has_mark_like_key, value))


def _escaped(value: Any) -> Any:
    if isinstance(value, dict):
        if len(value) == 1:
            ((key, item),) = value.items()
            return {_ESCAPE + key if key.startswith(_DATE) else key: _escaped(item)}
        return {key: _escaped(item) for key, item in value.items()}
    return [_escaped(item) for item in value] if isinstance(value, list) else value


_decode_json: Callable[[str | bytes], Any] = msgspec.json.Decoder().decode
_NESTED = (dict, list)


def _decode(text: str) -> Any:
    # Of a str that is not ASCII the decoder would ask for UTF-8, which the str then keeps for as long as it lives.
    value = _decode_json(text if text.isascii() else text.encode())
    return _restored(value) if _MARK in text else value


def _restored(value: Any) -> Any:
    """Turn marks back into dates and unescape keys; objects and lists are changed in place."""
    if type(value) is dict and len(value) == 1:
        ((key, item),) = value.items()
        if key == _DATETIME:
            return datetime.fromisoformat(item)
        if key == _DATE:
            return date.fromisoformat(item)
        return {key.removeprefix(_ESCAPE): _restored(item)}
    if type(value) is dict:
        for key, item in value.items():
            if type(item) in _NESTED:
                value[key] = _restored(item)
    elif type(value) is list:
        for position, item in enumerate(value):
            if type(item) in _NESTED:
                value[position] = _restored(item)
    return value

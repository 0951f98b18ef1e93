"""JSON without the liberties of the standard library.

No NaN, no duplicate keys, no lone surrogates, bounded depth. Reading checks all of it on bytes that may come
from anyone. Writing checks the same, so that nothing is saved which could not be read back.
"""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

# Documents of users are at most this deep.
MAX_DEPTH = 32


class StrictJSONError(ValueError):
    """Bytes that are not JSON as this package understands it; the message says why."""


def _refuse_constant(name: str) -> NoReturn:
    raise StrictJSONError(f"holds {name}, which is not JSON")


def _finite_float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise StrictJSONError(f"holds the number {text[:32]}, which no float can hold")
    return value


def _unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise StrictJSONError(f"holds the key {key!r} twice in one object")
            seen.add(key)
    return result


def _check_tree(value: Any, max_depth: int) -> None:
    level = [value]
    depth = 0
    while level:
        depth += 1
        if depth > max_depth and any(isinstance(item, (dict, list, tuple)) for item in level):
            raise StrictJSONError(f"is nested more than {max_depth} deep")
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_string(item)
            elif isinstance(item, dict):
                for key in item:
                    if not isinstance(key, str):
                        raise StrictJSONError(f"holds the key {key!r}, which is not a string")
                    _check_string(key)
                below.extend(item.values())
            elif isinstance(item, (list, tuple)):
                below.extend(item)
        level = below


def _check_string(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise StrictJSONError(
            f"holds a string with half a surrogate pair at character {error.start}"
        ) from None


def parse(data: bytes, *, max_depth: int = MAX_DEPTH) -> Any:
    """Return the value that `data`, UTF-8 JSON, stands for.

    Raises
    ------
    StrictJSONError
        `data` is not valid UTF-8, not valid JSON, or holds NaN, an infinite number, a key twice, a lone
        surrogate, or more than `max_depth` levels of objects and arrays.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise StrictJSONError(f"is not UTF-8 at byte {error.start}") from None
    try:
        value = json.loads(
            text, parse_constant=_refuse_constant, parse_float=_finite_float, object_pairs_hook=_unique_object
        )
    except StrictJSONError:
        raise
    except RecursionError:
        raise StrictJSONError(f"is nested more than {max_depth} deep") from None
    except ValueError as error:
        raise StrictJSONError(f"is not JSON: {error}") from None
    _check_tree(value, max_depth)
    return value


def encode(value: Any, *, indent: int | None = None, max_depth: int = MAX_DEPTH) -> bytes:
    """Return `value` as UTF-8 JSON that `parse` accepts.

    Raises
    ------
    StrictJSONError
        `value` holds what `parse` would refuse, or something that JSON has no form for.
    """
    _check_tree(value, max_depth)
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    except (TypeError, ValueError, RecursionError) as error:
        raise StrictJSONError(f"cannot be written as JSON: {error}") from None
    return text.encode("utf-8")


def canonical(value: Any) -> bytes:
    """Return the one text that stands for `value` however it was laid out: keys sorted, no spaces, UTF-8."""
    return json.dumps(
        value, ensure_ascii=False, allow_nan=False, sort_keys=True, separators=(",", ":")
    ).encode()

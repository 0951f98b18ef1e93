"""What filters mean, in plain Python, one record at a time: written from the documentation, sharing no code.

A filter comes here as nested tuples, called a plan:

- ``("and", [plans])``, ``("or", [plans])``, ``("none", [plans])``;
- ``("is", field, operator, operand, source, missing)``.

`plan_of` reads the dict language by itself, so that the parser is checked too.
"""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta, timezone
from typing import Any

ABSENT = object()
EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)


def matches(plan: tuple, metadata: dict | None, payload: dict | None) -> bool:
    kind = plan[0]
    if kind == "and":
        return all(matches(part, metadata, payload) for part in plan[1])
    if kind == "or":
        return any(matches(part, metadata, payload) for part in plan[1])
    if kind == "none":
        return not any(matches(part, metadata, payload) for part in plan[1])
    _, field, operator, operand, source, missing = plan
    value = lookup((payload if source == "payload" else metadata) or {}, field)
    return compare(value, operator, operand, missing)


def lookup(document: dict, path: str) -> Any:
    """The literal key first, then ever shorter first keys, each followed by the rest of the path."""
    if path in document:
        return document[path]
    for at in sorted((at for at, char in enumerate(path) if char == "."), reverse=True):
        inner = document.get(path[:at], ABSENT)
        if isinstance(inner, dict):
            found = lookup(inner, path[at + 1 :])
            if found is not ABSENT:
                return found
    return ABSENT


def compare(value: Any, operator: str, operand: Any, missing: str) -> bool:
    if operator == "exists":
        return (value is not ABSENT) == operand
    if operator == "is_null":
        return (value is None) == operand
    if operator == "is_empty":
        return (value is ABSENT or value is None or value == "" or value == []) == operand
    if value is ABSENT or (value is None and missing == "null_differs"):
        return operator in ("ne", "nin") and missing != "never"
    return OPERATORS[operator](value, operand)


def moment(value: Any) -> datetime | None:
    """The instant of a datetime, a date or a string in ISO form; naive is UTC."""
    if isinstance(value, str):
        value = read_iso(value)
        if value is None:
            return None
    if isinstance(value, datetime):
        return value if value.utcoffset() is not None else value.replace(tzinfo=timezone.utc)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    return None


def read_iso(text: str) -> Any:
    day, rest = text[:10], text[10:]
    if not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z", day):
        return None
    try:
        parsed = datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=timezone.utc)
    except ValueError:
        return None
    if not rest:
        return parsed
    found = re.match(
        r"[Tt ]([0-9]{2}):([0-9]{2})(:([0-9]{2})([.,]([0-9]{1,9}))?)?([Zz]|[+-][0-9]{2}(:?[0-9]{2})?)?\Z",
        rest,
    )
    if not found:
        return None
    hour, minute, second = int(found[1]), int(found[2]), int(found[4] or 0)
    if hour > 23 or minute > 59 or second > 59:
        return None
    parsed += timedelta(
        hours=hour, minutes=minute, seconds=second, microseconds=int((found[6] or "").ljust(6, "0")[:6])
    )
    zone = found[7] or "Z"
    if zone in "Zz":
        return parsed
    digits = zone[1:].replace(":", "").ljust(4, "0")
    if int(digits[:2]) > 23 or int(digits[2:]) > 59:
        return None
    # Kept as an offset: moving by it could leave Python's years.
    offset = timezone(
        (1 if zone[0] == "+" else -1) * timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    )
    return parsed.replace(tzinfo=offset)


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def same(a: Any, b: Any) -> bool:
    """Equal as values of one type: within arrays and objects nothing is read as a date."""
    if a is None or b is None:
        return a is b
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if is_number(a) and is_number(b):
        return a == b
    if isinstance(a, str) and isinstance(b, str):
        return a == b
    if isinstance(a, date) and isinstance(b, date):
        return moment(a) == moment(b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    return False


def equal(a: Any, b: Any) -> bool:
    if (isinstance(a, date) and isinstance(b, str)) or (isinstance(a, str) and isinstance(b, date)):
        return moment(a) is not None and moment(a) == moment(b)
    return same(a, b)


def order(a: Any, b: Any) -> int | None:
    """-1, 0 or 1; None for values that do not compare."""
    if isinstance(a, date) or isinstance(b, date):
        a, b = moment(a), moment(b)
        if a is None or b is None:
            return None
    elif not (is_number(a) and is_number(b)) and not (isinstance(a, str) and isinstance(b, str)):
        return None
    return (a > b) - (a < b)


def among(value: Any, wanted: list) -> bool:
    return any(equal(value, want) for want in wanted)


def contains(value: Any, wanted: Any) -> bool:
    if isinstance(value, str):
        return isinstance(wanted, str) and wanted in value
    return isinstance(value, list) and any(equal(item, wanted) for item in value)


def like(value: Any, pattern: str) -> bool:
    source, at = "", 0
    while at < len(pattern):
        char = pattern[at]
        if char == "\\" and at + 1 < len(pattern):
            at += 1
            source += re.escape(pattern[at])
        else:
            source += {"%": "(?s:.*)", "_": "(?s:.)"}.get(char, re.escape(char))
        at += 1
    return isinstance(value, str) and re.fullmatch(source, value) is not None


def items(value: Any) -> list:
    return value if isinstance(value, list) else [value]


OPERATORS = {
    "eq": equal,
    "ne": lambda value, operand: not equal(value, operand),
    "gt": lambda value, operand: order(value, operand) == 1,
    "gte": lambda value, operand: order(value, operand) in (0, 1),
    "lt": lambda value, operand: order(value, operand) == -1,
    "lte": lambda value, operand: order(value, operand) in (0, -1),
    "in": among,
    "nin": lambda value, operand: not among(value, operand),
    "contains": contains,
    "startswith": lambda value, operand: isinstance(value, str) and value.startswith(operand),
    "endswith": lambda value, operand: isinstance(value, str) and value.endswith(operand),
    "text_match": lambda value, operand: isinstance(value, str) and operand in value,
    "text_match_insensitive": lambda value, operand: (
        isinstance(value, str) and operand.lower() in value.lower()
    ),
    "like": like,
    "ilike": lambda value, operand: isinstance(value, str) and like(value.lower(), operand.lower()),
    "regex": lambda value, operand: isinstance(value, str) and re.search(operand, value) is not None,
    "any": lambda value, operand: any(among(item, operand) for item in items(value)),
    "all": lambda value, operand: all(any(equal(item, want) for item in items(value)) for want in operand),
    "any_element": lambda value, operand: (
        isinstance(value, list) and any(among(item, operand) for item in value)
    ),
    "all_elements": lambda value, operand: (
        isinstance(value, list) and all(any(equal(item, want) for item in value) for want in operand)
    ),
}


def plan_of(conditions: dict) -> tuple:
    """Read a filter in the dict language."""
    parts = []
    for key, condition in conditions.items():
        if key == "$and":
            parts.append(("and", [plan_of(part) for part in condition]))
        elif key == "$or":
            parts.append(("or", [plan_of(part) for part in condition]))
        elif key == "$nor":
            parts.append(("none", [plan_of(part) for part in condition]))
        elif key == "$not":
            parts.append(("none", [plan_of(condition)]))
        else:
            parts.append(plan_of_field(key, condition))
    return ("and", parts)


def plan_of_field(field: str, condition: Any) -> tuple:
    if not isinstance(condition, dict):
        return ("is", field, "eq", condition, "metadata", "never")
    parts = []
    for name, operand in condition.items():
        if name == "$not":
            parts.append(("none", [plan_of_field(field, operand)]))
        elif name == "$between":
            parts.append(("is", field, "gte", operand[0], "metadata", "differs"))
            parts.append(("is", field, "lte", operand[1], "metadata", "differs"))
        elif name == "is_missing":
            parts.append(("is", field, "exists", not operand, "metadata", "never"))
        elif name.startswith("$"):
            parts.append(("is", field, name[1:], operand, "metadata", "differs"))
        else:
            parts.append(("is", field, name, operand, "metadata", "never"))
    return ("and", parts)

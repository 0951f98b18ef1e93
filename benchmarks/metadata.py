"""Made-up metadata of ten fields, and filters over it. Seeded: the same records on every machine with the same NumPy.

`doc_id`   text, each record its own
`tenant`   text, one of 100
`kind`     text, one of 5
`year`     integer, 36 of them
`price`    number with two decimals, up to 100,000 of them
`rating`   integer, 1 to 5; with `gaps`, 3 in 10 records have none
`is_public`  bool
`country`  text, one of 50
`title`    text of some 24 characters, one of 10,000, or of a tenth of the records where that is more
`tags`     an array of three of 30
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from benchmarks.settings import SEED

Filter = dict[str, Any]
Record = dict[str, Any]
Make = Callable[[int], Filter]

FIELDS = (
    "doc_id",
    "tenant",
    "kind",
    "year",
    "price",
    "rating",
    "is_public",
    "country",
    "title",
    "tags",
)
_CHUNK = 1_000
_KINDS = ["article", "note", "page", "mail", "code"]


def records(rows: int, *, gaps: bool = False) -> list[Record]:
    """All records of a set of so many."""
    return [record for chunk in chunks(rows, gaps=gaps) for record in chunk]


def chunks(rows: int, *, gaps: bool = False) -> Iterator[list[Record]]:
    """The same a few at a time, for who cannot hold all of them."""
    for first in range(0, rows, _CHUNK):
        yield _chunk(first, min(_CHUNK, rows - first), titles_of(rows), gaps)


def titles_of(rows: int) -> int:
    """How many titles the records draw from."""
    return max(10_000, rows // 10)


def json_bytes(some: Iterable[Record]) -> int:
    """What records take as JSON without blanks."""
    return sum(len(json.dumps(record, separators=(",", ":"))) for record in some)


def _chunk(first: int, rows: int, titles: int, gaps: bool) -> list[Record]:
    rng = np.random.default_rng([SEED + 20, first])
    columns: dict[str, list[Any]] = {
        "doc_id": [f"doc-{row}" for row in range(first, first + rows)],
        "tenant": [_tenant(each) for each in rng.integers(0, 100, rows).tolist()],
        "kind": rng.choice(_KINDS, rows).tolist(),
        "year": rng.integers(1990, 2026, rows).tolist(),
        "price": rng.uniform(0, 1_000, rows).round(2).tolist(),
        "rating": rng.integers(1, 6, rows).tolist(),
        "is_public": (rng.random(rows) < 0.5).tolist(),
        "country": [f"country-{each}" for each in rng.integers(0, 50, rows).tolist()],
        "title": [f"the title of text {each}" for each in rng.integers(0, titles, rows).tolist()],
        "tags": [[f"tag-{each}" for each in row] for row in rng.integers(0, 30, (rows, 3)).tolist()],
    }
    made = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    if gaps:
        for at in np.flatnonzero(rng.random(rows) < 0.3).tolist():
            del made[at]["rating"]
    return made


def _tenant(number: int) -> str:
    return f"tenant-{number % 100:02}"


# ----------------------------------------------------------------------------------------------- filters


def distinct(make: Make, most: int) -> list[Filter]:
    """Up to so many filters of one kind, none of them twice."""
    made = {json.dumps(made, sort_keys=True): made for made in map(make, range(most))}
    return list(made.values())


def conditions(rows: int) -> dict[str, Make]:
    """Filters of one to five conditions, each a function from a number to a filter not asked before."""

    def year(i: int) -> Filter:
        return {"gte": 1992 + i % 30}

    return {
        "equality, 1 %": lambda i: {"tenant": _tenant(i)},
        "membership, 3 of 100": lambda i: {"tenant": {"in": [_tenant(i + j) for j in (0, 31, 57)]}},
        "membership, 20 of 100": lambda i: {"tenant": {"in": [_tenant(i + j) for j in range(20)]}},
        "membership, 100 ids": lambda i: {"doc_id": {"in": [_id(i + 977 * j, rows) for j in range(100)]}},
        "range, half": lambda i: {"price": {"gte": 250.0 + i, "lt": 750.0 + i}},
        "range, 1 %": lambda i: {"price": {"gte": 250.0 + i, "lt": 260.0 + i}},
        "existence": lambda i: {FIELDS[i // 2 % len(FIELDS)]: {"exists": i % 2 == 0}},
        "array contains": lambda i: {"tags": {"contains": f"tag-{i % 30}"}},
        "two conditions": lambda i: {"tenant": _tenant(i), "year": year(i)},
        "three conditions": lambda i: {
            "is_public": i % 2 == 0,
            "price": {"gte": 100.0 + i, "lt": 600.0 + i},
            "rating": {"exists": True},
        },
        "four conditions": lambda i: {
            "kind": {"in": [_KINDS[i % 5], _KINDS[(i + 2) % 5]]},
            "year": year(i),
            "price": {"lt": 400.0 + i},
            "country": f"country-{i % 50}",
        },
        "five conditions": lambda i: {
            "tenant": {"in": [_tenant(i + j) for j in range(20)]},
            "year": year(i),
            "price": {"lt": 500.0 + i},
            "country": {"ne": f"country-{i % 50}"},
            "rating": {"exists": True},
        },
    }


def many(rows: int) -> dict[str, Make]:
    """Membership in a long list, where reading the list is much of the work."""
    return {
        "membership, 1,000 ids": lambda i: {"doc_id": {"in": [_id(i + 977 * j, rows) for j in range(1_000)]}},
    }


def few(rows: int) -> dict[str, Make]:
    """Equality with hardly any record."""
    return {
        "equality, no match": lambda i: {"doc_id": f"doc-{rows + i}"},
        "equality, one match": lambda i: {"doc_id": _id(1 + 37 * i, rows)},
        "equality, some ten": lambda i: {"title": f"the title of text {37 * i % titles_of(rows)}"},
    }


def texts(field: str) -> dict[str, Make]:
    """What can be asked of text, `title` or `doc_id`, but for regular expressions."""
    start = {"title": "the title of text ", "doc_id": "doc-"}[field]
    begin = start[:3]
    return {
        "contains": lambda i: {field: {"contains": f"{100 + i}"}},
        "contains, in every value": lambda i: {field: {"contains": _pieces(start)[i % len(_pieces(start))]}},
        "startswith": lambda i: {field: {"startswith": f"{start}{1 + i}"}},
        "endswith": lambda i: {field: {"endswith": f"{i:02}"}},
        "like %x%": lambda i: {field: {"$like": f"%{100 + i}%"}},
        "like x%y": lambda i: {field: {"$like": f"{begin}%{i:02}"}},
        "like %x%y%": lambda i: {field: {"$like": f"%{i % 10}%{i // 10}%"}},
        "like x_y%": lambda i: {field: {"$like": f"{start}{1 + i % 9}_{i // 9}%"}},
        "ilike %x%": lambda i: {field: {"$ilike": f"%{start[-3:].upper()}{10 + i}%"}},
        "ilike x%": lambda i: {field: {"$ilike": f"{start.upper()}{1 + i}%"}},
    }


def _pieces(text: str) -> list[str]:
    """Its parts of one to three characters, without repeats."""
    return list(
        dict.fromkeys(text[at : at + size] for size in (3, 2, 1) for at in range(len(text) - size + 1))
    )


REPEATED: Filter = conditions(1)["five conditions"](7)


def _id(number: int, rows: int) -> str:
    return f"doc-{number % rows}"

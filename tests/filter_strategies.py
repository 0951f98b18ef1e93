"""Random metadata, and random filters with a fair chance to match it: few fields, few values, many types."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

from hypothesis import strategies as st

FIELDS = ("a", "b", "a.b", "c", "a.b.c", "", "a.", "c.a", "é")

NUMBERS = (
    *range(-2, 4),
    1.0,
    -0.0,
    0.5,
    2.5,
    -1.25,
    2**53,
    2**53 + 1,
    float(2**53),
    2**63 - 1,
    -(2**63),
    2**63,
    2**64 + 1,
    float(2**64),
    10**30,
    1e30,
    10**400,
    1e300,
    -1e300,
    5e-324,
)
TEXTS = (
    "",
    "a",
    "A",
    "ab",
    "aB",
    "abc",
    "b",
    "bab",
    "é",
    "É",
    "aé",
    "K",  # the Kelvin sign, which lowers to an ASCII k
    "k",
    "ß",
    "\u017f",  # the long s
    "İ",
    "ΑΣ",
    "Σα",
    "a\0b",
    "a\nb",
    "%",
    "a_b",
    "\\",
    "😀",
    "\U00010400",
    "2024-01-01",
    "2024-01-01T00:00:00Z",
    "2024-01-01T02:00:00+02:00",
    "2024-01-01 12:30",
    "2024-01-01T12:30:00.5",
    "2024-02-30",
    "0001-01-01T00:00:00+14:00",
    "20240101",
)
DATES = (
    date(2024, 1, 1),
    datetime(2024, 1, 1),
    datetime(2024, 1, 1, tzinfo=timezone.utc),
    datetime(2024, 1, 1, 2, tzinfo=timezone(timedelta(hours=2))),
    datetime(2024, 1, 1, 12, 30, 0, 500_000),
    date(1, 1, 1),
    datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=timezone(timedelta(hours=-12))),
    date(1969, 12, 31),
)
SCALARS = (None, True, False, *NUMBERS, *TEXTS, *DATES)

scalars = st.sampled_from(SCALARS)
keys = st.sampled_from(("a", "b", "c", "a.b", "b.c", "", "é", "."))
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=4,
)
documents = st.dictionaries(keys, values, max_size=4)
records = st.tuples(st.none() | documents, st.none() | documents)
"""Metadata and payload."""

names = st.sampled_from(FIELDS)
sources = st.sampled_from(("metadata", "metadata", "payload"))
rules = st.sampled_from(("never", "differs", "null_differs"))
texts = st.sampled_from(TEXTS)
patterns = st.text("ab%_\\Kék", max_size=4) | texts.map(lambda text: f"%{text[:1]}%")
value_lists = st.lists(values, max_size=3) | st.lists(scalars, min_size=70, max_size=90)
OPERANDS = {
    "eq": values,
    "ne": values,
    "gt": st.sampled_from((*NUMBERS, *TEXTS, *DATES, float("inf"), float("-inf"))),
    "in": value_lists,
    "nin": value_lists,
    "contains": values,
    "startswith": texts,
    "endswith": texts,
    "text_match": texts,
    "text_match_insensitive": texts,
    "like": patterns,
    "ilike": patterns,
    "regex": st.sampled_from(("a", "^a", "b$", "(?i)K", "a.b", "", "[aé]+", "(")).filter(
        lambda text: text != "("
    ),
    "any": value_lists,
    "all": value_lists,
    "any_element": value_lists,
    "all_elements": value_lists,
    "exists": st.booleans(),
    "is_null": st.booleans(),
    "is_empty": st.booleans(),
}
for other in ("gte", "lt", "lte"):
    OPERANDS[other] = OPERANDS["gt"]


@st.composite
def comparisons(draw: st.DrawFn) -> tuple:
    operator = draw(st.sampled_from(sorted(OPERANDS)))
    return ("is", draw(names), operator, draw(OPERANDS[operator]), draw(sources), draw(rules))


plans = st.recursive(
    comparisons(),
    lambda inner: st.tuples(st.sampled_from(("and", "or", "none")), st.lists(inner, max_size=3)),
    max_leaves=6,
)
"""Filters as `filter_oracle` takes them."""

_BARE = (
    "eq",
    "ne",
    "gt",
    "gte",
    "lt",
    "lte",
    "contains",
    "startswith",
    "endswith",
    "in",
    "nin",
    "any",
    "all",
    "exists",
)
_ALL = {name: OPERANDS[name] for name in (*_BARE, "is_null")}
_ALL |= {f"${name}": OPERANDS[name] for name in (*_BARE, "like", "ilike", "regex")}
_ALL |= {"is_missing": st.booleans(), "$between": st.tuples(OPERANDS["gt"], OPERANDS["gt"]).map(list)}


@st.composite
def operators(draw: st.DrawFn, depth: int = 0) -> dict:
    chosen = {
        name: draw(_ALL[name])
        for name in draw(st.lists(st.sampled_from(sorted(_ALL)), min_size=1, max_size=2))
    }
    if depth < 2 and draw(st.integers(0, 5)) == 0:
        chosen["$not"] = draw(operators(depth + 1))
    return chosen


plain_values = st.one_of(scalars, st.lists(values, max_size=2))
dict_filters = st.recursive(
    st.dictionaries(names, plain_values | operators(), max_size=2),
    lambda inner: st.one_of(
        st.dictionaries(
            st.sampled_from(("$and", "$or", "$nor")), st.lists(inner, max_size=3), min_size=1, max_size=2
        ),
        st.builds(lambda filter: {"$not": filter}, inner),
        st.builds(lambda first, second: {**first, **second}, inner, inner),
    ),
    max_leaves=5,
)
"""Filters in the dict language."""

hostile_values = st.recursive(
    st.one_of(
        scalars, st.binary(max_size=2), st.floats(), st.just(object()), st.integers(), st.text(max_size=3)
    ),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("$aegtno.", max_size=4) | st.integers(), inner)
    ),
    max_leaves=5,
)
hostile_keys = st.one_of(
    st.sampled_from((*_ALL, "$and", "$or", "$nor", "$not", "a", "$gtt", "$", "")),
    st.text(max_size=3),
    st.integers(),
)
hostile_filters = st.recursive(
    hostile_values,
    lambda inner: st.dictionaries(hostile_keys, inner, max_size=3) | st.lists(inner, max_size=2),
    max_leaves=8,
)
"""Anything at all, shaped a little like filters."""

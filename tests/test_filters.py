"""The filter language and the filter objects: every rule by example, every error with its path."""

from __future__ import annotations

import pickle
from datetime import date, datetime, timedelta, timezone
from enum import Enum
from typing import Any

import numpy as np
import pytest

from zeusdb_vs.errors import ArgumentTypeError, FilterError
from zeusdb_vs.fields import FieldIndexes
from zeusdb_vs.filters import (
    MAX_DEPTH,
    MAX_TERMS,
    And,
    Comparison,
    Filter,
    Not,
    Op,
    Or,
    comparisons_of,
    field,
    filter_from_json,
    matches_everything,
    parse_filter,
)

UTC = timezone.utc


def matches(filter: Any, metadata: dict | None, payload: dict | None = None) -> bool:
    """Ask both ways a record can be held: as it came, and in columns. They must agree."""
    tree = parse_filter(filter)
    recent = FieldIndexes()
    recent.append(0, [(metadata, payload)], 1)
    folded = FieldIndexes.from_state(recent.state(), 1)
    recent = FieldIndexes()
    recent.append(0, [(metadata, payload)], 1)
    answers = {bool(indexes.view().evaluate(tree, 1)[0]) for indexes in (recent, folded)}
    assert len(answers) == 1, f"{filter!r} on {metadata!r}: tail and columns disagree"
    return answers.pop()


# ------------------------------------------------------------------------------------ plain values


@pytest.mark.parametrize(
    ("value", "wanted", "equal"),
    [
        ("a", "a", True),
        ("a", "A", False),
        (10, 10.0, True),
        (10.0, 10, True),
        (0, -0.0, True),
        (True, 1, False),
        (1, True, False),
        (False, 0, False),
        (True, True, True),
        (None, None, True),
        (None, False, False),
        (None, "", False),
        (0, None, False),
        ("1", 1, False),
        (2**53 + 1, 2.0**53, False),
        (2**53, 2.0**53, True),
        (2**63, 2.0**63, True),
        (2**63 + 1, 2.0**63, False),
        (10**400, 10**400, True),
        (10**400, 10**400 + 1, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [1.0, 2], True),
        ([1, 2], [2, 1], False),
        ([1, 2], [1], False),
        ([1], [True], False),
        ([1], 1, False),
        ([], [], True),
        ([[1], {"a": 1}], [[1], {"a": 1.0}], True),
        ("é", "é", True),
        ("é", "e\u0301", False),
    ],
)
def test_plain_value_means_equality_in_both_spellings(value, wanted, equal):
    for filter in ({"f": wanted}, {"f": {"eq": wanted}}, {"f": {"$eq": wanted}}, {"f": {"in": [wanted]}}):
        assert matches(filter, {"f": value}) is equal
        assert matches(filter, {"g": value}) is False
    for filter in (
        {"f": {"ne": wanted}},
        {"f": {"$ne": wanted}},
        {"f": {"nin": [wanted]}},
        {"f": {"$nin": [wanted]}},
    ):
        assert matches(filter, {"f": value}) is not equal


def test_objects_compare_whole_under_eq():
    for filter in ({"f": {"eq": {"a": 1, "b": [2]}}}, {"f": {"$eq": {"b": [2.0], "a": 1}}}):
        assert matches(filter, {"f": {"b": [2], "a": 1}})
        assert not matches(filter, {"f": {"a": 1}})
        assert not matches(filter, {"f": {"a": 1, "b": [2], "c": 3}})
    assert matches({"f": {"$eq": {}}}, {"f": {}})


def test_long_arrays_and_objects_compare_whole():
    long = [f"element {i}" for i in range(50)]
    assert matches({"f": long}, {"f": list(long)})
    assert not matches({"f": long}, {"f": [*long[:-1], "other"]})
    assert matches({"f": {"contains": "element 49"}}, {"f": long})


# ------------------------------------------------------------------------------------ missing and null


@pytest.mark.parametrize(
    "condition",
    [
        {"eq": None},
        {"ne": 1},
        {"nin": [1]},
        {"in": [None]},
        {"gt": 0},
        {"contains": "a"},
        {"any": [None]},
        {"all": []},
        {"exists": True},
        {"is_null": True},
    ],
)
def test_missing_field_never_matches_a_bare_operator(condition):
    assert not matches({"f": condition}, {})
    assert not matches({"f": condition}, None)


def test_missing_field_matches_what_asks_for_it():
    for condition in ({"exists": False}, {"is_missing": True}, {"is_null": False}, {"$exists": False}):
        assert matches({"f": condition}, {})
    assert not matches({"f": {"is_missing": False}}, {})


def test_dollar_ne_and_nin_match_a_missing_field():
    assert matches({"f": {"$ne": 1}}, {})
    assert matches({"f": {"$nin": [1]}}, {})
    assert not matches({"f": {"$eq": None}}, {})
    assert matches({"f": {"$eq": None}}, {"f": None})
    assert not matches({"f": {"$in": [None]}}, {})
    assert not matches({"f": {"$between": [0, 1]}}, {})


def test_null_is_present():
    assert matches({"f": {"exists": True}}, {"f": None})
    assert matches({"f": {"is_null": True}}, {"f": None})
    assert not matches({"f": {"is_null": False}}, {"f": None})
    assert not matches({"f": {"is_missing": True}}, {"f": None})
    assert matches({"f": {"ne": 1}}, {"f": None})


def test_null_is_missing_under_the_rule_of_llama_index():
    subject = field("f", missing="null_differs")
    for record in ({}, {"f": None}):
        assert matches(subject != 1, record)
        assert matches(subject != None, record)  # noqa: E711 - a comparison object is meant
        assert matches(subject.notin([1, None]), record)
        assert matches(subject.is_empty(), record)
        for comparison in (
            subject == None,  # noqa: E711
            subject.isin([None]),
            subject > 0,
            subject.contains("a"),
            subject.any([None], arrays_only=True),
            subject.text_match(""),
        ):
            assert not matches(comparison, record)
    assert matches(subject.contains(None), {"f": [None]})


@pytest.mark.parametrize(
    ("value", "empty"),
    [(None, True), ("", True), ([], True), (0, False), (False, False), ("a", False), ({}, False)],
)
def test_is_empty_means_missing_null_or_without_content(value, empty):
    assert matches(field("f").is_empty(), {"f": value}) is empty
    assert matches(field("f").is_empty(False), {"f": value}) is not empty
    assert matches(field("f").is_empty(), {})
    assert not matches(field("f").is_empty(False), {})


# ------------------------------------------------------------------------------------ order


@pytest.mark.parametrize("dollar", ["", "$"])
def test_numbers_and_strings_are_ordered(dollar):
    def ask(name: str, operand: Any, value: Any) -> bool:
        return matches({"f": {dollar + name: operand}}, {"f": value})

    assert ask("gt", 1, 1.5)
    assert not ask("gt", 1, 1)
    assert ask("gte", 1, 1)
    assert ask("lt", 2.5, 2)
    assert ask("lte", 2, 2.0)
    assert ask("gt", 2.0**53, 2**53 + 1)
    assert not ask("gt", 2**53 + 1, 2.0**53)
    assert ask("lt", 10**400, 1e308)
    assert ask("gt", float("-inf"), -(10**400))
    assert ask("gt", "a", "b")
    assert ask("gte", "a", "a")
    assert not ask("gt", "a", "B")
    assert ask("gt", "\uffff", "\U00010000")


@pytest.mark.parametrize("value", [True, None, "5", [5], {"a": 5}, datetime(2024, 1, 1)])
def test_values_of_other_types_do_not_match_a_range_of_numbers(value):
    for name in ("gt", "gte", "lt", "lte"):
        assert not matches({"f": {name: 5}}, {"f": value})
        assert not matches({"f": {f"${name}": -5}}, {"f": value})


def test_several_operators_of_a_field_must_all_hold():
    assert matches({"f": {"gte": 1, "$lt": 3}}, {"f": 2})
    assert not matches({"f": {"gte": 1, "$lt": 3}}, {"f": 3})
    assert matches({"f": {"$between": [1, 3]}}, {"f": 3})
    assert matches({"f": {"$between": [1, 3]}}, {"f": 1})
    assert not matches({"f": {"$between": [3, 1]}}, {"f": 2})
    assert matches(field("f").between(1, 3), {"f": 2.5})


# ------------------------------------------------------------------------------------ dates


NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "same",
    [
        NOON,
        datetime(2024, 5, 1, 12),
        datetime(2024, 5, 1, 14, tzinfo=timezone(timedelta(hours=2))),
        "2024-05-01T12:00:00Z",
        "2024-05-01T12:00",
        "2024-05-01 12:00:00.000000",
        "2024-05-01T14:00:00+02:00",
        "2024-05-01T10:00:00-0200",
    ],
)
def test_one_instant_is_equal_however_it_is_written(same):
    assert matches({"f": NOON}, {"f": same})
    assert matches({"f": same}, {"f": NOON})
    assert not matches({"f": {"ne": NOON}}, {"f": same})
    assert matches({"f": {"gte": NOON, "$lte": NOON}}, {"f": same})
    assert matches({"f": {"gt": date(2024, 5, 1)}}, {"f": same})
    assert matches({"f": {"lt": date(2024, 5, 2)}}, {"f": same})
    assert not matches({"f": {"$gt": NOON}}, {"f": same})
    assert matches({"f": {"contains": NOON}}, {"f": [same]})


def test_date_is_its_midnight_in_utc():
    assert matches({"f": date(2024, 5, 1)}, {"f": datetime(2024, 5, 1)})
    assert matches({"f": "2024-05-01"}, {"f": date(2024, 5, 1)})
    assert matches({"f": date(2024, 5, 1)}, {"f": "2024-05-01"})


def test_two_strings_compare_as_strings_even_in_iso_form():
    assert not matches({"f": "2024-05-01T00:00:00Z"}, {"f": "2024-05-01"})
    assert matches({"f": {"gt": "2024-05-01"}}, {"f": "2024-05-01T00:00:00+14:00"})


@pytest.mark.parametrize(
    "text", ["2024-02-30", "2024-5-1", "May 1", "2024-05-01T25:00", "2024-05-01T12:00:00+99:00"]
)
def test_string_in_no_iso_form_compares_with_no_date(text):
    assert not matches({"f": {"gt": date(1, 1, 1)}}, {"f": text})
    assert not matches({"f": {"lt": date(9999, 12, 31)}}, {"f": text})
    assert not matches({"f": date(2024, 5, 1)}, {"f": text})


def test_within_arrays_and_objects_compared_whole_strings_are_no_dates():
    assert matches({"f": [date(2024, 5, 1)]}, {"f": [datetime(2024, 5, 1)]})
    assert not matches({"f": [date(2024, 5, 1)]}, {"f": ["2024-05-01"]})


# ------------------------------------------------------------------------------------ text


def test_contains_is_a_substring_or_an_element():
    assert matches({"f": {"contains": "nan"}}, {"f": "banana"})
    assert not matches({"f": {"contains": "Nan"}}, {"f": "banana"})
    assert matches({"f": {"$contains": "a"}}, {"f": ["a", "b"]})
    assert not matches({"f": {"contains": "a"}}, {"f": ["ab"]})
    assert matches({"f": {"contains": 1.0}}, {"f": [1]})
    assert not matches({"f": {"contains": 1}}, {"f": [True]})
    assert not matches({"f": {"contains": 1}}, {"f": "1"})
    assert not matches({"f": {"contains": "a"}}, {"f": {"a": 1}})
    assert matches({"f": {"contains": [1]}}, {"f": [[1], 2]})


def test_startswith_and_endswith_are_about_strings():
    assert matches({"f": {"startswith": "ba", "endswith": "na"}}, {"f": "banana"})
    assert not matches({"f": {"$startswith": "a"}}, {"f": ["a"]})
    assert not matches({"f": {"$endswith": "a"}}, {"f": "A"})
    assert matches({"f": {"startswith": ""}}, {"f": ""})


@pytest.mark.parametrize(
    ("pattern", "text", "matched"),
    [
        ("ban%", "banana", True),
        ("%ana", "banana", True),
        ("%nan%", "banana", True),
        ("b_n_n_", "banana", True),
        ("b_n", "banana", False),
        ("b%n%a", "banana", True),
        ("banana", "banana", True),
        ("banan", "banana", False),
        ("%", "", True),
        ("_", "é", True),
        ("__", "é", False),
        ("_%_", "é", False),
        ("_", "😀", True),
        ("a%b", "a\nb", True),
        (r"100\%", "100%", True),
        (r"100\%", "1000", False),
        (r"a\_b", "a_b", True),
        (r"a\_b", "axb", False),
        ("a.b", "axb", False),
        ("", "", True),
        ("", "a", False),
    ],
)
def test_like_patterns(pattern, text, matched):
    assert matches({"f": {"$like": pattern}}, {"f": text}) is matched
    assert matches({"f": {"$ilike": pattern.upper()}}, {"f": text}) is matched


def test_regex_searches():
    assert matches({"f": {"$regex": "n.n"}}, {"f": "banana"})
    assert not matches({"f": {"$regex": "^n"}}, {"f": "banana"})
    assert matches({"f": {"$regex": "(?i)^BAN"}}, {"f": "banana"})
    assert not matches({"f": {"$regex": "1"}}, {"f": 1})


def test_text_match_is_about_strings_in_either_case():
    assert matches(field("f").text_match("Nan"), {"f": "baNana"})
    assert not matches(field("f").text_match("nan"), {"f": "baNana"})
    assert matches(field("f").text_match("NAN", case=False), {"f": "baNana"})
    assert matches(field("f").text_match("É", case=False), {"f": "café"})
    assert not matches(field("f").text_match("a", case=False), {"f": ["a"]})


# ------------------------------------------------------------------------------------ arrays


def test_any_and_all_look_into_arrays_and_take_a_scalar_as_one():
    assert matches({"f": {"any": ["x", "b"]}}, {"f": ["a", "b"]})
    assert not matches({"f": {"any": []}}, {"f": ["a"]})
    assert matches({"f": {"$all": ["a", "b", "a"]}}, {"f": ["b", "c", "a"]})
    assert not matches({"f": {"all": ["a", "b"]}}, {"f": ["a"]})
    assert matches({"f": {"any": ["a", "b"]}}, {"f": "a"})
    assert matches({"f": {"all": ["a"]}}, {"f": "a"})
    assert not matches({"f": {"all": ["a", "b"]}}, {"f": "a"})
    assert matches({"f": {"all": []}}, {"f": 5})
    assert matches({"f": {"all": []}}, {"f": []})


def test_any_and_all_can_be_held_to_arrays():
    assert matches(field("f").any(["a"], arrays_only=True), {"f": ["a"]})
    assert not matches(field("f").any(["a"], arrays_only=True), {"f": "a"})
    assert matches(field("f").all(["a"], arrays_only=True), {"f": ["a", "b"]})
    assert not matches(field("f").all([], arrays_only=True), {"f": "a"})
    assert matches(field("f").all([], arrays_only=True), {"f": []})


def test_in_compares_arrays_whole():
    assert not matches({"f": {"in": ["a"]}}, {"f": ["a"]})
    assert matches({"f": {"$in": [["a"]]}}, {"f": ["a"]})


# ------------------------------------------------------------------------------------ paths


def test_dotted_path_reaches_into_objects_and_the_literal_key_wins():
    assert matches({"a.b.c": 1}, {"a": {"b": {"c": 1}}})
    assert matches({"a.b": {"exists": True}}, {"a": {"b": None}})
    assert not matches({"a.b": 1}, {"a": [{"b": 1}]})
    assert not matches({"a.b": 1}, {"a.b": 2, "a": {"b": 1}})
    assert matches({"a.b.c": 1}, {"a": {"b.c": 1, "b": {"c": 2}}})
    assert matches({"a.b.c": 1}, {"a.b": {"c": 1}, "a": {"b": {"c": 2}}})
    assert matches({"a.b.c": 2}, {"a.b": {"x": 1}, "a": {"b": {"c": 2}}})


def test_payload_is_reached_by_objects_only():
    assert not matches({"f": 1}, {}, {"f": 1})
    assert not matches({"payload.f": 1}, {}, {"f": 1})
    assert matches(field("f", source="payload") == 1, {"f": 2}, {"f": 1})
    assert not matches(field("f", source="payload") == 1, {"f": 1}, None)
    assert matches(field("a.b", source="payload").exists(), None, {"a": {"b": 1}})


# ------------------------------------------------------------------------------------ groups


def test_groups_and_mixed_spellings():
    record = {"lang": "en", "year": 2021, "tags": ["x"]}
    assert matches({}, record)
    assert matches({"lang": "en", "year": {"gte": 2020}}, record)
    assert not matches({"lang": "en", "year": {"$gt": 2021}}, record)
    assert matches({"$or": [{"lang": "fr"}, {"year": {"lt": 2022}}]}, record)
    assert matches({"$and": [{"lang": "en"}, {"$nor": [{"tags": {"any": ["y"]}}, {"year": 1}]}]}, record)
    assert not matches({"$not": {"lang": "en", "year": 2021}}, record)
    assert matches({"$not": {"lang": "en", "year": 2020}}, record)
    assert matches({"year": {"$not": {"gt": 2021}}}, record)
    assert matches({"month": {"$not": {"gt": 5}}}, record)
    assert matches({"$not": {"month": {"ne": 5}}}, record)
    assert matches({"$and": []}, record)
    assert not matches({"$or": []}, record)
    assert matches({"$nor": []}, record)
    assert not matches({"$not": {}}, record)


def test_not_of_several_children_is_none_of_them():
    assert matches(Not(field("a") == 1, field("a") == 2), {"a": 3})
    assert not matches(Not(field("a") == 1, field("b") == 2), {"a": 3, "b": 2})
    assert matches(Not(), {})
    assert matches(And(), {})
    assert not matches(Or(), {})


def test_filter_objects_may_stand_in_dict_groups():
    tree = parse_filter({"$or": [field("a") == 1, {"b": 2}]})
    assert tree == Or(And(field("a") == 1), field("b") == 2)


@pytest.mark.parametrize(
    ("tree", "everything"),
    [
        ({}, True),
        ({"$and": []}, True),
        ({"$and": [{}]}, True),
        ({"$or": [{}, {"a": 1}]}, True),
        ({"$not": {"$or": []}}, True),
        ({"$nor": []}, True),
        ({"$or": []}, False),
        ({"a": 1}, False),
        ({"$not": {}}, False),
        ({"$and": [{}, {"a": {"exists": True}}]}, False),
    ],
)
def test_filter_that_restricts_nothing_is_known_by_its_shape(tree, everything):
    assert matches_everything(parse_filter(tree)) is everything


# ------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize(
    ("filter", "parts"),
    [
        ({"price": {"gtt": 1}}, ["price.gtt: unknown operator 'gtt', did you mean 'gt'?", "(known: eq, ne,"]),
        ({"$and": [{}, {}, {"price": {"$gtr": 1}}]}, ["$and[2].price.$gtr: unknown operator", "'$gt"]),
        ({"price": {"equals": 1}}, ["did you mean 'eq'?"]),
        ({"price": {"$not_in": [1]}}, ["did you mean '$nin'?"]),
        ({"price": {"between": [1, 2]}}, ["did you mean '$between'?"]),
        ({"price": {"$is_null": True}}, ["did you mean 'is_null'?"]),
        ({"price": {"currency": "EUR"}}, ["price.currency: unknown operator", "{'$eq': {...}}"]),
        ({"$ands": []}, ["$ands: unknown group '$ands', did you mean '$and'?"]),
        ({"$price": 1}, ["$price: unknown group"]),
        ({"price": {}}, ["price: holds no operator"]),
        ({"$or": {"a": 1}}, ["$or: takes a list of filters", "{'a': 1} of type dict"]),
        ({"$or": [1]}, ["$or[0]: is a filter, a dict, got 1 of type int"]),
        ({"$not": [{"a": 1}]}, ["$not: takes one filter, a dict"]),
        ({"a": {"$not": 5}}, ["a.$not: takes a dict of operators", "use $ne"]),
        ({"a": {"in": "abc"}}, ["a.in: 'in' takes a list of values, got 'abc' of type str"]),
        ({"a": {"$nin": 5}}, ["a.$nin: 'nin' takes a list"]),
        ({"a": {"any": {"b": 1}}}, ["a.any: 'any' takes a list"]),
        ({"a": {"gt": True}}, ["a.gt: 'gt' takes a number, a str, a datetime or a date, got True"]),
        ({"a": {"$lte": None}}, ["a.$lte: 'lte' takes a number"]),
        ({"a": {"gte": [1]}}, ["a.gte: 'gte' takes a number"]),
        ({"a": {"startswith": 1}}, ["a.startswith: 'startswith' takes a str, got 1 of type int"]),
        ({"a": {"$like": None}}, ["a.$like: 'like' takes a str"]),
        ({"a": {"$regex": "("}}, ["a.$regex: 'regex' takes a pattern of Python's re module"]),
        ({"a": {"exists": 1}}, ["a.exists: 'exists' takes True or False, got 1 of type int"]),
        ({"a": {"is_missing": "yes"}}, ["a.is_missing: 'is_missing' takes True or False"]),
        ({"a": {"$between": [1]}}, ["a.$between: takes a list of two values"]),
        ({"a": {"$between": [1, None]}}, ["a.$between[1]: 'lte' takes a number"]),
        ({"a": float("nan")}, ["a: NaN compares with nothing"]),
        ({"a": {"in": [float("nan")]}}, ["a.in: NaN"]),
        ({"a": b"bytes"}, ["a: cannot compare with b'bytes' of type bytes"]),
        ({"a": {"eq": {1: 2}}}, ["a.eq: keys of an object are str, got 1"]),
        ({"a": {"eq": {"b": object}}}, ["a.eq: cannot compare with"]),
        ({"a": 1 << 5000}, ["a: an integer of 5,001 bits"]),
        ({1: 2}, ["filter: field names and operators are str, got 1"]),
        ({"a": {1: 2}}, ["a: operators are str, got 1"]),
        ([("a", 1)], ["a filter is a dict or a filter object, got [('a', 1)] of type list"]),
        ("a", ["a filter is a dict or a filter object"]),
    ],
)
def test_bad_filter_is_refused_with_its_path(filter, parts):
    with pytest.raises(FilterError) as caught:
        parse_filter(filter)
    for part in parts:
        assert part in str(caught.value)


def nested(depth: int) -> dict:
    filter: dict = {"a": 1}
    for _ in range(depth):
        filter = {"x": 1, "$or": [filter]}
    return filter


def test_depth_is_limited():
    parse_filter(nested(MAX_DEPTH))
    with pytest.raises(FilterError, match="nested deeper than 32 groups"):
        parse_filter(nested(MAX_DEPTH + 1))
    tree: Filter = field("a") == 1
    for _ in range(MAX_DEPTH):
        tree = ~tree
    with pytest.raises(FilterError, match="33 groups deep, at most 32"):
        Not(tree)


def test_terms_are_limited():
    parse_filter({"$or": [{"a": i} for i in range(MAX_TERMS)]})
    with pytest.raises(FilterError, match="more than 10,000 terms"):
        parse_filter({"$or": [{"a": i} for i in range(MAX_TERMS + 1)]})
    with pytest.raises(FilterError, match="20,000 terms"):
        half = Or(*(field("a") == i for i in range(MAX_TERMS)))
        And(half, half)


def test_cyclic_and_explosive_filters_are_refused_at_once():
    cyclic: dict = {}
    cyclic["$or"] = [cyclic, cyclic]
    with pytest.raises(FilterError, match="contains itself"):
        parse_filter(cyclic)
    inside: dict = {}
    inside["$not"] = inside
    with pytest.raises(FilterError, match="contains itself"):
        parse_filter({"a": inside})
    operand: list = []
    operand.append(operand)
    with pytest.raises(FilterError, match="contains itself"):
        parse_filter({"a": {"eq": operand}})
    shared: Any = {}
    for _ in range(30):
        shared = {"$or": [shared, shared]}
    with pytest.raises(FilterError, match="terms"):
        parse_filter(shared)
    value: Any = 1
    for _ in range(30):
        value = [value, value]
    with pytest.raises(FilterError, match="more than 1,000,000 values"):
        parse_filter({"a": value})


# ------------------------------------------------------------------------------------ objects


@pytest.mark.parametrize(
    ("tree", "text"),
    [
        (field("year") >= 2020, "field('year') >= 2020"),
        (field("a") == None, "field('a') == None"),  # noqa: E711
        (field("a.b", source="payload") != "x", "field('a.b', source='payload') != 'x'"),
        (field("a", missing="differs").notin([1, "b"]), "field('a', missing='differs').notin([1, 'b'])"),
        (field("a").isin([1, [2, {"c": None}]]), "field('a').isin([1, [2, {'c': None}]])"),
        (
            (field("a") > 1) & ((field("b") == True) | ~field("c").contains("x")),  # noqa: E712
            "And(field('a') > 1, Or(field('b') == True, Not(field('c').contains('x'))))",
        ),
        (field("a").text_match("x", case=False), "field('a').text_match('x', case=False)"),
        (field("a").text_match("x"), "field('a').text_match('x')"),
        (field("a").any(["x"], arrays_only=True), "field('a').any(['x'], arrays_only=True)"),
        (field("a").all(["x"]), "field('a').all(['x'])"),
        (field("a").exists(), "field('a').exists()"),
        (field("a").exists(False), "field('a').exists(False)"),
        (field("a").is_empty(), "field('a').is_empty()"),
        (field("a").regex("^x"), "field('a').regex('^x')"),
        (field("a") < datetime(2024, 1, 1), "field('a') < datetime.datetime(2024, 1, 1, 0, 0)"),
        (And(), "And()"),
    ],
)
def test_repr_reads_like_the_filter(tree, text):
    assert repr(tree) == text


def test_filters_are_equal_when_written_alike_and_types_count():
    assert (field("a") == 1) == (field("a") == 1)
    assert hash(field("a") == 1) == hash(field("a") == 1)
    different = [
        field("a") == 1,
        field("a") == 1.0,
        field("a") == True,  # noqa: E712
        field("a") == "1",
        field("a") == None,  # noqa: E711
        field("b") == 1,
        field("a") != 1,
        field("a", source="payload") == 1,
        field("a", missing="differs") == 1,
        field("a") == datetime(2024, 1, 1),
        field("a") == date(2024, 1, 1),
        field("a").isin([1]),
        field("a").isin([True]),
        And(field("a") == 1),
        Or(field("a") == 1),
        Not(field("a") == 1),
    ]
    assert len(set(different)) == len(different)
    assert (field("a") == 1) != "field('a') == 1"


def test_filters_are_immutable_and_hold_copies():
    values = [1, [2]]
    tree = field("a").isin(values)
    values[1].append(3)
    values.append(4)
    assert tree == field("a").isin([1, [2]])
    with pytest.raises(AttributeError, match="immutable"):
        tree.field = "b"  # type: ignore[misc]
    with pytest.raises(AttributeError, match="immutable"):
        del tree.field
    with pytest.raises(TypeError):
        (field("a") == {"b": 1}).operand["b"] = 2


def test_operators_build_trees_and_truth_is_refused():
    a, b = field("a") == 1, field("b") == 2
    assert a & b == And(a, b)
    assert a | b == Or(a, b)
    assert ~a == Not(a)
    with pytest.raises(ArgumentTypeError, match="no truth value"):
        bool(a)
    with pytest.raises(ArgumentTypeError, match="between"):
        1 < field("a") < 3  # noqa: B015
    with pytest.raises(ArgumentTypeError, match="And takes filters, got dict"):
        And({"a": 1})  # type: ignore[arg-type]


def test_numpy_values_subclasses_and_sets_are_taken_as_plain_values():
    class Colour(str, Enum):
        RED = "red"

    assert (field("a") == np.int64(3)) == (field("a") == 3)
    assert (field("a") == np.float32(0.5)) == (field("a") == 0.5)
    assert (field("a") == np.bool_(True)) == (field("a") == True)  # noqa: E712
    assert (field("a") == np.array([1, 2])) == (field("a") == [1, 2])
    assert field("a").isin(np.array(["x", "y"])) == field("a").isin(["x", "y"])
    assert field("a").isin({5}) == field("a").isin([5])
    assert (field("a") > np.datetime64("2024-01-01")) == (field("a") > date(2024, 1, 1))
    assert (field("a") == Colour.RED) == (field("a") == "red")
    assert matches({"a": Colour.RED}, {"a": "red"})


def test_filters_pickle_and_survive_json():
    tree = (field("a") == {"$date": "x"}) & field("b").isin(
        [datetime(2024, 1, 1, tzinfo=UTC), date(2024, 1, 1)]
    )
    tree = tree | ~(field("c", source="payload", missing="null_differs") < float("inf"))
    assert pickle.loads(pickle.dumps(tree)) == tree
    assert filter_from_json(tree.to_json()) == tree
    assert (field("a") == 1).to_json() == {"field": "a", "op": "eq", "value": 1}


@pytest.mark.parametrize(
    "plain",
    [
        {},
        [],
        {"xor": []},
        {"field": "a"},
        {"and": [{"or": 5}]},
        {"field": "a", "op": "equals", "value": 1},
        {"field": "a", "op": "eq", "value": {"$date": 5}},
        {"field": "a", "op": "eq", "value": 1, "source": "text"},
        {"field": "a", "op": "eq", "value": 1, "missing": "sometimes"},
        {"field": 5, "op": "eq", "value": 1},
        {"field": "a", "op": ["eq"], "value": 1},
        {"and": {"a": 1}},
    ],
)
def test_bad_json_form_is_refused(plain):
    with pytest.raises(FilterError):
        filter_from_json(plain)


def test_comparisons_are_listed_in_order():
    tree = parse_filter({"a": 1, "$or": [{"b": 2}, {"$not": {"c": 3}}]})
    assert [comparison.field for comparison in comparisons_of(tree)] == ["a", "b", "c"]
    assert comparisons_of(tree)[0] == Comparison("a", Op.EQ, 1)


def test_parsing_returns_objects_as_they_are():
    tree = field("a") == 1
    assert parse_filter(tree) is tree
    assert parse_filter({"a": 1}) == tree
    assert parse_filter({"a": {"$ne": 1}}) == (field("a", missing="differs") != 1)

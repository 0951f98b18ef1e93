"""Field indexes against the plain evaluator, through every way a record can get in, change and go."""

from __future__ import annotations

import json
import os
import re
import sys
import threading
import tracemalloc
from datetime import date, datetime, timezone
from typing import Any

import filter_oracle as oracle
import filter_strategies as some
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zeusdb_vs import fields as fields_module
from zeusdb_vs.errors import CorruptIndexError, FilterError
from zeusdb_vs.fields import FieldIndexes
from zeusdb_vs.filtering import blobs, columns, terms, views
from zeusdb_vs.filtering import segments as segments_module
from zeusdb_vs.filters import And, Comparison, Filter, Not, Or, field, filter_from_json, parse_filter

EXAMPLES = int(os.environ.get("ZEUSDB_VS_FILTER_EXAMPLES", "200"))
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
        HealthCheck.large_base_example,
        HealthCheck.function_scoped_fixture,
    ],
)

GROUPS = {"and": And, "or": Or, "none": Not}


def tree_of(plan: tuple) -> Filter:
    if plan[0] == "is":
        _, name, operator, operand, source, missing = plan
        return Comparison(name, operator, operand, source=source, missing=missing)
    return GROUPS[plan[0]](*map(tree_of, plan[1]))


def expected(plan: tuple, records: list[tuple]) -> list[bool]:
    return [oracle.matches(plan, *record) for record in records]


def filled(records: list[tuple]) -> FieldIndexes:
    indexes = FieldIndexes()
    indexes.append(0, records, len(records))
    return indexes


def found(indexes: FieldIndexes, tree: Filter, n: int) -> list[bool]:
    view = indexes.view()
    selection = view.select(tree, n)
    mask = view.evaluate(tree, n)
    assert mask.shape == (n,)
    assert mask.dtype == np.bool_
    assert selection.count == mask.sum()
    assert selection.slots().tolist() == np.flatnonzero(mask).tolist()
    return mask.tolist()


@pytest.fixture
def small_parts(monkeypatch):
    """Shrink the parts so that a dozen records meet every one of them: tail, segments, merges, folding."""
    monkeypatch.setattr(segments_module, "SCARCE_SHARE", 4)
    for name, size in (("TAIL_ROWS", 4), ("FOLD_ROWS", 6), ("MAX_SIZE", 12), ("MAX_CHANGED", 2)):
        monkeypatch.setattr(fields_module, name, size)
    monkeypatch.setattr(columns, "NARROW_SIZE", 5)
    monkeypatch.setattr(terms, "_PIECE", 2)


# ------------------------------------------------------------------------------------ against the oracle


@thorough
@given(st.lists(some.records, max_size=12), st.lists(some.plans, min_size=1, max_size=4))
def test_filter_objects_match_what_the_oracle_matches(small_parts, records, plans):
    indexes = filled(records)
    for plan in plans:
        assert found(indexes, tree_of(plan), len(records)) == expected(plan, records), plan


@thorough
@given(st.lists(some.records, max_size=12), st.lists(some.dict_filters, min_size=1, max_size=4))
def test_dict_filters_match_what_the_oracle_matches(small_parts, records, filters):
    indexes = filled(records)
    for filter in filters:
        assert found(indexes, parse_filter(filter), len(records)) == expected(
            oracle.plan_of(filter), records
        ), filter


class Story:
    """The indexes beside a plain list of records, through random changes."""

    def __init__(self) -> None:
        self.indexes = FieldIndexes()
        self.records: list[tuple] = []
        self.dead: set[int] = set()
        self.views: list[tuple[Any, list[tuple], set[int]]] = []

    def add(self, records: list[tuple] | None, count: int) -> None:
        self.indexes.append(len(self.records), records, count)
        self.records += records if records is not None else [(None, None)] * count

    def update(self, choice: list[tuple[int, tuple]]) -> None:
        changes = {at % len(self.records): record for at, record in choice} if self.records else {}
        self.indexes.update(np.array(list(changes), np.int64), None, list(changes.values()))
        self.records = [changes.get(at, record) for at, record in enumerate(self.records)]

    def forget(self, choice: list[int]) -> None:
        gone = {at % len(self.records) for at in choice} if self.records else set()
        self.indexes.forget(np.array(sorted(gone), np.int32))
        self.dead |= gone

    def take(self, reverse: bool) -> None:
        kept = [at for at in range(len(self.records)) if at not in self.dead]
        kept = kept[::-1] if reverse else kept
        self.indexes = self.indexes.take(np.array(kept, np.int64))
        self.records, self.dead = [self.records[at] for at in kept], set()

    def save_and_load(self) -> None:
        state = self.indexes.state()
        state = {
            "directory": state["directory"],
            "data": np.concatenate([np.empty(0, np.uint8), *state["data"]]),
        }
        self.indexes = FieldIndexes.from_state(state, len(self.records))

    def remember(self) -> None:
        self.views.append((self.indexes.view(), list(self.records), set(self.dead)))

    def check(self, plan: tuple) -> None:
        tree = tree_of(plan)
        self.remember()
        for view, records, dead in self.views:
            mask = view.evaluate(tree, len(records)).tolist()
            wanted = expected(plan, records)
            assert [m for at, m in enumerate(mask) if at not in dead] == [
                w for at, w in enumerate(wanted) if at not in dead
            ]
        self.views = self.views[-3:]


positions = st.integers(0, 10_000)
changes = st.one_of(
    st.tuples(st.just("add"), st.lists(some.records, max_size=7)),
    st.tuples(st.just("add_empty"), st.integers(0, 15)),
    st.tuples(st.just("update"), st.lists(st.tuples(positions, some.records), max_size=4)),
    st.tuples(st.just("forget"), st.lists(positions, max_size=4)),
    st.tuples(st.just("take"), st.booleans()),
    st.tuples(st.just("save"), st.none()),
    st.tuples(st.just("remember"), st.none()),
)


@thorough
@given(
    st.lists(some.records, max_size=15),
    st.lists(st.tuples(changes, some.plans), min_size=1, max_size=6),
)
def test_views_match_the_oracle_through_changes_and_restarts(small_parts, records, steps):
    story = Story()
    story.add(records, len(records))
    for (kind, detail), plan in steps:
        if kind == "add":
            story.add(detail, len(detail))
        elif kind == "add_empty":
            story.add(None, detail)
        elif kind == "update":
            story.update(detail)
        elif kind == "forget":
            story.forget(detail)
        elif kind == "take":
            story.take(detail)
        elif kind == "save":
            story.save_and_load()
        else:
            story.remember()
        story.check(plan)


@thorough
@given(some.plans)
def test_filter_comes_back_equal_when_written_as_json(plan):
    tree = tree_of(plan)
    again = filter_from_json(json.loads(json.dumps(tree.to_json())))
    assert again == tree
    assert hash(again) == hash(tree)


@thorough
@given(some.hostile_filters, st.lists(some.records, max_size=5))
def test_hostile_filter_is_refused_or_evaluated_and_nothing_else(filter, records):
    try:
        tree = parse_filter(filter)
    except FilterError:
        return
    filled(records).view().evaluate(tree, len(records))


@settings(thorough, max_examples=min(EXAMPLES, 200))
@given(st.lists(some.records, min_size=1, max_size=8), st.data())
def test_damaged_state_is_refused_or_answers_without_foreign_errors(small_parts, records, data):
    state = filled(records).state()
    directory, body = bytearray(state["directory"]), bytearray(b"".join(map(bytes, state["data"])))
    for target in (directory, body):
        if target:
            for _ in range(data.draw(st.integers(0, 2))):
                target[data.draw(st.integers(0, len(target) - 1))] = data.draw(st.integers(0, 255))
    damaged = {
        "directory": np.frombuffer(bytes(directory), np.uint8),
        "data": np.frombuffer(bytes(body), np.uint8),
    }
    try:
        indexes = FieldIndexes.from_state(damaged, len(records))
    except CorruptIndexError:
        return
    view = indexes.view()
    for plan in data.draw(st.lists(some.plans, max_size=3)):
        assert view.evaluate(tree_of(plan), len(records)).shape == (len(records),)
    view.fields(len(records))
    view.distinct("a", len(records))
    indexes.state()


# ------------------------------------------------------------------------------------ at full size


def people(count: int) -> list[tuple]:
    return [
        (
            {
                "name": f"name {i:05d}",
                "group": ("red", "green", "blue")[i % 3],
                "age": i % 90,
                "tags": [f"t{i % 7}", f"t{i % 11}"],
                "home": {"floor": i % 5},
                "joined": datetime(2020 + i % 5, 1 + i % 12, 1, tzinfo=timezone.utc),
                "score": i / 7,
            },
            {"chunk": i % 4} if i % 2 else None,
        )
        for i in range(count)
    ]


PLANS = [
    ("is", "name", "in", [f"name {i:05d}" for i in range(0, 9000, 50)], "metadata", "never"),
    ("is", "name", "nin", [f"name {i:05d}" for i in range(0, 9000, 3)], "metadata", "differs"),
    ("is", "age", "in", list(range(-50, 500, 7)), "metadata", "never"),
    ("is", "score", "in", [i / 7 for i in range(0, 9000, 5)], "metadata", "never"),
    ("is", "name", "eq", "name 00077", "metadata", "never"),
    ("is", "group", "in", ["red", "blue"], "metadata", "never"),
    ("is", "age", "gte", 30, "metadata", "never"),
    ("is", "score", "lt", 100.5, "metadata", "never"),
    ("is", "tags", "all", ["t1", "t2"], "metadata", "never"),
    ("is", "home.floor", "ne", 3, "metadata", "never"),
    ("is", "chunk", "ne", 3, "payload", "differs"),
    ("is", "joined", "gt", "2022-06-01", "metadata", "never"),
    ("is", "name", "contains", "77", "metadata", "never"),
    ("and", [("is", "age", "gt", 10, "metadata", "never"), ("is", "age", "lt", 20, "metadata", "never")]),
    (
        "none",
        [("is", "group", "eq", "red", "metadata", "never"), ("is", "age", "lt", 50, "metadata", "never")],
    ),
    ("or", [("is", "name", "eq", f"name {i:05d}", "metadata", "never") for i in range(0, 300, 3)]),
]


def test_thousands_of_records_added_in_odd_batches_match_the_oracle():
    records = people(5000)
    indexes = FieldIndexes()
    low = 0
    for count in (1, 2, 700, 511, 1, 512, 513, 2000, 5000):
        batch = records[low : low + count]
        indexes.append(low, batch, len(batch))
        low += len(batch)
    assert len(indexes) == 5000
    for plan in PLANS:
        assert found(indexes, tree_of(plan), 5000) == expected(plan, records), plan


def test_segment_of_more_records_than_two_bytes_number_matches_plain_python_before_and_after_saving():
    count = 72_000
    records = [
        {"name": f"n{i}", "kind": i % 3, "word": f"word {i * 7919 % 40_000}", "tags": [i, i % 5]}
        for i in range(count)
    ]
    indexes = FieldIndexes()
    for low in range(0, count, 9_000):
        part = records[low : low + 9_000]
        indexes.append(low, [(record, None) for record in part], len(part))
    state = indexes.state()
    assert max(segment.size for segment in indexes.view().segments) > 65_536
    loaded = FieldIndexes.from_state(state, count)
    cases = [
        (field("name") == "n69999", [69_999]),
        (field("kind") == 2, [i for i in range(count) if i % 3 == 2]),
        (field("word") == "word 0", [i for i in range(count) if i * 7919 % 40_000 == 0]),
        (field("word").endswith("77"), [i for i in range(count) if str(i * 7919 % 40_000).endswith("77")]),
        (field("tags").contains(4), [i for i in range(count) if i % 5 == 4 or i == 4]),
        (field("tags").contains(66_000), [66_000]),
        (~(field("word") >= "word 2"), [i for i in range(count) if f"word {i * 7919 % 40_000}" < "word 2"]),
    ]
    for tree, slots in cases:
        assert indexes.view().select(tree, count).slots().tolist() == slots, tree
        assert loaded.view().select(tree, count).slots().tolist() == slots, tree


def test_view_answers_for_fewer_and_for_more_records_than_it_has():
    records = people(3000)
    view = filled(records).view()
    for plan in PLANS:
        tree = tree_of(plan)
        whole = expected(plan, records)
        for n in (0, 1, 2047, 2999):
            assert view.evaluate(tree, n).tolist() == whole[:n]
        assert view.evaluate(tree, 3005).tolist() == whole + expected(plan, [(None, None)] * 5)


def test_gap_between_records_has_no_fields():
    indexes = filled(people(10))
    indexes.append(2000, people(10), 10)
    mask = indexes.view().evaluate(field("age").exists(), 2010)
    assert np.flatnonzero(mask).tolist() == [*range(10), *range(2000, 2010)]


def test_append_refuses_a_slot_that_is_taken_and_a_wrong_count():
    indexes = filled(people(10))
    with pytest.raises(ValueError, match="slot 9 is taken"):
        indexes.append(9, None, 1)
    with pytest.raises(ValueError, match="2 documents for 3 records"):
        indexes.append(10, [({}, None), ({}, None)], 3)
    assert len(indexes) == 10


def test_many_updates_are_folded_in_and_old_views_keep_the_old_values():
    records = people(4000)
    indexes = filled(records)
    before = indexes.view()
    slots = np.arange(0, 4000, 3)
    changed = [({"age": 1000 + slot}, {"chunk": 9}) for slot in slots.tolist()]
    indexes.update(slots[::-1].copy(), None, changed[::-1])
    now = list(records)
    for slot, record in zip(slots.tolist(), changed, strict=True):
        now[slot] = record
    for plan in (*PLANS, ("is", "age", "gte", 1000, "metadata", "never")):
        assert before.evaluate(tree_of(plan), 4000).tolist() == expected(plan, records)
        assert indexes.view().evaluate(tree_of(plan), 4000).tolist() == expected(plan, now)
    assert not any(len(segment.changed) for segment in indexes.view().segments)


def test_forgotten_values_are_gone_when_saved():
    indexes = filled([({"secret": f"secret {i}", "n": i}, None) for i in range(1000)])
    indexes.forget(np.arange(500))
    indexes.forget(np.array([999]))
    indexes.update(np.array([998]), None, [({"n": 1}, None)])
    body = b"".join(map(bytes, indexes.state()["data"]))
    assert b"secret 499" not in body
    assert b"secret 500" in body
    assert b"secret 998" not in body
    assert b"secret 999" not in body
    assert indexes.view().select(field("secret").exists(), 1000).count == 498


def test_field_with_a_value_for_each_record_stays_small():
    values = [f"{i * 2654435761 % 2**64:016x}" for i in range(20_000)]
    records = [({"id": value, "n": i}, None) for i, value in enumerate(values)]
    size = sum(len(json.dumps(record[0], separators=(",", ":"))) for record in records)
    indexes = FieldIndexes()
    tracemalloc.start()
    for low in range(0, len(records), 2000):
        indexes.append(low, records[low : low + 2000], 2000)
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert indexes.memory_bytes() <= 0.8 * size
    assert held <= 1.1 * indexes.memory_bytes() + 100_000
    assert indexes.view().select(field("id") == values[777], 20_000).slots().tolist() == [777]


def test_keys_of_their_own_for_each_record_stay_cheap():
    records: list[tuple] = [({f"key {i}": i, "n": i, f"few {i // 4}": [i]}, None) for i in range(5000)]
    size = sum(len(json.dumps(record[0])) for record in records)
    indexes = filled(records)
    assert indexes.memory_bytes() <= 30 * size
    for held in (indexes, FieldIndexes.from_state(indexes.state(), 5000)):
        view = held.view()
        assert view.select(field("key 77") == 77, 5000).slots().tolist() == [77]
        assert view.select(field("few 9").exists(), 5000).slots().tolist() == [36, 37, 38, 39]
        assert view.select(field("key 77", missing="differs") != 77, 5000).count == 4999
        assert view.distinct("few 9", 5000) == [(36, 1), (37, 1), (38, 1), (39, 1)]
        assert len(view.fields(5000)) == 5000 + 1 + 1250


def test_repeated_filter_is_answered_from_what_was_kept():
    view = filled(people(2000)).view()
    first = view.select(parse_filter({"age": {"gt": 5}}), 2000)
    assert view.select(parse_filter({"age": {"gt": 5}}), 2000) is first
    assert view.select(parse_filter({"age": {"gt": 5.0}}), 2000) is not first
    assert first.mask() is first.mask()
    with pytest.raises(ValueError, match="read-only"):
        first.mask()[0] = True
    for i in range(200):
        view.select(field("age") == i, 2000)
    assert len(view._cache) <= views.MAX_CACHED


def test_selection_narrows_to_a_mask():
    selection = filled(people(2000)).view().select(field("group") == "red", 2000)
    live = np.arange(2000) % 2 == 0
    narrowed = selection.where(live)
    assert narrowed.slots().tolist() == list(range(0, 2000, 6))
    assert narrowed.count == len(range(0, 2000, 6))
    assert narrowed.mask().sum() == narrowed.count


def test_text_in_any_letter_case_matches_as_python_lowers_it():
    texts = [
        "École",
        "ÇA VA",
        "STRASSE",
        "ẞ",
        "İstanbul",
        "ΟΔΟΣ",
        "Ωmega",
        "\u212a",
        "\U00010400",
        "😀 A",
        "\ud800A",
    ]
    for alone in [[text] for text in texts] + [texts, texts[:3], ["abc", "ABC"]]:
        records = [({"t": text}, None) for text in dict.fromkeys(alone)]
        view = FieldIndexes.from_state(filled(records).state(), len(records)).view()
        for needle in (*texts, "a", "É", "ç", "ss", "\u03c2", "\u03c3", "k"):
            for operator, operand in (("text_match_insensitive", needle), ("ilike", f"%{needle}")):
                plan = ("is", "t", operator, operand, "metadata", "never")
                assert view.evaluate(tree_of(plan), len(records)).tolist() == expected(plan, records)


@given(
    st.lists(st.text("abé", max_size=6), max_size=200, unique=True),
    st.lists(st.text("abé", min_size=1, max_size=3), min_size=1, max_size=4),
    st.tuples(st.booleans(), st.booleans()),
)
def test_strings_are_scanned_as_an_expression_finds_them(texts, literals, is_open):
    strings = sorted(text.encode() for text in texts)
    packed = blobs.Blobs.build(strings)
    pieces = [literal.encode() for literal in literals]
    pieces = [b""] * is_open[0] + pieces + [b""] * is_open[1]
    wanted = re.compile(b".*".join(pieces))
    assert packed.holding_in_order(pieces).tolist() == [bool(wanted.fullmatch(text)) for text in strings]
    assert packed.containing(pieces[-1]).tolist() == [pieces[-1] in text for text in strings]
    for low, high in ((0, len(strings)), (len(strings) // 3, len(strings) // 2)):
        assert packed.between(low, high).to_list() == strings[low:high]


def test_pieces_with_holes_are_found_as_an_expression_finds_them():
    strings = sorted(b"%d" % number * 40 for number in range(1000))
    packed = blobs.Blobs.build(strings)
    hole = [ord("1"), None, ord("3")]
    for pieces, expression in (
        ([hole, b""], rb"1.3.*"),
        ([b"", hole, b"77", b""], rb".*1.3.*77.*"),
        ([[None] * 40], rb".{40}"),
        ([b"", [None] * 100, b"9"], rb".*.{100}.*9"),
    ):
        wanted = re.compile(expression)
        assert packed.holding_in_order(pieces).tolist() == [bool(wanted.fullmatch(text)) for text in strings]


def test_no_character_beyond_the_case_tables_has_a_case():
    assert all(chr(code).lower() == chr(code) for code in range(blobs._CASED_CODES, sys.maxunicode + 1))


# ------------------------------------------------------------------------------------ reports


def test_distinct_counts_live_records_and_elements_of_arrays():
    records: list[tuple] = [
        ({"a": 1}, None),
        ({"a": 1.0}, {"a": "p"}),
        ({"a": True}, None),
        ({"a": None}, None),
        ({"a": ["x", "y", "x", ["z"]]}, None),
        ({"a": "x"}, None),
        ({"a": {"b": 1}}, None),
        ({"a": date(2024, 1, 1)}, None),
        ({"a": 2.5}, None),
        ({"a": "dead"}, None),
        ({}, None),
    ]
    wanted = [
        (None, 1),
        (True, 1),
        (1, 2),
        (2.5, 1),
        (datetime(2024, 1, 1, tzinfo=timezone.utc), 1),
        ("x", 2),
        ("y", 1),
    ]
    live = np.array([record[0].get("a") != "dead" for record in records])
    for indexes in (filled(records), FieldIndexes.from_state(filled(records).state(), len(records))):
        assert indexes.view().distinct("a", len(records), live) == wanted
        assert ("dead", 1) in indexes.view().distinct("a", len(records))
        assert indexes.view().distinct("a", len(records), source="payload") == [("p", 1)]
        assert indexes.view().distinct("a.b", len(records)) == [(1, 1)]
        assert indexes.view().distinct("none", len(records)) == []


def test_fields_tells_names_types_and_counts():
    records: list[tuple] = [
        ({"a": 1, "b": {"c": "x"}}, {"p": 1}),
        ({"a": 2.5, "b": None}, None),
        ({"a": [1]}, None),
        ({"dead": 1}, None),
    ]
    live = np.array([True, True, True, False])
    for indexes in (filled(records), FieldIndexes.from_state(filled(records).state(), 4)):
        summaries = indexes.view().fields(4, live)
        assert [(s.name, s.source, s.count, s.types) for s in summaries] == [
            ("a", "metadata", 3, {"float": 1, "int": 1, "list": 1}),
            ("b", "metadata", 2, {"dict": 1, "null": 1}),
            ("b.c", "metadata", 1, {"str": 1}),
            ("p", "payload", 1, {"int": 1}),
        ]


def test_reports_of_changed_records_count_what_they_hold_now():
    indexes = filled(people(600))
    indexes.update(np.array([0, 3]), None, [({"group": "black"}, None), ({"group": "black"}, None)])
    view = indexes.view()
    assert dict(view.distinct("group", 600)) == {"red": 198, "green": 200, "blue": 200, "black": 2}
    assert {s.name: s.count for s in view.fields(600)}["age"] == 598
    assert dict(view.distinct("group", 600, np.arange(600) != 3))["black"] == 1


@pytest.mark.parametrize("folded", [False, True])
def test_strict_types_refuse_what_would_silently_not_match(folded):
    records: list[tuple] = [
        ({"a": 1, "b": None}, None),
        ({"a": "x", "b": 2}, None),
        ({"d": "2024-01-01"}, None),
    ]
    indexes = filled(records)
    if folded:
        indexes = FieldIndexes.from_state(indexes.state(), 3)
    view = indexes.view()
    with pytest.raises(FilterError, match="field 'a' holds values of type str"):
        view.check_types(parse_filter({"a": {"gt": 0}}), 3)
    with pytest.raises(FilterError, match="type int"):
        view.check_types(parse_filter({"$or": [{"z": 1}, {"a": {"lt": "y"}}]}), 3)
    view.check_types(parse_filter({"a": {"gt": 0}}), 3, np.array([True, False, True]))
    view.check_types(parse_filter({"b": {"gt": 0}, "a": {"eq": 5}, "z": {"gt": 1}}), 3)
    view.check_types(field("d") > date(2024, 1, 1), 3)
    view.check_types(field("b", missing="null_differs") > 1, 3)


def test_report_says_how_each_condition_is_answered():
    view = filled(people(600)).view()
    reports = view.report(
        parse_filter({"group": "red", "name": {"contains": "1"}, "tags": {"any": ["t1"]}}), 605
    )
    assert [(r["condition"], r["index"], r["forms"]) for r in reports] == [
        ("field('group') == 'red'", "equality", ["codes"]),
        ("field('name').contains('1')", "text scan", ["postings"]),
        ("field('tags').any(['t1'])", "elements", ["codes"]),
    ]
    assert [r["terms"] for r in reports][:2] == [3, 600]
    assert reports[0]["matches"] == 200
    assert [(r["indexed"], r["scanned"]) for r in reports] == [(600, 5)] * 3


# ------------------------------------------------------------------------------------ saving


def test_state_is_arrays_of_bytes_and_comes_back_whole():
    indexes = filled(people(3000))
    state = indexes.state()
    assert set(state) == {"directory", "data"}
    assert state["directory"].dtype == np.uint8
    assert all(piece.dtype == np.uint8 for piece in state["data"])
    again = FieldIndexes.from_state(state, 3000)
    assert again.memory_bytes() == pytest.approx(indexes.memory_bytes(), rel=0.05)
    assert bytes(again.state()["directory"]) == bytes(state["directory"])


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"directory": np.empty(0, np.uint8), "data": []},
        {"directory": np.frombuffer(b"[]", np.uint8), "data": []},
        {"directory": np.frombuffer(b'{"format":2,"segments":[]}', np.uint8), "data": []},
        {"directory": np.frombuffer(b'{"format":1,"segments":[{}]}', np.uint8), "data": []},
        {
            "directory": np.frombuffer(b'{"format":1,"segments":[{"size":-1,"fields":[]}]}', np.uint8),
            "data": [],
        },
        {
            "directory": np.frombuffer(b'{"format":1,"segments":[{"size":9,"fields":[]}]}', np.uint8),
            "data": [],
        },
        {"directory": np.frombuffer(b"\xff\xfe", np.uint8), "data": []},
    ],
)
def test_state_that_contradicts_itself_is_refused(state):
    with pytest.raises(CorruptIndexError, match="built anew from the documents"):
        FieldIndexes.from_state(state, 10)


# ------------------------------------------------------------------------------------ beside a writer


def test_readers_see_one_moment_while_a_writer_adds_and_updates():
    # Every record says which round wrote it; within one view, record i is in the round the view was taken in.
    indexes = FieldIndexes()
    published: list[tuple[Any, int, int]] = []
    failures: list[str] = []
    done = threading.Event()

    def read() -> None:
        while not done.is_set():
            if not published:
                continue
            view, n, round_number = published[-1]
            changed = view.select(field("round") == round_number, n).slots().tolist()
            older = view.select(field("round") < round_number, n).count
            newer = view.select(field("round") > round_number, n).count
            if newer or older + len(changed) != n:
                failures.append(
                    f"round {round_number}: {older} older, {len(changed)} now, {newer} newer of {n}"
                )
            view.fields(n)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    n = 0
    for round_number in range(150):
        count = 1 + round_number * 7 % 100
        indexes.append(n, [({"round": round_number, "text": f"t{i}"}, None) for i in range(count)], count)
        n += count
        slots = np.unique(np.arange(20) * 7919 * (round_number + 1) % n)
        indexes.update(slots, None, [({"round": round_number}, None)] * len(slots))
        published.append((indexes.view(), n, round_number))
    done.set()
    for reader in readers:
        reader.join()
    assert not failures, failures[0]

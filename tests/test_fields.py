"""Field indexes against the plain evaluator, through every way a record can get in, change and go."""

from __future__ import annotations

import os
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
from zeusdb_vs.filters import And, Comparison, Filter, Not, Or, filter_from_json, parse_filter

EXAMPLES = int(os.environ.get("ZEUSDB_VS_FILTER_EXAMPLES", "400"))
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
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


@pytest.fixture(autouse=True, scope="module")
def small_parts():
    """Shrink the parts so that a dozen records meet every one of them: tail, segments, merges, folding."""
    patch = pytest.MonkeyPatch()
    patch.setattr(fields_module, "TAIL_ROWS", 4)
    patch.setattr(fields_module, "FOLD_ROWS", 6)
    patch.setattr(fields_module, "MAX_SIZE", 12)
    patch.setattr(fields_module, "MAX_CHANGED", 2)
    yield
    patch.undo()


# ------------------------------------------------------------------------------------ against the oracle


@thorough
@given(st.lists(some.records, max_size=12), st.lists(some.plans, min_size=1, max_size=4))
def test_filter_objects_match_what_the_oracle_matches(records, plans):
    indexes = filled(records)
    for plan in plans:
        assert found(indexes, tree_of(plan), len(records)) == expected(plan, records), plan


@thorough
@given(st.lists(some.records, max_size=12), st.lists(some.dict_filters, min_size=1, max_size=4))
def test_dict_filters_match_what_the_oracle_matches(records, filters):
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
def test_views_match_the_oracle_through_changes_and_restarts(records, steps):
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
    import json

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
def test_damaged_state_is_refused_or_answers_without_foreign_errors(records, data):
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

"""Ids and slots, against a dict."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeusdb_vs.errors import CorruptIndexError
from zeusdb_vs.ids import Ids

_NAMES = st.lists(st.sampled_from("abcdefgh"), unique=True, max_size=6)


def _live(ids: Ids) -> list[int]:
    return np.flatnonzero(ids.live[: len(ids.names)]).tolist()


def _slots(ids: Ids) -> dict[str, int]:
    slots = {ids.names[slot]: slot for slot in ids.slots.in_use().tolist()}
    assert all(ids.slots.find(name) == slots.get(name, -1) for name in ids.names)
    return slots


@given(
    st.lists(
        st.tuples(st.sampled_from(["add", "remove", "withdraw"]), _NAMES, st.integers(0, 6)), max_size=12
    )
)
def test_ids_agree_with_a_dict(steps: list[tuple[str, list[str], int]]) -> None:
    ids = Ids()
    right: dict[str, int] = {}
    for action, names, part in steps:
        first = len(ids.names)
        if action == "remove":
            known = [name for name in names if name in right]
            ids.remove(np.array([right.pop(name) for name in known], np.int32))
        else:
            ids.append(names)
            claimed = first + min(part, len(names)) if action == "withdraw" else first + len(names)
            replaced = ids.claim(first, claimed)
            there = names[: claimed - first]
            assert replaced.tolist() == [right[name] for name in there if name in right]
            if action == "withdraw":
                ids.withdraw(first, first + len(names))
            else:
                right.update(zip(names, range(first, claimed), strict=True))
        assert _slots(ids) == right
        assert ids.live_count == len(right)
        assert _live(ids) == sorted(right.values())


def test_names_are_not_found_before_they_are_claimed() -> None:
    ids = Ids.from_names(["a"])
    ids.append(["b", "c"])
    assert _slots(ids) == {"a": 0}
    assert ids.claim(1, 2).tolist() == []
    assert _slots(ids) == {"a": 0, "b": 1}


def test_marks_that_readers_hold_never_change() -> None:
    ids = Ids.from_names(["a", "b", "c"])
    held = ids.live
    ids.remove(np.array([1], np.int32))
    ids.append(["a"])
    ids.claim(3, 4)
    assert held[:3].tolist() == [True, True, True]
    assert _live(ids) == [2, 3]


def test_replaced_slots_are_remembered_for_views_that_end_before_the_new_one() -> None:
    ids = Ids.from_names(["a"])
    for slot in (1, 2):
        ids.append(["a"])
        assert ids.claim(slot, slot + 1).tolist() == [slot - 1]
    assert ids.slots.find("a") == 2
    assert (ids.predecessors[2], ids.predecessors[1]) == (1, 0)


@pytest.mark.parametrize("point", ["part", "table", "predecessors", "moved", "marked"])
@pytest.mark.parametrize("count", [3, 200])
def test_add_is_withdrawn_wherever_its_claim_was_interrupted(count: int, point: str) -> None:
    before = [f"r{number}" for number in range(count)]
    ids = Ids.from_names(before)
    added = [f"r{number}" for number in range(count // 2, 2 * count)]
    stop = count + len(added)
    ids.append(added)
    # The steps of a claim, up to the one that was the last.
    if point == "marked":
        ids.claim(count, stop)
    else:
        new, old = ids.slots.insert(count, stop - count if point == "part" else stop)
        if point not in ("part", "table"):
            ids.predecessors.update(zip(new.tolist(), old.tolist(), strict=True))
        if point == "moved":
            ids.slots.move(old, new)
    ids.withdraw(count, stop)
    assert _slots(ids) == {name: slot for slot, name in enumerate(before)}
    assert _live(ids) == list(range(count)) and ids.live_count == count


def test_marks_grow_with_the_names() -> None:
    ids = Ids.from_names([str(number) for number in range(1000)])
    assert len(ids.live) >= 1000 and ids.live_count == 1000


@pytest.mark.parametrize(("letter", "least"), [("x", 64), ("é", 96), ("✓", 112)])
def test_memory_is_near_what_an_id_takes(letter: str, least: int) -> None:
    names = [f"{number:06}{letter * 7}" for number in range(20_000)]
    assert sys.getsizeof(names[0]) in range(least - 15, least + 1)
    ids = Ids.from_names(names)
    assert least + 8 + 6 <= ids.memory_bytes() / 20_000 <= least + 9 + 10 + 2


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), unique=True))
def test_state_goes_there_and_back(names: list[str]) -> None:
    back = Ids.from_state(Ids.from_names(names).state())
    assert back.names == names
    assert _slots(back) == {name: slot for slot, name in enumerate(names)}
    assert back.live_count == len(names)


@pytest.mark.parametrize("name", ["'; drop table", '"', "\n", "ünïcödé 🦓", "\u202e", "x" * 1024, " "])
def test_odd_names_are_names(name: str) -> None:
    assert Ids.from_state(Ids.from_names([name, "z"]).state()).names == [name, "z"]


def _state(data: bytes, offsets: list[int]) -> dict[str, Any]:
    return {"id_bytes": np.frombuffer(data, np.uint8), "id_offsets": np.array(offsets, np.int64)}


@pytest.mark.parametrize(
    ("state", "reason"),
    [
        (_state(b"ab", [0, 1, 3]), "offsets"),
        (_state(b"ab", [1, 2]), "offsets"),
        (_state(b"ab", [0, 2, 1, 2]), "offsets"),
        (_state(b"ab", [0, 0, 2]), "offsets"),
        (_state(b"ab", [0, -1, 2]), "offsets"),
        (_state(b"ab", []), "offsets"),
        (_state(b"", [0, 5]), "offsets"),
        (_state(b"\xff\xfe", [0, 2]), "UTF-8"),
        (_state("é".encode(), [0, 1, 2]), "UTF-8"),
        (_state(b"aa", [0, 1, 2]), "twice"),
        ({"id_bytes": np.zeros(1, np.uint8)}, "missing"),
        ({"id_bytes": np.zeros(1, np.int64), "id_offsets": np.array([0, 1])}, "must be"),
        ({"id_bytes": np.zeros((1, 1), np.uint8), "id_offsets": np.array([0, 1])}, "must be"),
    ],
)
def test_damaged_state_is_refused(state: dict[str, Any], reason: str) -> None:
    with pytest.raises(CorruptIndexError, match=reason):
        Ids.from_state(state)

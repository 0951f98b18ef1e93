"""The table from ids to slots, against a dict."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from zeusdb_vs import slot_table
from zeusdb_vs.slot_table import SlotTable


class _Hashed(str):
    """A str with a hash of the test's choice."""

    __slots__ = ("hashed",)
    hashed: int

    def __hash__(self) -> int:
        return self.hashed

    def __eq__(self, other: object) -> bool:
        return str.__eq__(self, other)  # type: ignore[arg-type]


def _hashed(text: str, hashed: int) -> _Hashed:
    name = _Hashed(text)
    name.hashed = hashed
    return name


def _slots(numbers: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.array(numbers, np.int32)


class _AgainstADict(RuleBasedStateMachine):
    """Inserts, moves and removals, with hashes as good as Python's or hardly different from each other."""

    @initialize(spread=st.sampled_from([1, 3, 1 << 20, 1 << 62]), shift=st.sampled_from([0, 30, 62]))
    def begin(self, spread: int, shift: int) -> None:
        self.known = [
            _hashed(f"r{number}", (hash((number, "x")) % spread << shift) % (1 << 63) - (number % 2 << 62))
            for number in range(400)
        ]
        self.names: list[str] = []
        self.table = SlotTable(self.names)
        self.right: dict[str, int] = {}

    @rule(first=st.integers(0, 399), count=st.integers(0, 200), step=st.sampled_from([1, 7]))
    def insert(self, first: int, count: int, step: int) -> None:
        added = [self.known[(first + step * number) % 400] for number in range(count)]
        start = len(self.names)
        self.names.extend(added)
        slots, others = self.table.insert(start, len(self.names))
        expected = [(slot, self.right[name]) for slot, name in enumerate(added, start) if name in self.right]
        assert list(zip(slots.tolist(), others.tolist(), strict=True)) == expected
        for slot, name in enumerate(added, start):
            self.right.setdefault(name, slot)

    @rule(data=st.data(), count=st.integers(1, 100))
    def move(self, data: st.DataObject, count: int) -> None:
        if self.right:
            some = self._some(data, count)
            start = len(self.names)
            self.names.extend(some)
            slots, others = self.table.insert(start, len(self.names))
            assert others.tolist() == [self.right[name] for name in some]
            self.table.move(others, slots)
            self.right.update(zip(some, range(start, len(self.names)), strict=True))

    @rule(data=st.data(), count=st.integers(1, 150))
    def remove(self, data: st.DataObject, count: int) -> None:
        if self.right:
            self.table.remove(_slots([self.right.pop(name) for name in self._some(data, count)]))

    @rule(slots=st.lists(st.integers(0, 400), max_size=5, unique=True))
    def pass_over_slots_that_nothing_leads_to(self, slots: list[int]) -> None:
        there = set(self.right.values())
        absent = _slots([slot for slot in slots if slot < len(self.names) and slot not in there])
        self.table.remove(absent)
        self.table.move(absent, absent)

    def _some(self, data: st.DataObject, count: int) -> list[str]:
        first = data.draw(st.integers(0, len(self.right) - 1))
        return list(self.right)[first : first + count]

    @invariant()
    def all_are_found(self) -> None:
        if hasattr(self, "right"):
            assert self.table.in_use().tolist() == sorted(self.right.values())
            for name in self.known:
                assert self.table.find(name) == self.right.get(name, -1)


TestAgainstADict = _AgainstADict.TestCase
TestAgainstADict.settings = settings(max_examples=60, stateful_step_count=20, deadline=None)


def _filled(names: list[str]) -> SlotTable:
    table = SlotTable(names)
    table.insert(0, len(names))
    return table


@pytest.mark.parametrize("count", [0, 1, 41, 42, 64, 65, 1000, 100_000])
def test_all_of_many_are_found_and_no_others(count: int) -> None:
    names = [f"record-{number}" for number in range(count)]
    table = _filled(names)
    assert table.in_use().tolist() == list(range(count))
    assert [table.find(name) for name in names] == list(range(count))
    assert {table.find(f"no {number}") for number in range(100)} == {-1}


def test_ids_that_stand_twice_are_told_by_one_of_them() -> None:
    names = [f"r{number}" for number in range(70_000)]
    names[69_999], names[40_000], names[5] = "r1", "r30000", "r4"
    table = SlotTable(names)
    slots, others = table.insert(0, len(names))
    pairs = zip(slots.tolist(), others.tolist(), strict=True)
    assert sorted(sorted(pair) for pair in pairs) == [[1, 69_999], [4, 5], [30_000, 40_000]]
    assert slots.tolist() == sorted(slots.tolist())
    assert [table.find(names[slot]) for slot in slots] == others.tolist()


def test_bytes_an_id_are_few_however_many_there_are() -> None:
    names: list[str] = []
    table = SlotTable(names)
    while len(names) < 200_000:
        start = len(names)
        names.extend(f"r{number}" for number in range(start, start + 4096))
        table.insert(start, len(names))
        assert table.memory_bytes <= 9.3 * len(names) + 256


def test_table_stays_small_when_ids_come_and_go() -> None:
    names: list[str] = []
    table = SlotTable(names)
    for start in range(0, 100_000, 100):
        names.extend(f"r{number}" for number in range(start, start + 100))
        table.insert(start, start + 100)
        table.remove(np.arange(start, start + 100, dtype=np.int32))
    assert table.memory_bytes <= 2048
    assert table.in_use().tolist() == []


def test_slots_beyond_the_bits_of_a_cell_begin_another_table() -> None:
    names = ["a", "b"]
    table = _filled(names)
    for slot in range(2, 5000):
        names.append("a")
        new, old = table.insert(slot, slot + 1)
        assert (new.tolist(), old.tolist()) == ([slot], [slot - 1 if slot > 2 else 0])
        table.move(old, new)
        assert (table.find("a"), table.find("b")) == (slot, 1)
    assert table.memory_bytes == 4 * slot_table._FEWEST_CELLS


def test_ids_of_one_hash_are_told_apart() -> None:
    names: list[str] = [_hashed(f"r{number}", -7) for number in range(300)]
    table = _filled(names)
    assert [table.find(name) for name in names] == list(range(300))
    assert table.find(_hashed("other", -7)) == -1


def test_readers_beside_a_writer_find_what_is_there() -> None:
    """Some ids stay, some move on, some come and go, while the table grows and is followed by others."""
    steady, moving = 200, 50
    names = [f"steady {number}" for number in range(steady)] + [
        f"moving {number}" for number in range(moving)
    ]
    table = _filled(names)
    is_over = threading.Event()
    failures: list[str] = []
    lookups = [0, 0, 0]

    def read(reader: int) -> None:
        least = [0] * moving
        while not is_over.is_set() and not failures:
            failures.extend(name for number, name in enumerate(names[:steady]) if table.find(name) != number)
            for number in range(moving):
                slot = table.find(f"moving {number}")
                if slot < least[number] or names[slot] != f"moving {number}":
                    failures.append(f"moving {number} at {slot}, before at {least[number]}")
                least[number] = slot
            slot = table.find("coming")
            if slot >= 0 and names[slot] != "coming":
                failures.append(f"coming at {slot}")
            if table.find("never") != -1:
                failures.append("never")
            lookups[reader] += 1

    readers = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for reader in readers:
            reader.start()
        turn = 0
        while (turn < 60 or min(lookups) < 20) and not failures and turn < 3000:
            start = len(names)
            names.extend([f"moving {number}" for number in range(moving)])
            names.extend(f"new {start + number}" for number in range(150))
            names.append("coming")
            new, old = table.insert(start, len(names))
            table.move(old, new)
            table.remove(np.arange(start + moving + turn % 100, len(names), dtype=np.int32))
            turn += 1
    finally:
        is_over.set()
        for reader in readers:
            reader.join()
        sys.setswitchinterval(interval)
    assert failures == []
    assert min(lookups) > 0

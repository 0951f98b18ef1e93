"""Readers, a writer and a saver at once: the promise of docs and handle, held for as long as it is watched.

``ZEUSDB_VS_STRESS_SECONDS=20`` watches longer than the default.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeusdb_vs import HNSWIndex, VectorDatabase

SECONDS = float(os.environ.get("ZEUSDB_VS_STRESS_SECONDS", "4"))
DIM = 16
KEYS = 9000
FIXED = 200


def _vector(key: int, version: int) -> np.ndarray:
    """The vector that a version of a record has: a hit can be checked by what it says of itself."""
    return np.random.default_rng([key, version]).standard_normal(DIM, dtype=np.float32)


def _record(key: int, version: int) -> dict[str, Any]:
    metadata = {"key": key, "version": version, "group": (key + version) % 7}
    return {
        "id": f"k{key}",
        "vector": _vector(key, version),
        "metadata": metadata,
        "text": f"{key} {version}",
    }


class _Watch:
    """Runs workers until the time is up or one of them has found something wrong."""

    def __init__(self) -> None:
        self.until = time.monotonic() + SECONDS
        self.problems: list[object] = []

    def run(self, *workers: Callable[[], None]) -> None:
        def loop(work: Callable[[], None]) -> None:
            try:
                while time.monotonic() < self.until and not self.problems:
                    work()
            except Exception:
                self.problems.append(traceback.format_exc())

        threads = [threading.Thread(target=loop, args=(work,)) for work in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def expect(self, holds: bool, *what: object) -> None:
        if not holds:
            self.problems.append(what)


@pytest.fixture
def index() -> HNSWIndex:
    """Some 6,000 records of a first version, and 200 that nobody touches."""
    made = VectorDatabase().create(dim=DIM, space="l2")
    made.add([{**_record(KEYS + i, 0), "id": f"fixed{i}"} for i in range(FIXED)])
    made.add([_record(key, 0) for key in range(KEYS * 2 // 3)])
    return made


def test_readers_writer_and_saver_at_once(index: HNSWIndex, tmp_path: Path) -> None:
    watch = _Watch()
    counts = {"searches": 0, "rounds": 0, "saves": 0}

    def check(hits: list[dict[str, Any]], query: np.ndarray) -> None:
        ids = [hit["id"] for hit in hits]
        watch.expect(len(set(ids)) == len(ids), "twice", ids)
        for hit in hits:
            told = hit["metadata"]
            own = hit["id"] in (f"k{told['key']}", f"fixed{told['key'] - KEYS}")
            whole = np.array_equal(hit["vector"], _vector(told["key"], told["version"]))
            same = hit["text"] == f"{told['key']} {told['version']}"
            near = abs(float(np.linalg.norm(hit["vector"] - query)) - hit["score"]) < 1e-4
            watch.expect(own and whole and same and near, "torn", hit)

    def reader(seed: int) -> Callable[[], None]:
        rng = np.random.default_rng(seed)
        carried = ("metadata", "text", "vector")

        def search() -> None:
            counts["searches"] += 1
            query = rng.standard_normal(DIM, dtype=np.float32)
            group = int(rng.integers(7))
            check(index.search(query, include=carried), query)
            for filter in ({"group": group}, {"group": group, "key": {"lt": 200}}):
                hits = index.search(query, filter=filter, include=carried)
                check(hits, query)
                watch.expect(all(hit["metadata"]["group"] == group for hit in hits), "filter", group, hits)
            watch.expect(len(index.search(query, filter={"group": group})) == 10, "too few")
            fixed = int(rng.integers(FIXED))
            hits = index.search(_vector(KEYS + fixed, 0), top_k=1, exact=True)
            watch.expect(hits[0]["id"] == f"fixed{fixed}", "lost", fixed, hits)

        return search

    rng = np.random.default_rng(99)
    versions: dict[int, int] = {}

    def write() -> None:
        counts["rounds"] += 1
        keys = rng.choice(KEYS, size=int(rng.integers(1, 150)), replace=False).tolist()
        for key in keys:
            versions[key] = versions.get(key, 0) + 1
        index.add([_record(key, versions[key]) for key in keys])
        (hit,) = index.search(_vector(keys[0], versions[keys[0]]), top_k=1, exact=True)
        watch.expect(hit["id"] == f"k{keys[0]}", "added and not found", keys[0], hit)
        gone = [f"k{key}" for key in rng.choice(KEYS, size=50, replace=False)]
        index.remove_points(gone)
        watch.expect(not any(name in index for name in gone), "removed and still there")
        if counts["rounds"] % 20 == 0:
            index.compact()

    def save() -> None:
        counts["saves"] += 1
        index.save(tmp_path / "x.zdb")
        loaded = VectorDatabase().load(tmp_path / "x.zdb")
        watch.expect(all(f"fixed{i}" in loaded for i in range(FIXED)), "lost by saving")
        for hit in loaded.search(_vector(counts["saves"], 0), include=("metadata", "vector")):
            told = hit["metadata"]
            whole = np.array_equal(hit["vector"], _vector(told["key"], told["version"]))
            watch.expect(whole, "torn on disk", hit)

    watch.run(*(reader(seed) for seed in range(4)), write, save)
    assert watch.problems == []
    assert min(counts.values()) >= 1


def test_writers_take_turns_and_lose_nothing(index: HNSWIndex) -> None:
    """Four writers with ids of their own and one that all of them change: every last write is there."""
    watch = _Watch()
    before = len(index)
    written = [0] * 4

    def writer(number: int) -> Callable[[], None]:
        def write() -> None:
            written[number] += 1
            name = f"w{number}-{written[number]}"
            index.add(
                [{"id": name, "vector": _vector(number, 1)}, {"id": "shared", "vector": _vector(number, 2)}]
            )
            index.update_metadata(name, {"by": number})
            index.update_metadata("shared", {f"by{number}": written[number]}, merge=True)
            watch.expect(name in index, "lost", name)

        return write

    watch.until = time.monotonic() + min(SECONDS, 1.5)
    watch.run(*(writer(number) for number in range(4)))
    assert watch.problems == []
    assert len(index) == before + sum(written) + 1
    for number in range(4):
        assert index.count({"by": number}) == written[number]

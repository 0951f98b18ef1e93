"""Processes and threads at once on one directory: readers never meet anything but whole, acknowledged moments.

``ZEUSDB_VS_RACE_S`` sets how long each test runs, in seconds (2 by default).
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from durability import writer
from durability.common import rows

from zeusdb_vs import HNSWIndex, VectorDatabase, verify

RACE_S = float(os.environ.get("ZEUSDB_VS_RACE_S", "2"))


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
def test_readers_follow_a_writer_in_another_process(tmp_path: Path) -> None:
    """Each state that a reader meets is that after some number of calls, and the number only grows."""
    path = tmp_path / "x.zdb"
    seed = 4711
    process = subprocess.Popen(
        [sys.executable, writer.__file__, str(path), "never", str(seed)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    # The pipe must not fill up.
    drain = threading.Thread(target=process.stdout.read)
    drain.start()
    state: writer.State = {}
    done = reloads = 0
    try:
        reader = VectorDatabase().open(path, read_only=True)
        until = time.monotonic() + RACE_S
        while time.monotonic() < until:
            reloads += reader.reload()
            found = writer.state_of(reader)
            limit = done + 100_000
            while found != state and done < limit:
                writer.apply(state, seed, done)
                done += 1
            assert found == state
            assert list(found) == list(state)
            if reloads % 7 == 0:
                assert writer.state_of(VectorDatabase().load(path))
    finally:
        process.kill()
        process.wait()
        drain.join()
        process.stdout.close()
    assert reloads > 3
    assert done > 20
    assert verify(path, deep=True).is_ok


def test_threads_search_write_checkpoint_and_copy_at_once(tmp_path: Path) -> None:
    """A writer keeps pairs that belong together; no reader, checkpoint or copy may part them."""
    path = tmp_path / "x.zdb"
    index = VectorDatabase().open(path, dim=4, space="l2", durability="interval", interval_ms=5)
    index.add(_pair(0))
    failures: list[BaseException] = []
    is_over = threading.Event()
    counts = {"write": 0, "search": 0, "save": 0, "copy": 0, "read": 0}

    def write() -> None:
        counts["write"] += 1
        number = counts["write"]
        index.add(_pair(number))
        if number >= 20:
            index.remove_points([f"{side}{number - 20}" for side in "ab"])

    def search() -> None:
        counts["search"] += 1
        hits = index.search(rows(counts["search"], 1, 4)[0], top_k=40)
        _check_pairs([(hit["id"], hit["metadata"]) for hit in hits] if len(hits) < 40 else [])

    def save() -> None:
        counts["save"] += 1
        index.save()

    def copy() -> None:
        counts["copy"] += 1
        index.snapshot(tmp_path / "copy.zdb")
        _check_pairs(VectorDatabase().load(tmp_path / "copy.zdb").list(1000))

    def read() -> None:
        counts["read"] += 1
        with VectorDatabase().open(path, read_only=True) as reader:
            _check_pairs(reader.list(1000))

    def run(work: Any) -> None:
        try:
            while not is_over.is_set():
                work()
        except BaseException as error:
            failures.append(error)
            is_over.set()

    threads = [
        threading.Thread(target=run, args=(work,)) for work in (write, search, search, save, copy, read)
    ]
    for thread in threads:
        thread.start()
    is_over.wait(RACE_S)
    is_over.set()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    assert min(counts.values()) > 2, counts
    expected = _contents(index)
    index.close()
    with VectorDatabase().open(path) as again:
        assert _contents(again) == expected


def _pair(number: int) -> list[dict[str, Any]]:
    vector = rows(number, 1, 4)[0]
    return [{"id": f"{side}{number}", "vector": vector, "metadata": {"pair": number}} for side in "ab"]


def _check_pairs(records: list[tuple[str, dict[str, Any]]]) -> None:
    sides: dict[int, list[str]] = {}
    for name, metadata in records:
        assert int(name[1:]) == metadata["pair"]
        sides.setdefault(metadata["pair"], []).append(name[0])
    assert all(found == ["a", "b"] or found == ["b", "a"] for found in sides.values()), sides


def _contents(index: HNSWIndex) -> list[tuple[str, Any, bytes]]:
    names = [name for name, _ in index.list(10**6)]
    records = index.get_records(names, include=("metadata", "vector"))
    return [(r["id"], r["metadata"], np.asarray(r["vector"]).tobytes()) for r in records]

"""Quantized indexes on disk: every state is there again, originals are where they may be, damage is told of.

Training takes 1,000 records at least; here 60 will do, so that each state of an index is quickly made.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import logging
import os
import pickle
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from durability.common import columns, everything, rows
from storage.snapshots import repair_digests, write_manifest

from zeusdb_vs import (
    ConfigurationError,
    CorruptIndexError,
    HNSWIndex,
    JournalDamagedError,
    ReadOnlyError,
    StorageError,
    VectorDatabase,
    chunks,
    quantization_config,
    repair,
    verify,
)
from zeusdb_vs import upkeep as upkeep_module
from zeusdb_vs.storage import (
    BinaryFile,
    Journal,
    JournalReplay,
    fsio,
    read_manifest,
    read_snapshot,
    write_snapshot,
)

SIZE, DIM = 60, 16
STEP = int(os.environ.get("ZEUSDB_VS_FAULT_STEP", "3"))
"""Of the operations on the disk, each so many-th fails."""
RAW, ONLY = "quantized_with_raw", "quantized_only"
KINDS = [
    (kind, mode, space)
    for kind, spaces in (("pq", ("cosine", "l2", "dot")), ("int8", oracle.SPACES))
    for mode in (ONLY, RAW)
    for space in spaces
]
FEW_KINDS = [("pq", ONLY, "cosine"), ("pq", RAW, "l2"), ("int8", ONLY, "l2"), ("int8", RAW, "cosine")]
GRAPH = "hnsw_index.hnsw.graph"


@pytest.fixture(autouse=True)
def training_of_few_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantization_config, "LEAST_TRAINING_SIZE", 16)


@pytest.fixture(scope="module", autouse=True)
def kernels_in_use() -> None:
    """Compiled code answers from here on: before, NumPy answers for small indexes, and rounds otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quantization_config, "LEAST_TRAINING_SIZE", 16)
        index = VectorDatabase().create(dim=DIM, quantization_config=_config("int8", RAW))
        _add(index, 0, SIZE)
        index.search(rows(0, 1, DIM)[0])


def _config(kind: str, mode: str, size: int = SIZE) -> dict[str, Any]:
    options = {"subvectors": 8, "bits": 5} if kind == "pq" else {}
    return {"type": kind, "storage_mode": mode, "training_size": size, **options}


def _open(path: Path, kind: str, mode: str, space: str = "l2", **options: Any) -> HNSWIndex:
    return VectorDatabase().open(
        path,
        dim=options.pop("dim", DIM),
        space=space,
        quantization_config=_config(kind, mode),
        lock_timeout_s=0,
        m=4,
        **options,
    )


def _ids(start: int, stop: int) -> list[str]:
    return [f"r{i}" for i in range(start, stop)]


def _add(index: HNSWIndex, start: int, stop: int, seed: int = 0) -> None:
    index.add(columns(1000 * seed + start, _ids(start, stop), index.dim))


def _seen(index: HNSWIndex) -> dict[str, Any]:
    """All that users can see, and what they see of the quantization."""
    info = index.get_quantization_info()
    for name in ("kept_neighbors", "training_seconds"):
        (info or {}).pop(name, None)  # of trainings in this process only
    queries = rows(77, 4, index.dim)
    return {
        **everything(index),
        "info": index.info(),
        "quantization": info,
        "state": (index.get_storage_mode(), index.get_training_progress(), index.is_training_ready()),
        "scores": index.search(queries, top_k=12, exact=True),
    }


def _answers(index: HNSWIndex) -> list[Any]:
    """What approximate searches give: the same only where the graph is the same."""
    queries = rows(78, 6, index.dim)
    return [
        index.search(queries, top_k=9),
        index.search(queries, top_k=9, rerank=0),
        index.search(queries, top_k=9, filter={"kind": "b"}),
        index.search(id=index.list(1)[0][0], top_k=5) if len(index) else [],
    ]


def _ways(path: Path) -> list[HNSWIndex]:
    database = VectorDatabase()
    return [
        database.load(path),
        database.open(path, read_only=True),
        database.open(path, read_only=True, mmap=False),
        database.open(path, read_only=True, verify=False),
    ]


def _bytes_of(path: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file())


# ------------------------------------------------------------------------------------------------ states


def _untrained(index: HNSWIndex) -> None:
    _add(index, 0, 40)
    index.remove_points(["r1", "r2"])
    index.add_metadata({"state": "collecting"})


def _trained(index: HNSWIndex) -> None:
    _untrained(index)
    _add(index, 30, 90, 1)
    _change(index)


def _change(index: HNSWIndex) -> None:
    """Every kind of write after training; needs the records r20 to r80."""
    _add(index, 80, 100, 2)
    index.add({"id": "r31", "vector": rows(3, 1, index.dim)[0], "text": "alone", "metadata": {"kind": "b"}})
    index.remove_points(_ids(40, 46))
    index.update_metadata("r33", {"n": "changed"})
    index.update_metadata(where={"kind": "b"}, metadata={"seen": True}, merge=True)
    index.update_payload(["r34", "r35"], {"p": "new"})
    index.add(rows(4, 3, index.dim))
    index.add_metadata({"changed": True})


def _cleared(index: HNSWIndex) -> None:
    _trained(index)
    index.clear()


def _filled_again(index: HNSWIndex) -> None:
    _cleared(index)
    _add(index, 20, 45, 5)
    index.remove_point("r44")


STATES = [_untrained, _trained, _cleared, _filled_again]


@pytest.mark.parametrize("fill", STATES)
@pytest.mark.parametrize(("kind", "mode", "space"), KINDS)
def test_every_state_is_saved_and_loaded(
    kind: str, mode: str, space: str, fill: Callable[[HNSWIndex], None], tmp_path: Path
) -> None:
    index = VectorDatabase().create(dim=DIM, space=space, m=4, quantization_config=_config(kind, mode))
    fill(index)
    index.save(tmp_path / "x")
    expected, answers = _seen(index), _answers(index)
    assert index.is_quantized() == (fill is not _untrained)
    for loaded in _ways(tmp_path / "x"):
        assert _seen(loaded) == expected
        assert _answers(loaded) == answers, "the same graph and the same codes"
        assert loaded.quantization == index.quantization
    _check_files(tmp_path / "x", index)
    # It lives on, and trains where it has not.
    loaded = VectorDatabase().load(tmp_path / "x")
    for one in (index, loaded):
        _add(one, 200, 270, 6)
        assert one.is_quantized()
    assert _seen(loaded) == _seen(index)
    assert verify(tmp_path / "x", deep=True).problems == []


def _check_files(path: Path, index: HNSWIndex) -> None:
    names = {file.name for file in path.iterdir()} - {".lock"}
    assert index.quantization is not None
    kind, is_trained = index.quantization.type, index.is_quantized()
    told = json.loads((path / "quantization.json").read_text())
    assert told == {**index.quantization.to_json(), "is_trained": is_trained}
    assert ("vectors.bin" in names) == (not is_trained or index.quantization.storage_mode == RAW)
    assert ({"pq_centroids.bin", "pq_codes.bin"} <= names) == (is_trained and kind == "pq")
    assert ("codes.bin" in names) == (is_trained and kind == "int8")


@pytest.mark.parametrize("fill", STATES)
@pytest.mark.parametrize(("kind", "mode", "space"), FEW_KINDS)
def test_every_state_survives_the_process(
    kind: str, mode: str, space: str, fill: Callable[[HNSWIndex], None], tmp_path: Path
) -> None:
    index = _open(tmp_path / "x", kind, mode, space)
    fill(index)
    expected = _seen(index)
    shutil.copytree(tmp_path / "x", tmp_path / "killed")
    index.close()
    for path in (tmp_path / "killed", tmp_path / "x"):
        for again in _ways(path):
            assert _seen(again) == expected
    with _open(tmp_path / "killed", kind, mode, space) as again:
        assert _seen(again) == expected
        assert verify(tmp_path / "killed", deep=True).problems == []
        _add(again, 300, 370, 7)
        assert again.is_quantized()
        expected = _seen(again)
        again.save()
        _check_files(tmp_path / "killed", again)
        answers = _answers(again)
    for again in _ways(tmp_path / "killed"):
        assert _seen(again) == expected
        assert _answers(again) == answers
    assert verify(tmp_path / "killed", deep=True).problems == []


@pytest.mark.parametrize(("kind", "mode", "space"), KINDS)
def test_journaled_codes_are_those_of_memory(kind: str, mode: str, space: str, tmp_path: Path) -> None:
    with _open(tmp_path / "x", kind, mode, space) as index:
        _add(index, 0, 70)
        _add(index, 60, 130, 1)
        index.add({"id": "alone", "vector": rows(9, 1, DIM)[0]})
        expected, codes = _seen(index), _codes_by_id(index)
        for again in _ways(tmp_path / "x"):
            assert _codes_by_id(again) == codes
            assert _seen(again) == expected


def _codes_by_id(index: HNSWIndex) -> dict[str, bytes]:
    collection = index._collection
    view = collection.view
    return {
        name: collection.coded_rows(s, s + 1).tobytes()
        for name, _ in index.list(10**6)
        if (s := view.find(name)) >= 0
    }


def test_compacting_within_an_add_journals_the_right_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_module, "_COMPACT_LEAST", 20)
    for kind in ("pq", "int8"):
        with _open(tmp_path / kind, kind, ONLY) as index:
            _add(index, 0, 80)
            _add(index, 30, 90, 1)  # replaces so many that the index is compacted
            assert index.get_stats()["stranded_graph_nodes"] == 0
            expected, codes = _seen(index), _codes_by_id(index)
            (again, *_) = _ways(tmp_path / kind)
            assert (_seen(again), _codes_by_id(again)) == (expected, codes)


def test_reader_reloads_across_the_training(tmp_path: Path) -> None:
    for kind, mode, space in FEW_KINDS:
        path = tmp_path / f"{kind}-{mode}"
        with _open(path, kind, mode, space) as writer:
            reader = VectorDatabase().open(path, read_only=True)
            for start in range(0, 120, 20):
                _add(writer, start, start + 20)
                assert reader.reload()
                assert _seen(reader) == _seen(writer)
                assert reader.is_quantized() == (start >= 40)
            writer.clear()
            assert reader.reload()
            assert _seen(reader) == _seen(writer)
            copy = pickle.loads(pickle.dumps(writer))
            assert copy.is_quantized() and copy.read_only


def test_exported_index_is_quantized_and_unbound(tmp_path: Path) -> None:
    for kind, mode, space in FEW_KINDS:
        with _open(tmp_path / f"{kind}-{mode}", kind, mode, space) as index:
            _trained(index)
            index.save(tmp_path / "copy")
            assert _seen(VectorDatabase().load(tmp_path / "copy")) == _seen(index)
            index.clear()
            assert _seen(VectorDatabase().load(tmp_path / f"{kind}-{mode}")) == _seen(index)


def test_quantization_must_agree_with_the_index_that_is_there(tmp_path: Path) -> None:
    _open(tmp_path / "x", "pq", RAW).close()
    _open(tmp_path / "x", "pq", RAW).close()
    VectorDatabase().open(tmp_path / "x").close()
    for kind, mode in (("pq", ONLY), ("int8", RAW)):
        with pytest.raises(ConfigurationError, match=r"quantization .*type='pq'.* rebuild"):
            _open(tmp_path / "x", kind, mode)
    VectorDatabase().open(tmp_path / "plain", dim=DIM).close()
    with pytest.raises(ConfigurationError, match="quantization none"):
        VectorDatabase().open(tmp_path / "plain", quantization_config={"type": "int8"})
    with pytest.raises(ConfigurationError, match="subvectors=5"):
        VectorDatabase().open(tmp_path / "new", dim=16, quantization_config={"type": "pq", "subvectors": 5})
    assert not (tmp_path / "new").exists()


def test_rebuild_into_another_quantization_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "x"
    with VectorDatabase().open(path, dim=DIM, space="l2", m=4) as index:
        _add(index, 0, 90)
        for kind, mode in (("pq", RAW), ("int8", RAW), (None, RAW), ("pq", ONLY)):
            index.rebuild(quantization_config=None if kind is None else _config(kind, mode))
            assert _seen(VectorDatabase().load(path)) == _seen(index)
            _add(index, 80, 95, 3)
            assert _seen(VectorDatabase().load(path)) == _seen(index)
        needles = [row.tobytes() for row in rows(0, 90, DIM)[:5]]
        assert not any(needle in _bytes_of(path) for needle in needles)
        with pytest.raises(ConfigurationError, match="were dropped"):
            index.rebuild(quantization_config=None)
        assert _seen(VectorDatabase().load(path)) == _seen(index)


# ------------------------------------------------------------------------------------------------ originals


@pytest.mark.parametrize("space", ["cosine", "l2"])
@pytest.mark.parametrize("kind", ["pq", "int8"])
def test_no_original_stays_on_disk_after_training(kind: str, space: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    given = [rows(seed, 20, DIM) for seed in range(8)]

    def are_there() -> list[bool]:
        content = _bytes_of(path)
        return [row.tobytes() in content for part in given for row in part[::7]]

    with _open(path, kind, ONLY, space) as index:
        for number in range(3):
            index.add({"ids": _ids(20 * number, 20 * number + 20), "vectors": given[number]})
            if number == 0:
                index.save()  # one part in the snapshot, one in the journal
            if number < 2:
                assert sum(are_there()) == 3 * (number + 1)
        assert index.is_quantized() and not any(are_there())
        assert not (path / "vectors.bin").exists()
        for number in range(3, 7):
            index.add({"ids": _ids(20 * number, 20 * number + 20), "vectors": given[number]})
        index.add({"id": "r0", "vector": given[7][0]})
        assert not any(are_there()), "codes are journaled"
        assert (path / "journal-3.log").stat().st_size > 80 * 8
        index.save()
        assert not any(are_there())
        assert index.memory()["vectors"] <= len(index) * 4 + 4096 * 4
        index.snapshot(tmp_path / "copy")
        shutil.rmtree(path)
        shutil.copytree(tmp_path / "copy", path)
        assert not any(are_there())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows in chunks of 64, so that few records have many of them."""
    monkeypatch.setattr(chunks, "_LARGEST_SHIFT", 6)


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("kind", ["pq", "int8"])
def test_originals_are_read_from_the_disk(kind: str, tmp_path: Path) -> None:
    path, row_bytes = tmp_path / "x", 4 * DIM
    given: dict[str, bytes] = {}

    def add(index: HNSWIndex, start: int, stop: int, seed: int) -> None:
        vectors = rows(seed, stop - start, DIM)
        index.add({"ids": _ids(start, stop), "vectors": vectors})
        for name, row in zip(_ids(start, stop), vectors, strict=True):
            given.pop(name, None)
            given[name] = row.tobytes()

    def check(index: HNSWIndex, least_mapped: int) -> None:
        """All is as it was given, and no more than two chunks and what came since is in memory."""
        assert {r["id"]: r["vector"].tobytes() for r in index.get_records(list(given))} == given
        vectors = [np.frombuffer(data, np.float32) for data in given.values()]
        hits = index.search(vectors[5], top_k=1, return_vector=True)
        assert hits[0]["vector"].tobytes() == vectors[5].tobytes()
        stats = index.get_stats()
        assert stats["raw_vectors_stored"] == len(given)
        assert stats["mapped_bytes"] >= least_mapped * row_bytes
        assert index.memory()["vectors"] <= (len(given) + 192 - least_mapped) * row_bytes

    with _open(path, kind, RAW) as index:
        add(index, 0, 50, 0)
        assert index.get_stats()["mapped_bytes"] == 0 and index.memory()["vectors"] >= 50 * row_bytes
        add(index, 50, 1000, 1)  # training, and a checkpoint with it
        assert index.is_quantized()
        check(index, 1000)
        add(index, 1000, 1100, 2)
        check(index, 1000 - 64)
        add(index, 0, 10, 3)
        add(index, 2000, 2001, 4)
        check(index, 1000 - 64)
        index.remove_points(_ids(100, 130))
        for name in _ids(100, 130):
            del given[name]
        index.save()  # compacts first
        check(index, len(given))
        assert VectorDatabase().load(path).get_stats()["mapped_bytes"] >= len(given) * row_bytes
        check(VectorDatabase().load(path), len(given))
        index.rebuild(m=6)
        check(index, len(given))
    for options in ({}, {"read_only": True}):
        with VectorDatabase().open(path, **options) as index:
            check(index, len(given))
    with VectorDatabase().open(path, mmap=False) as index:
        assert index.get_stats()["mapped_bytes"] == 0
        add(index, 3000, 3100, 5)
        index.save()
        assert index.get_stats()["mapped_bytes"] == 0
        check(index, 0)
    with VectorDatabase().open(path) as index:
        index.clear()
        given.clear()
        index.save()
        assert index.get_stats()["mapped_bytes"] == 0
        add(index, 0, 200, 6)
        index.save()
        check(index, 200)
        index.rebuild(quantization_config=_config("int8", ONLY))
        assert index.get_stats()["raw_vectors_stored"] == 0
        assert not any(data in _bytes_of(path) for data in given.values())


@pytest.mark.usefixtures("small_chunks")
def test_originals_that_compacting_copied_go_back_to_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep_module, "_COMPACT_LEAST", 100)

    def is_mapped(index: HNSWIndex) -> bool:
        until = time.monotonic() + 10
        while index.get_stats()["mapped_bytes"] < 4 * DIM * 448 and time.monotonic() < until:
            time.sleep(0.01)
        return index.memory()["vectors"] <= 4 * DIM * 128

    with _open(tmp_path / "x", "int8", RAW) as index:
        _add(index, 0, 600)
        assert is_mapped(index)
        _add(index, 0, 400, 1)  # replaces so many that the index is compacted
        assert index.get_stats()["stranded_graph_nodes"] == 0
        assert is_mapped(index)
        index.remove_points(_ids(400, 450))
        assert index.compact() == 50
        assert is_mapped(index)
        expected = _seen(index)
        assert _seen(VectorDatabase().load(tmp_path / "x")) == expected
    assert _seen(VectorDatabase().load(tmp_path / "x")) == expected


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize(("kind", "mode"), [("pq", RAW), ("int8", ONLY)])
def test_readers_beside_a_writer_and_checkpoints(
    kind: str, mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors are read while rows are added behind them, maps are changed for others, and slots are numbered anew."""
    monkeypatch.setattr(upkeep_module, "_COMPACT_LEAST", 200)
    until, problems, counts = time.monotonic() + 1.5, [], [0, 0, 0]
    given = rows(1, 64, DIM)

    def run(work: Callable[[], None]) -> None:
        try:
            while time.monotonic() < until and not problems:
                work()
        except Exception:
            problems.append(traceback.format_exc())

    def check(record: dict[str, Any]) -> None:
        row = int(record["id"].split("-")[1])
        apart = float(np.abs(record["vector"] - given[row]).max())
        if apart > (0 if mode == RAW else 0.2):
            problems.append((record["id"], apart))

    with _open(tmp_path / "x", kind, mode) as index:
        index.add({"ids": [f"fixed-{i}" for i in range(64)], "vectors": given})

        def read() -> None:
            time.sleep(0.002)  # or the writer hardly ever gets its turn at the interpreter
            at = counts[0] % 64
            counts[0] += 1
            hits = index.search(given[at], top_k=20, return_vector=True)
            records = index.get_records([f"fixed-{at}", f"a-{at}", f"b-{at}"])
            for record in (*hits, *records):
                check(record)
            if len(hits) != 20 or not records or records[0]["id"] != f"fixed-{at}":
                problems.append((at, hits, records))

        def write() -> None:
            counts[1] += 1
            chosen = np.random.default_rng(counts[1]).choice(64, 40, replace=False)
            for prefix in "ab":
                index.add({"ids": [f"{prefix}-{i}" for i in chosen], "vectors": given[chosen]})
            index.remove_points([f"a-{i}" for i in chosen[:10]])

        def save() -> None:
            counts[2] += 1
            index.save()

        threads = [threading.Thread(target=run, args=(work,)) for work in (read, read, write, save)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert problems == []
        assert min(counts) >= 1
        assert _seen(VectorDatabase().load(tmp_path / "x")) == _seen(index)


@pytest.mark.usefixtures("small_chunks")
def test_map_outlives_the_file(tmp_path: Path) -> None:
    """Saves of others replace the file, or the directory goes: who has it mapped reads on."""
    path = tmp_path / "x"
    index = VectorDatabase().create(dim=DIM, space="l2", quantization_config=_config("pq", RAW))
    _add(index, 0, 300)
    index.save(path)
    loaded = VectorDatabase().load(path)
    reader = VectorDatabase().open(path, read_only=True)
    expected = _seen(loaded)
    other = VectorDatabase().create(dim=DIM, space="l2")
    other.add(rows(5, 10, DIM))
    other.save(path)
    gc.collect()
    assert _seen(loaded) == expected == _seen(reader)
    shutil.rmtree(path)
    assert _seen(loaded) == expected
    _add(loaded, 300, 320)
    loaded.save(path)
    assert _seen(VectorDatabase().load(path)) == _seen(loaded)


@pytest.mark.usefixtures("small_chunks")
def test_loads_beside_saves_get_one_of_the_states(tmp_path: Path) -> None:
    """Between reading a directory and mapping its vectors another save may go through."""
    path = tmp_path / "x"
    index = VectorDatabase().create(dim=DIM, space="l2", quantization_config=_config("int8", RAW))
    _add(index, 0, 100)
    index.save(path)
    is_done = threading.Event()
    loads = 0

    def save() -> None:
        for round_ in range(40):
            _add(index, 100 * (round_ % 3), 100 * (round_ % 3) + 100, round_)
            index.save(path)
        is_done.set()

    saver = threading.Thread(target=save)
    saver.start()
    try:
        while not is_done.is_set():
            loaded = VectorDatabase().load(path)
            names = [name for name, _ in loaded.list(10**6)]
            records = loaded.get_records(names)
            assert len(records) == len(loaded) >= 100
            for record in records[::37]:
                (hit,) = loaded.search(record["vector"], top_k=1, exact=True)
                assert (hit["id"], hit["score"]) == (record["id"], pytest.approx(0, abs=1e-5))
            loads += 1
    finally:
        saver.join()
    assert loads > 3


# ------------------------------------------------------------------------------------------------ crashes


@pytest.mark.parametrize(("kind", "mode", "space"), FEW_KINDS[1:3])
def test_crash_at_any_operation_of_the_add_that_trains(
    kind: str, mode: str, space: str, tmp_path: Path
) -> None:
    """A copy of the directory before each operation on the disk is what kill -9 would leave there."""
    path = tmp_path / "x"
    copies: list[Path] = []

    def observe(operation: str, *_: object) -> None:
        copies.append(tmp_path / f"{len(copies)}-{operation}")
        shutil.copytree(path, copies[-1])

    with _open(path, kind, mode, space) as index:
        _add(index, 0, 30)
        index.save()
        _add(index, 30, 55)
        before = _seen(index)
        with fsio.observe(observe):
            _add(index, 50, 75)
        after = _seen(index)
    assert len(copies) > 20 and before["state"] != after["state"]
    found = []
    for number, copy in enumerate(copies):
        assert verify(copy).is_ok
        with VectorDatabase().open(copy, lock_timeout_s=0) as index:
            seen = _seen(index)
            assert seen in (before, after), copy.name
            found.append(seen == after)
            if number % 5 == 0:
                _add(index, 70, 90, 2)
                assert index.is_quantized()
                expected = _seen(index)
                assert _seen(VectorDatabase().load(copy)) == expected
    assert found == sorted(found), "stored is stored"
    assert found[0] is False and found[-1] is True


_CHILD = """
import logging, os, signal, sys
sys.path[:0] = sys.argv[4:]
from zeusdb_vs import VectorDatabase, quantization_config
from zeusdb_vs.storage import fsio
from durability.common import columns

quantization_config.LEAST_TRAINING_SIZE = 16
path, deadly, config = sys.argv[1], sys.argv[2], eval(sys.argv[3], {})

def die():
    os.kill(os.getpid(), signal.SIGKILL)

class Deadly(logging.Handler):
    def emit(self, record):
        if deadly in record.getMessage():
            die()

operations = 0
def observe(operation, *arguments):
    global operations
    operations += 1
    if str(operations) == deadly:
        die()

logger = logging.getLogger("zeusdb_vs")
logger.setLevel(logging.INFO)
index = VectorDatabase().open(path, dim=16, space="l2", m=4, quantization_config=config)
for start in range(0, 55, 11):
    index.add(columns(start, [f"r{i}" for i in range(start, start + 11)], 16))
print("ready", flush=True)
logger.addHandler(Deadly())
with fsio.observe(observe):
    index.add(columns(50, [f"r{i}" for i in range(50, 75)], 16))
print("returned", flush=True)
die()
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs kill -9")
@pytest.mark.parametrize(
    ("kind", "mode", "deadly", "is_stored"),
    [
        ("pq", ONLY, "training pq on", False),
        ("pq", RAW, "4 of 8 parts", False),
        ("int8", ONLY, "trained int8", False),
        ("pq", ONLY, "14", None),
        ("pq", ONLY, "never", True),
        ("int8", RAW, "never", True),
    ],
)
def test_killed_in_the_add_that_trains(
    kind: str, mode: str, deadly: str, is_stored: bool | None, tmp_path: Path
) -> None:
    path, tests = tmp_path / "x", Path(__file__).resolve().parents[1]
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            _CHILD,
            path,
            deadly,
            repr(_config(kind, mode)),
            str(tests.parent),
            str(tests),
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.returncode == -signal.SIGKILL
    assert process.stdout.split() == ["ready", "returned"][: 1 + (is_stored is True)]
    shadow = VectorDatabase().create(dim=DIM, space="l2", m=4, quantization_config=_config(kind, mode))
    _add(shadow, 0, 11)
    for start in range(11, 55, 11):
        _add(shadow, start, start + 11)
    states = [_seen(shadow)]
    _add(shadow, 50, 75)
    states.append(_seen(shadow))
    with VectorDatabase().open(path, lock_timeout_s=0) as index:
        number = states.index(_seen(index))
        assert is_stored is None or number == is_stored
        _add(index, 50, 80)
        assert index.is_quantized()
        expected = _seen(index)
    assert _seen(VectorDatabase().load(path)) == expected
    assert verify(path, deep=True).is_ok


class _Fault:
    """Fails one operation, or all from one on."""

    def __init__(self, at: int, code: int, lasting: bool) -> None:
        self.at, self.code, self.lasting = at, code, lasting
        self.count = 0

    def __call__(self, operation: str, *_: object) -> None:
        number = self.count
        self.count += 1
        if number == self.at or (self.lasting and number > self.at):
            raise OSError(self.code, os.strerror(self.code))


@pytest.mark.parametrize(
    ("code", "lasting"), [(errno.ENOSPC, True), (errno.EIO, False), (errno.EACCES, True)]
)
@pytest.mark.parametrize(("kind", "mode"), [("pq", ONLY), ("int8", RAW)])
def test_failing_disk_in_the_add_that_trains_loses_nothing(
    kind: str, mode: str, code: int, lasting: bool, tmp_path: Path
) -> None:
    shadow = VectorDatabase().create(dim=DIM, space="l2", m=4, quantization_config=_config(kind, mode))
    _add(shadow, 0, 55)
    before = _seen(shadow)
    _add(shadow, 50, 75)
    after = _seen(shadow)
    _add(shadow, 74, 80)
    later = _seen(shadow)
    counting = _Fault(-1, code, False)
    refused = 0
    for at in (-1, *range(code % STEP, 60, STEP)):
        if counting.count and at >= counting.count:
            break
        path = tmp_path / str(at)
        index = _open(path, kind, mode)
        _add(index, 0, 55)
        with fsio.observe(counting if at < 0 else _Fault(at, code, lasting)):
            try:
                _add(index, 50, 75)
                is_told = True
            except StorageError as error:
                assert error.errno == code
                is_told, refused = False, refused + 1
        # Memory has it in any case, or nothing of it: so has the disk, which may be behind where an error was raised.
        assert _seen(index) in (before, after)
        on_disk = _seen(VectorDatabase().load(path))
        assert on_disk == after or (on_disk == before and not is_told)
        if at // STEP % 2 and not is_told:
            # Closed in that state, what was acknowledged is there.
            with contextlib.suppress(StorageError):
                index.close()
            with VectorDatabase().open(path, lock_timeout_s=0) as index:
                assert _seen(index) in (before, after)
                _add(index, 50, 75)
                assert _seen(index) == after
        else:
            try:
                _add(index, 74, 80)  # the next write works, or tells to open the directory again
            except ReadOnlyError:
                index.close()
                index = VectorDatabase().open(path, lock_timeout_s=0)
                _add(index, 50, 75)
                _add(index, 74, 80)
            assert _seen(index) == later
            assert _seen(VectorDatabase().load(path)) == later
            if mode == ONLY:
                assert rows(0, 55, DIM)[3].tobytes() not in _bytes_of(path)
            index.close()
        assert verify(path, deep=True).problems == []
    assert refused > 4


def test_interrupt_between_training_and_its_checkpoint_is_mended(tmp_path: Path) -> None:
    def interrupt(operation: str, path: Path, *_: object) -> None:
        if path.name == "pq_codes.bin":
            raise KeyboardInterrupt

    with _open(tmp_path / "x", "pq", ONLY) as index:
        _add(index, 0, 55)
        before = _seen(index)
        with fsio.observe(interrupt), pytest.raises(KeyboardInterrupt):
            _add(index, 50, 75)
        assert index.is_quantized()
        assert _seen(VectorDatabase().load(tmp_path / "x")) == before
        index.update_metadata("r3", {"n": "mended"})
        assert _seen(VectorDatabase().load(tmp_path / "x")) == _seen(index)


def test_interrupted_training_of_an_opened_index_is_mended(tmp_path: Path) -> None:
    class Stop(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith("trained"):
                raise KeyboardInterrupt

    logger, handler, level = logging.getLogger("zeusdb_vs"), Stop(), logging.getLogger("zeusdb_vs").level
    with _open(tmp_path / "x", "pq", ONLY) as index:
        _add(index, 0, 55)
        before = _seen(index)
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
        try:
            with pytest.raises(KeyboardInterrupt):
                _add(index, 50, 75)
        finally:
            logger.removeHandler(handler)
            logger.setLevel(level)
        assert _seen(index) == before == _seen(VectorDatabase().load(tmp_path / "x"))
        _add(index, 52, 59)
        assert not index.is_quantized()
        assert _seen(VectorDatabase().load(tmp_path / "x")) == _seen(index)
        _add(index, 59, 62)
        assert index.is_quantized()
        assert _seen(VectorDatabase().load(tmp_path / "x")) == _seen(index)
        assert rows(0, 55, DIM)[3].tobytes() not in _bytes_of(tmp_path / "x")


# ------------------------------------------------------------------------------------------------ verify, repair


@pytest.fixture
def trained(tmp_path: Path) -> Callable[..., Path]:
    def make(kind: str, mode: str, space: str = "l2", *, journal: bool = True) -> Path:
        path = tmp_path / f"{kind}-{mode}-{space}"
        with _open(path, kind, mode, space) as index:
            _trained(index)
            if not journal:
                index.save()
        return path

    return make


def _content(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}


CODE_FILES = {"pq": ("pq_codes.bin", "pq_centroids.bin"), "int8": ("codes.bin",)}


@pytest.mark.parametrize("way", ["flipped", "missing", "cut"])
@pytest.mark.parametrize(("kind", "mode", "space"), FEW_KINDS)
def test_damage_is_mended_where_it_can_be(
    kind: str, mode: str, space: str, way: str, trained: Callable[..., Path]
) -> None:
    original = trained(kind, mode, space)
    with VectorDatabase().open(original, read_only=True) as index:
        expected = _seen(index)
    assert verify(original, deep=True).problems == []
    assert repair(original).actions == []
    vital = ["quantization.json", *(CODE_FILES[kind] if mode == ONLY else ["vectors.bin"])]
    for name in (GRAPH, "fields.bin", *CODE_FILES[kind], *vital):
        path = original.with_name("damaged")
        shutil.copytree(original, path)
        file = path / name
        if way == "missing":
            file.unlink()
        elif way == "cut":
            file.write_bytes(file.read_bytes()[:100])
        else:
            data = bytearray(file.read_bytes())
            data[-9] ^= 1
            file.write_bytes(data)
        with pytest.raises(CorruptIndexError, match=name.replace(".", r"\.")):
            VectorDatabase().open(path)
        report = verify(path)
        assert name in report.problems[0]
        if name in vital:
            before = _content(path)
            with pytest.raises(CorruptIndexError, match=name.replace(".", r"\.")) as refused:
                repair(path)
            assert name == "quantization.json" or "restore the directory from a copy" in str(refused.value)
            assert _content(path) == before
        else:
            report = repair(path)
            assert name in report.actions[-1] and report.records == len(expected["records"])
            assert _seen(VectorDatabase().load(path)) == expected
            assert verify(path, deep=True).problems == []
            assert repair(path).actions == []
        shutil.rmtree(path)


@pytest.mark.parametrize(("kind", "mode", "space"), FEW_KINDS)
def test_few_records_stay_quantized_through_a_repair(
    kind: str, mode: str, space: str, trained: Callable[..., Path]
) -> None:
    """What is left may be less than training takes: the quantizer that is there goes on."""
    path = trained(kind, mode, space)
    with VectorDatabase().open(path) as index:
        index.remove_points([name for name, _ in index.list(1000)][:-20])
        index.save()
        expected = _seen(index)
    (path / GRAPH).unlink()
    assert repair(path).records == 20
    assert _seen(VectorDatabase().load(path)) == expected
    assert verify(path, deep=True).problems == []


Arrays = dict[str, dict[str, Any]]


def _rewrite(path: Path, change: Callable[[Arrays], None]) -> None:
    """Change arrays of a saved index and save it again, every digest right."""
    snapshot = read_snapshot(path)
    arrays = {
        name: dict(file.arrays) for name, file in snapshot.files.items() if isinstance(file, BinaryFile)
    }
    change(arrays)
    for name, values in arrays.items():
        snapshot.files[name] = BinaryFile(values)
    for journal in path.glob("journal-*"):
        journal.unlink()
    snapshot.config.pop("journaled", None)
    write_snapshot(path, snapshot)


def _set(file: str, name: str, value: Any) -> Callable[[Arrays], None]:
    def change(arrays: Arrays) -> None:
        if callable(value):
            arrays[file][name] = value(arrays[file][name])
        elif value is None:
            del arrays[file][name]
        else:
            arrays[file][name] = value

    return change


def _at(place: Any, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = np.array(array)
        array[place] = value
        return array

    return change


def _head(value: float, at: int = 0) -> Callable[[np.ndarray], np.ndarray]:
    return _at((7, slice(4 * at, 4 * at + 4)), np.frombuffer(np.float32(value).tobytes(), np.uint8))


def _wider(array: np.ndarray) -> np.ndarray:
    return np.hstack([array, array[:, :4]])


def _shorter(array: np.ndarray) -> np.ndarray:
    return array[:-1].copy()


CENTROIDS, CODES, PLAIN = "pq_centroids.bin", "pq_codes.bin", "codes.bin"
HOSTILE_PQ = [
    (CENTROIDS, "centroids", _at((0, 3, 1), np.nan)),
    (CENTROIDS, "centroids", _at((7, 31, 0), np.inf)),
    (CENTROIDS, "centroids", lambda a: a[:, :16].copy()),
    (CENTROIDS, "centroids", lambda a: a[:4].copy()),
    (CENTROIDS, "centroids", lambda a: a.reshape(4, 32, 4)),
    (CENTROIDS, "centroids", lambda a: a.astype(np.float64)),
    (CENTROIDS, "centroids", None),
    (CENTROIDS, "center", _at(2, -np.inf)),
    (CENTROIDS, "center", lambda a: a[:-1].copy()),
    (CENTROIDS, "center", None),
    (CENTROIDS, "bits", 4),
    (CENTROIDS, "bits", 0),
    (CENTROIDS, "bits", 5.5),
    (CENTROIDS, "bits", 10**9),
    (CENTROIDS, "is_l2", lambda value: 1 - value),
    (CENTROIDS, "signs", np.zeros((2, DIM), np.float32)),
    (CENTROIDS, "signs", np.full((2, DIM), np.nan, np.float32)),
    (CENTROIDS, "signs", np.ones((3, DIM), np.float32)),
    (CODES, "codes", _at((3, -1), 32)),
    (CODES, "codes", _at((5, -8), 255)),
    (CODES, "codes", _head(np.nan)),
    (CODES, "codes", _head(np.inf)),
    (CODES, "codes", _head(-1.0)),
    (CODES, "codes", _head(5.0)),
    (CODES, "codes", _wider),
    (CODES, "codes", _shorter),
    (CODES, "codes", lambda a: a.astype(np.int16)),
    (CODES, "codes", lambda a: a.ravel()),
    (CODES, "codes", None),
    (CODES, "rerank", -1),
    (CODES, "rerank", 10**6),
    (CODES, "rerank", np.nan),
    (CODES, "rerank", None),
]
HOSTILE_INT8 = [
    (PLAIN, "mid", _at(3, np.nan)),
    (PLAIN, "mid", lambda a: a[:-1].copy()),
    (PLAIN, "mid", None),
    (PLAIN, "step", _at(3, np.inf)),
    (PLAIN, "step", _at(3, -1)),
    (PLAIN, "step", lambda a: a.astype(np.float64)),
    (PLAIN, "bits", 4),
    (PLAIN, "bits", 6),
    (PLAIN, "bits", None),
    (PLAIN, "uniform", 1),
    (PLAIN, "uniform", 7),
    (PLAIN, "expand_scale", np.nan),
    (PLAIN, "expand_scale", -1.0),
    (PLAIN, "signs", np.zeros((2, DIM), np.float32)),
    (PLAIN, "in_planes", 1),
    (PLAIN, "codes", _wider),
    (PLAIN, "codes", _shorter),
    (PLAIN, "codes", lambda a: a.astype(np.int8)),
    (PLAIN, "codes", None),
    (PLAIN, "rerank", -5),
    (PLAIN, "rerank", 0),
    (PLAIN, "rerank", 10**9),
]
HOSTILE_BY_SPACE = {
    "cosine": [
        ("inverse_norms", _at((2, 0), np.nan)),
        ("inverse_norms", _at((2, 0), -1)),
        ("inverse_norms", _shorter),
        ("inverse_norms", None),
    ],
    "l2": [("biases", _at((2, 0), np.nan)), ("biases", _shorter), ("biases", None)],
}


@pytest.mark.parametrize("kind", ["pq", "int8"])
@pytest.mark.parametrize("mode", [ONLY, RAW])
@pytest.mark.parametrize("space", ["cosine", "l2"])
def test_hostile_arrays_are_refused(kind: str, mode: str, space: str, trained: Callable[..., Path]) -> None:
    original = trained(kind, mode, space, journal=False)
    changes = list(HOSTILE_PQ if kind == "pq" else HOSTILE_INT8)
    if space == "l2" and kind == "pq":
        changes += [(CODES, "codes", _head(value, 1)) for value in (np.nan, -1.0, np.inf)]
    if (kind == "int8" and space == "l2") or (mode == ONLY and space == "cosine"):
        changes += [
            (CODES if kind == "pq" else PLAIN, name, value) for name, value in HOSTILE_BY_SPACE[space]
        ]
    for number, (file, name, value) in enumerate(changes):
        path = original.with_name(f"{number}")
        shutil.copytree(original, path)
        _rewrite(path, _set(file, name, value))
        label = f"{number}: {file} {name}"
        for load in (
            VectorDatabase().load,
            lambda path: VectorDatabase().open(path, read_only=True),
            lambda path: VectorDatabase().open(path, verify=False, create=False),
            lambda path: VectorDatabase().open(path, mmap=False),
        ):
            with pytest.raises(CorruptIndexError, match=r"pq_c|codes\.bin|vectors\.bin|mappings"):
                load(path).close()
                pytest.fail(label)
        assert not verify(path).is_ok, label
        if mode == RAW:
            assert repair(path).records > 60, label
            assert verify(path, deep=True).problems == []
            assert VectorDatabase().load(path).is_quantized()
        else:
            before = _content(path)
            with pytest.raises(CorruptIndexError):
                repair(path)
            assert _content(path) == before
        shutil.rmtree(path)


def test_impossible_planes_are_refused(tmp_path: Path) -> None:
    """Wide int8 codes of dropped vectors lie in two planes."""
    index = VectorDatabase().create(dim=100, space="l2", m=4, quantization_config=_config("int8", ONLY))
    index.add(rows(0, 80, 100))
    index.save(tmp_path / "x")
    expected = _seen(index)
    assert _seen(VectorDatabase().load(tmp_path / "x")) == expected
    for name, value in (
        ("low_codes", None),
        ("low_codes", _shorter),
        ("low_codes", lambda a: a[:, :-1].copy()),
        ("in_planes", 0),
        ("in_planes", 2),
        ("in_planes", None),
    ):
        shutil.copytree(tmp_path / "x", tmp_path / "y")
        _rewrite(tmp_path / "y", _set(PLAIN, name, value))
        with pytest.raises(CorruptIndexError, match=r"codes\.bin"):
            VectorDatabase().load(tmp_path / "y")
        shutil.rmtree(tmp_path / "y")


HOSTILE_OPTIONS: list[dict[str, Any]] = [
    {"type": "rabitq"},
    {"type": None},
    {"type": 5},
    {"type": ["pq"]},
    {"storage_mode": "raw"},
    {"storage_mode": None},
    {"training_size": 0},
    {"training_size": "many"},
    {"training_size": 1e300},
    {"max_training_vectors": 1},
    {"max_training_vectors": -(10**30)},
    {"subvectors": 3},
    {"subvectors": 10**9},
    {"bits": 9},
    {"bits": True},
    {"unknown": 1},
    {"is_trained": None},
    {"is_trained": 1},
    {"is_trained": "true"},
]


@pytest.mark.parametrize(("kind", "mode", "space"), FEW_KINDS)
def test_hostile_options_are_refused(kind: str, mode: str, space: str, trained: Callable[..., Path]) -> None:
    path = trained(kind, mode, space)
    told = json.loads((path / "quantization.json").read_text())
    texts = [json.dumps({**told, **options}) for options in HOSTILE_OPTIONS]
    texts += [json.dumps({k: v for k, v in told.items() if k != name}) for name in ("type", "is_trained")]
    texts += [json.dumps({k: v for k, v in told.items() if k != "storage_mode"})]
    texts += ["", "{}", "[]", "null", "5", '{"type": "pq", "type": "pq"}', "[" * 10_000, '{"type": NaN}']
    # What contradicts the arrays that stand beside it.
    other = {"pq": "int8", "int8": "pq"}[kind]
    texts += [
        json.dumps({"type": other, **{k: told[k] for k in told if k not in ("type", "bits", "subvectors")}})
    ]
    if kind == "pq":
        texts += [
            json.dumps({**told, **options})
            for options in ({"bits": 8}, {"subvectors": 4}, {"subvectors": 16})
        ]
    if mode == ONLY:
        texts += [json.dumps({**told, "storage_mode": RAW}), json.dumps({**told, "is_trained": False})]
    for text in texts:
        (path / "quantization.json").write_text(text)
        repair_digests(path)
        for load in (
            VectorDatabase().load,
            lambda path: VectorDatabase().open(path, read_only=True),
            lambda path: VectorDatabase().open(path, verify=False),
        ):
            with pytest.raises(CorruptIndexError):
                load(path).close()
                pytest.fail(text[:80])
        assert not verify(path).is_ok


@pytest.mark.parametrize(("kind", "space"), [("pq", "l2"), ("pq", "cosine"), ("int8", "l2"), ("int8", "l1")])
@pytest.mark.parametrize("fill", [_trained, _cleared])
def test_index_told_to_be_untrained_answers_rightly_and_trains_again(
    kind: str, space: str, fill: Callable[[HNSWIndex], None], tmp_path: Path
) -> None:
    """With the vectors at hand nothing depends on what the flag says."""
    path = tmp_path / "x"
    index = VectorDatabase().create(dim=DIM, space=space, m=4, quantization_config=_config(kind, RAW))
    fill(index)
    index.save(path)
    told = json.loads((path / "quantization.json").read_text())
    (path / "quantization.json").write_text(json.dumps({**told, "is_trained": False}))
    repair_digests(path)
    loaded = VectorDatabase().load(path)
    assert not loaded.is_quantized()
    assert _seen(loaded)["scores"] == _seen(index)["scores"]
    assert verify(path, deep=True).problems == []
    _add(loaded, 500, 501)
    assert loaded.is_quantized() == (len(loaded) >= SIZE)
    _add(loaded, 501, 580)
    _add(index, 500, 501)
    _add(index, 501, 580)
    assert loaded.is_quantized()
    assert _seen(loaded)["scores"] == _seen(index)["scores"]


@pytest.mark.parametrize(("kind", "mode", "space"), FEW_KINDS)
def test_index_told_to_be_trained_is_refused(kind: str, mode: str, space: str, tmp_path: Path) -> None:
    path = tmp_path / "x"
    index = VectorDatabase().create(dim=DIM, space=space, m=4, quantization_config=_config(kind, mode))
    _untrained(index)
    index.save(path)
    told = json.loads((path / "quantization.json").read_text())
    (path / "quantization.json").write_text(json.dumps({**told, "is_trained": True}))
    repair_digests(path)
    with pytest.raises(CorruptIndexError, match=r"(pq_codes|codes)\.bin is missing"):
        VectorDatabase().load(path)


@pytest.mark.parametrize(("kind", "mode", "space"), FEW_KINDS)
def test_manifest_without_a_file_of_the_quantizer_is_refused(
    kind: str, mode: str, space: str, trained: Callable[..., Path]
) -> None:
    original = trained(kind, mode, space)
    for name in ("quantization.json", *CODE_FILES[kind], *(() if mode == ONLY else ("vectors.bin",))):
        path = original.with_name("without")
        shutil.copytree(original, path)
        manifest = json.loads((path / "manifest.json").read_text())
        del manifest["files"][name]
        manifest["files_included"].remove(name)
        write_manifest(path, manifest)
        if name == "quantization.json" and mode == RAW:
            # An index that is not quantized has files enough here; codes of the other kinds are none of its own.
            loaded = VectorDatabase().load(path)
            assert loaded.quantization is None
            assert len(loaded.search(rows(1, 1, DIM)[0], top_k=5)) == 5
        else:
            with pytest.raises(StorageError):
                VectorDatabase().load(path)
        shutil.rmtree(path)


def _forge(path: Path, change: Callable[[int, bytearray], tuple[int, bytearray]]) -> None:
    """Write the journal anew with other records in it, every checksum right."""
    manifest = read_manifest(path)
    with JournalReplay(path, manifest.generation, manifest.index_uuid) as replay:
        calls = [[change(kind, bytearray(payload)) for kind, payload in call] for call in replay]
    for file in path.glob("journal-*"):
        file.unlink()
    with JournalReplay(path, manifest.generation, manifest.index_uuid) as replay:
        journal = Journal(replay, durability="never")
    for call in calls:
        journal.append([(kind, bytes(payload)) for kind, payload in call])
    journal.close()


ADD, ADD_CODED = 1, 6
HEAD = 24
"""Bytes of an add before its rows: their number, their width, the last generated id, columns."""


def _put(at: int, data: bytes) -> Callable[[int, bytearray], tuple[int, bytearray]]:
    def change(kind: int, payload: bytearray) -> tuple[int, bytearray]:
        if kind in (ADD, ADD_CODED):
            payload[at : at + len(data)] = data
        return kind, payload

    return change


def _as(other: int) -> Callable[[int, bytearray], tuple[int, bytearray]]:
    return lambda kind, payload: (other if kind in (ADD, ADD_CODED) else kind, payload)


def _cut_short(kind: int, payload: bytearray) -> tuple[int, bytearray]:
    return kind, payload[:-3] if kind == ADD_CODED else payload


@pytest.mark.parametrize(("kind", "mode", "space"), KINDS)
def test_hostile_journals_are_refused(kind: str, mode: str, space: str, tmp_path: Path) -> None:
    original = tmp_path / "original"
    with _open(original, kind, mode, space) as index:
        _add(index, 0, 70)
        _add(index, 70, 80, 1)
        index.add({"id": "alone", "vector": rows(1, 1, DIM)[0]})
    width = VectorDatabase().load(original)._collection.coded_width
    changes = [_as(ADD if mode == ONLY else ADD_CODED), _put(4, b"\0\0\0\0"), _put(4, b"\xff\xff\xff\xff")]
    if mode == ONLY:
        changes += [_put(4, (width + by).to_bytes(4, "little")) for by in (-1, 1, 4)] + [_cut_short]
        head = {"pq": 4 if space != "l2" else 8, "int8": 0}[kind]
        if kind == "pq":
            changes += [_put(HEAD, np.float32(value).tobytes()) for value in (np.nan, np.inf, -1, 5)]
            changes += [_put(HEAD + head + 2, b"\x20"), _put(HEAD + head, b"\xff")]
        if space == "cosine":  # a norm ends each row
            changes += [_put(HEAD + width - 4, np.float32(value).tobytes()) for value in (np.nan, -1, np.inf)]
        elif kind == "int8" and space == "l2":
            changes += [_put(HEAD + width - 4, np.float32(value).tobytes()) for value in (np.nan, -1)]
    for number, change in enumerate(changes):
        path = tmp_path / "forged"
        shutil.copytree(original, path)
        _forge(path, change)
        for load in (
            VectorDatabase().load,
            VectorDatabase().open,
            lambda path: VectorDatabase().open(path, read_only=True, mmap=False),
        ):
            with pytest.raises(JournalDamagedError):
                load(path).close()
                pytest.fail(str(number))
        assert not verify(path).is_ok
        shutil.rmtree(path)


def test_codes_in_the_journal_of_an_index_without_quantization_are_refused(tmp_path: Path) -> None:
    with VectorDatabase().open(tmp_path / "x", dim=DIM, space="l2") as index:
        _add(index, 0, 20)
    _forge(tmp_path / "x", _as(ADD_CODED))
    with pytest.raises(JournalDamagedError, match="codes for an index that keeps the other"):
        VectorDatabase().open(tmp_path / "x")


@pytest.mark.parametrize("kind", ["pq", "int8"])
def test_any_byte_of_the_codes_may_be_anything(kind: str, trained: Callable[..., Path]) -> None:
    """Random bytes in the files of the quantizer, digests repaired: refused, or an index that can be used."""
    original = trained(kind, ONLY, "l2", journal=False)
    chance = random.Random(4)
    outcomes = {True: 0, False: 0}
    for number in range(60):
        path = original.with_name("random")
        shutil.copytree(original, path)
        file = path / chance.choice(CODE_FILES[kind])
        data = bytearray(file.read_bytes())
        for _ in range(chance.choice((1, 4, 200))):
            data[chance.randrange(len(data))] = chance.randrange(256)
        file.write_bytes(data)
        repair_digests(path)
        try:
            index = VectorDatabase().load(path)
        except StorageError:
            outcomes[False] += 1
        else:
            outcomes[True] += 1
            for query in rows(5, 3, DIM):
                hits = index.search(query, top_k=200)
                assert len({hit["id"] for hit in hits}) == len(index), number
            _add(index, 500, 520)
            index.compact()
        shutil.rmtree(path)
    assert min(outcomes.values()) > 5

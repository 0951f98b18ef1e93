"""Saving and loading through the handle: what comes back is what was there."""

from __future__ import annotations

import json
import logging
import pickle
import subprocess
import sys
import threading
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest

from zeusdb_vs import ArgumentTypeError, HNSWIndex, ReadOnlyError, VectorDatabase

DIM = 12
ALL = ("metadata", "text", "payload", "vector")


def _filled(space: str = "cosine", count: int = 300, seed: int = 0) -> HNSWIndex:
    """An index with every kind of content, removals, replacements and updates."""
    rng = np.random.default_rng(seed)
    index = VectorDatabase().create(
        "hnsw", dim=DIM, space=space, m=8, ef_construction=60, expected_size=500, indexed_fields=["n"]
    )
    ids = [f"r{i}" for i in range(count)]
    ids[:6] = ['q"uote', "ünï\U0001f600", "a" * 1024, "line\nbreak", "\\", " "]
    index.add(
        {
            "ids": ids,
            "vectors": rng.standard_normal((count, DIM)),
            "metadatas": [
                {
                    "n": i,
                    "kind": ["a", "b", "c"][i % 3],
                    "made": datetime(2024, 1, 1, tzinfo=timezone(timedelta(hours=2))) + timedelta(hours=i),
                    "day": date(2024, 1, 1) + timedelta(days=i),
                    "nested": {"x": [i, None, True, 1.5], "$date": "not one"},
                }
                if i % 4
                else None
                for i in range(count)
            ],
            "texts": [f'text "{i}"\n\u2028' if i % 3 else None for i in range(count)],
            "payloads": [{"p": i} if i % 5 else None for i in range(count)],
        }
    )
    index.add(rng.standard_normal((10, DIM)))
    index.remove_points(ids[20:40])
    index.add({"id": "r50", "vector": [1.0] * DIM, "metadata": {"n": -1}})
    index.update_metadata("r60", {"n": -2})
    index.add_metadata({"dataset": "demo", "made": datetime(2024, 5, 1), "numbers": [1, 2.5, None]})
    return index


def _everything(index: HNSWIndex) -> tuple[Any, ...]:
    queries = np.random.default_rng(9).standard_normal((20, DIM)).astype(np.float32)
    names = [name for name, _ in index.list(number=10**6)]
    records = index.get_records(names, include=ALL)
    for record in records:
        record["vector"] = record["vector"].tobytes()
    return (
        index.info(),
        index.indexed_fields,
        index.get_all_metadata(),
        names,
        records,
        index.search(queries, top_k=10),
        index.search(queries, top_k=10, filter={"kind": "a"}),
        index.search(queries[0], filter={"made": {"$gte": datetime(2024, 1, 5)}}, top_k=300),
        index.count({"kind": "b"}),
        index.distinct("n"),
        index.fields(),
    )


@pytest.mark.parametrize("space", oracle.SPACES)
@pytest.mark.parametrize("count", [100, 5000])
def test_loaded_index_is_the_same_in_every_respect(space: str, count: int, tmp_path: Path) -> None:
    index = _filled(space, count)
    index.save(tmp_path / "x.zdb")
    # Saving may have compacted; what users see of the index did not change.
    before = _everything(index)
    assert _everything(VectorDatabase().load(tmp_path / "x.zdb")) == before
    assert _everything(VectorDatabase().load(str(tmp_path / "x.zdb"))) == before


def test_saving_changes_nothing_that_users_see(tmp_path: Path) -> None:
    index = _filled()
    before = _everything(index)
    index.save(tmp_path / "x.zdb")
    assert _everything(index) == before


def test_loaded_index_lives_on(tmp_path: Path) -> None:
    _filled().save(tmp_path / "x.zdb")
    index = VectorDatabase().load(tmp_path / "x.zdb")
    count = len(index)
    # Generated ids go on where they were.
    assert index.add(-np.ones((2, DIM))).ids == ["vec_11", "vec_12"]
    index.remove_points(["vec_1", "r100"])
    index.update_metadata("r101", {"fresh": True})
    index.update_payload("r101", {"more": 1})
    index.add_metadata({"dataset": "other"})
    assert len(index) == count
    assert index.search(id="vec_11", top_k=1, max_distance=1e-6)[0]["id"] == "vec_12"
    assert index.count({"fresh": True}) == 1
    index.save(tmp_path / "x.zdb")
    index.save(tmp_path / "y.zdb")
    expected = _everything(index)
    for name in ("x.zdb", "y.zdb"):
        assert _everything(VectorDatabase().load(tmp_path / name)) == expected


def test_empty_index_comes_back_empty(tmp_path: Path) -> None:
    VectorDatabase().create(dim=3, space="dot", m=5).save(tmp_path / "x.zdb")
    index = VectorDatabase().load(tmp_path / "x.zdb")
    assert index.info() == VectorDatabase().create(dim=3, space="dot", m=5).info()
    assert index.search([1.0, 2.0, 3.0]) == []
    assert index.add([[1.0, 2.0, 3.0]]).ids == ["vec_1"]


def test_directory_holds_the_specified_files_and_readable_json(tmp_path: Path) -> None:
    index = _filled(count=30)
    index.save(tmp_path / "x.zdb")
    names = {path.name for path in (tmp_path / "x.zdb").iterdir()}
    assert names >= {
        "manifest.json",
        "config.json",
        "mappings.bin",
        "metadata.json",
        "vectors.bin",
        "hnsw_index.hnsw.graph",
        "texts.json",
        "payloads.json",
    }
    metadata = json.loads((tmp_path / "x.zdb" / "metadata.json").read_text())
    assert len(metadata) == len(index)
    assert metadata["r7"]["kind"] == "b"
    config = json.loads((tmp_path / "x.zdb" / "config.json").read_text())
    assert (config["dim"], config["space"], config["metadata"]["dataset"]) == (DIM, "cosine", "demo")


def test_texts_and_payloads_take_no_files_when_unused(tmp_path: Path) -> None:
    index = VectorDatabase().create(dim=2)
    index.add([[1.0, 2.0]])
    index.save(tmp_path / "x.zdb")
    names = {path.name for path in (tmp_path / "x.zdb").iterdir()}
    assert not names & {"texts.json", "payloads.json"}


def test_saving_over_an_index_replaces_it(tmp_path: Path) -> None:
    first, second = _filled(seed=1), _filled("l2", count=50, seed=2)
    first.save(tmp_path / "x.zdb")
    second.save(tmp_path / "x.zdb")
    assert _everything(VectorDatabase().load(tmp_path / "x.zdb")) == _everything(second)


def test_saved_index_is_read_by_another_process(tmp_path: Path) -> None:
    index = _filled()
    index.save(tmp_path / "x.zdb")
    program = (
        "import sys, json, numpy as np\n"
        "from zeusdb_vs import VectorDatabase\n"
        "index = VectorDatabase().load(sys.argv[1])\n"
        "print(json.dumps(index.search(np.ones(12), top_k=5, include=['text'])))\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x.zdb")], capture_output=True, text=True, check=True
    )
    here, there = index.search(np.ones(DIM), top_k=5, include=["text"]), json.loads(answer.stdout)
    assert [(hit["id"], hit["text"]) for hit in there] == [(hit["id"], hit["text"]) for hit in here]
    # Compiled code here, NumPy there, as nothing is compiled for so small an index: other orders of sums.
    scores = [hit["score"] for hit in here]
    assert [hit["score"] for hit in there] == pytest.approx(scores, rel=1e-6, abs=1e-6)


def test_save_is_one_moment_while_a_writer_goes_on(tmp_path: Path) -> None:
    """Each round adds a pair and removes the pair before it, so that every moment holds whole pairs only."""
    index = VectorDatabase().create(dim=2, space="l2")
    index.add([{"id": f"{side}0", "vector": [0.0, 0.0], "metadata": {"round": 0}} for side in "ab"])
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            index.add(
                [{"id": f"{s}{number}", "vector": [number, 0.0], "metadata": {"round": number}} for s in "ab"]
            )
            index.remove_points([f"{side}{number - 1}" for side in "ab"])

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(8):
            index.save(tmp_path / "x.zdb")
            loaded = VectorDatabase().load(tmp_path / "x.zdb")
            rounds = [metadata["round"] for _, metadata in loaded.list(number=100)]
            assert rounds
            assert all(rounds.count(number) == 2 for number in rounds)
            for name, metadata in loaded.list(number=100):
                (record,) = loaded.get_records(name)
                assert record["vector"].tolist() == [metadata["round"], 0.0]
    finally:
        stop.set()
        thread.join()


def test_read_only_directory_can_be_loaded(tmp_path: Path) -> None:
    path = tmp_path / "x.zdb"
    _filled(count=20).save(path)
    before = sorted(p.name for p in path.iterdir())
    path.chmod(0o555)
    try:
        assert VectorDatabase().load(path).search(np.ones(DIM), top_k=1)
    finally:
        path.chmod(0o755)
    assert sorted(p.name for p in path.iterdir()) == before


def test_saved_index_is_pickled_by_its_directory(tmp_path: Path) -> None:
    index = _filled(count=40)
    index.save(tmp_path / "x.zdb")
    copy = pickle.loads(pickle.dumps(index))
    assert _everything(copy) == _everything(index)
    for write in (
        lambda: copy.add([1.0] * DIM),
        lambda: copy.remove_point("r1"),
        lambda: copy.add_metadata({"a": 1}),
        lambda: copy.clear(),
    ):
        with pytest.raises(ReadOnlyError):
            write()
    assert pickle.loads(pickle.dumps(copy)).info() == index.info()
    loaded = VectorDatabase().load(tmp_path / "x.zdb")
    assert pickle.loads(pickle.dumps(loaded)).info() == index.info()
    loaded.remove_point("r10")
    with pytest.raises(ArgumentTypeError, match="changed since"):
        pickle.dumps(loaded)


def test_copies_on_disk_can_be_moved(tmp_path: Path) -> None:
    _filled(count=30).save(tmp_path / "x.zdb")
    (tmp_path / "x.zdb").rename(tmp_path / "moved")
    assert len(VectorDatabase().load(tmp_path / "moved")) > 0


def test_dates_in_metadata_are_dates_again(tmp_path: Path) -> None:
    _filled().save(tmp_path / "x.zdb")
    metadata = VectorDatabase().load(tmp_path / "x.zdb").get_records("r7")[0]["metadata"]
    assert metadata["made"].utcoffset() == timedelta(hours=2)
    assert metadata["day"] == date(2024, 1, 8)
    assert type(metadata["day"]) is date
    assert metadata["nested"] == {"x": [7, None, True, 1.5], "$date": "not one"}


def test_library_is_silent_unless_asked(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    _filled(count=20).save(tmp_path / "x.zdb")
    assert capfd.readouterr() == ("", "")
    assert any(
        isinstance(handler, logging.NullHandler) for handler in logging.getLogger("zeusdb_vs").handlers
    )

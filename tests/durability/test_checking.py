"""verify, repair and their commands: what they find, what they mend, what they leave alone."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from durability.common import change_in_every_way, columns, everything, reopened, rows
from storage.snapshots import repair_digests

from zeusdb_vs import (
    CorruptIndexError,
    IndexLockedError,
    IndexNotFoundError,
    JournalDamagedError,
    VectorDatabase,
    repair,
    verify,
)
from zeusdb_vs import linking as linking_module
from zeusdb_vs.cli import main
from zeusdb_vs.storage import BinaryFile, LinesFile, Snapshot, read_snapshot, write_snapshot

DERIVED = ("hnsw_index.hnsw.graph", "codes.bin", "fields.bin")


@pytest.fixture(autouse=True)
def graph_from_the_first_records_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking_module, "SMALLEST_GRAPH", 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """An index with graph, codes and a journal."""
    path = tmp_path / "x.zdb"
    with VectorDatabase().open(path, dim=48, m=4) as index:
        index.add(columns(9, [f"s{i}" for i in range(200)], 48))
        index.save()
        change_in_every_way(index)
    return path


def test_whole_directory_is_in_order_and_untouched(path: Path) -> None:
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    for deep in (False, True):
        report = verify(path, deep=deep)
        assert report.is_ok
        assert (report.problems, report.notes, report.is_deep) == ([], [], deep)
        assert report.records == len(reopened(path)["records"])
        assert (report.generation, report.journal_calls) == (2, 9)
    assert {file.name: file.read_bytes() for file in path.iterdir()} == before
    assert repair(path).actions == []


@pytest.mark.parametrize("name", ["vectors.bin", "metadata.json", "texts.json", *DERIVED])
def test_damage_is_named(name: str, path: Path) -> None:
    data = bytearray((path / name).read_bytes())
    data[len(data) // 2] ^= 4
    (path / name).write_bytes(data)
    report = verify(path)
    assert not report.is_ok
    assert name in report.problems[0]


@pytest.mark.parametrize("name", DERIVED)
@pytest.mark.parametrize("way", ["flipped", "missing", "cut"])
def test_derived_files_are_made_again(name: str, way: str, path: Path) -> None:
    expected = reopened(path)
    file = path / name
    if way == "missing":
        file.unlink()
    elif way == "cut":
        file.write_bytes(file.read_bytes()[:100])
    else:
        file.write_bytes(file.read_bytes()[:-200] + b"\1" * 200)
    with pytest.raises(CorruptIndexError):
        VectorDatabase().open(path)
    report = repair(path)
    assert name in report.actions[-1]
    assert report.records == len(expected["records"])
    assert reopened(path) == expected
    assert verify(path, deep=True).is_ok
    assert repair(path).actions == []


def test_what_cannot_be_made_again_is_refused_and_left_alone(path: Path) -> None:
    file = path / "vectors.bin"
    file.write_bytes(file.read_bytes()[:-64] + b"\1" * 64)
    before = {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"}
    with pytest.raises(CorruptIndexError, match=r"vectors\.bin"):
        repair(path)
    assert {file.name: file.read_bytes() for file in path.iterdir() if file.name != ".lock"} == before


def test_damaged_journal_is_cut(path: Path) -> None:
    journal = path / "journal-2.log"
    data = bytearray(journal.read_bytes())
    data[-1500] ^= 1
    journal.write_bytes(data)
    assert any("journal" in problem for problem in verify(path).problems)
    with pytest.raises(JournalDamagedError):
        VectorDatabase().open(path)
    report = repair(path)
    assert "journal" in report.actions[0]
    assert verify(path, deep=True).is_ok
    with VectorDatabase().open(path) as index:
        assert 200 < len(index) == report.records < 265
        index.add(rows(0, 1, 48))


@pytest.mark.parametrize("way", ["missing", "empty", "cut"])
def test_journal_that_has_to_be_there_is_missed(way: str, path: Path) -> None:
    journal = path / "journal-2.log"
    if way == "missing":
        journal.unlink()
    else:
        journal.write_bytes(b"" if way == "empty" else journal.read_bytes()[:40])
    assert "journal-2.log" in verify(path).problems[0]
    for read in (VectorDatabase().load, VectorDatabase().open):
        with pytest.raises(JournalDamagedError, match=r"journal-2\.log"):
            read(path)
    assert repair(path).records == 200
    assert verify(path, deep=True).is_ok
    with VectorDatabase().open(path) as index:
        assert len(index) == 200


def test_repair_waits_for_the_writer(path: Path) -> None:
    with VectorDatabase().open(path), pytest.raises(IndexLockedError):
        repair(path, lock_timeout_s=0)


def test_nothing_there_is_no_index(tmp_path: Path) -> None:
    for call in (verify, repair):
        with pytest.raises(IndexNotFoundError):
            call(tmp_path / "nothing")


# ---------------------------------------------------------------------------------------------- deep


def _write_without_journal(path: Path, snapshot: Snapshot) -> None:
    for journal in path.glob("journal-*"):
        journal.unlink()
    del snapshot.config["journaled"]
    write_snapshot(path, snapshot)


def _rewrite(path: Path, change: Callable[[dict[str, dict[str, np.ndarray]]], None]) -> None:
    """Change arrays of a saved index and save it again, every digest right."""
    snapshot = read_snapshot(path)
    arrays = {
        name: dict(file.arrays) for name, file in snapshot.files.items() if isinstance(file, BinaryFile)
    }
    change(arrays)
    for name, values in arrays.items():
        snapshot.files[name] = BinaryFile(values)
    _write_without_journal(path, snapshot)


def _neighbor_twice(arrays: dict[str, dict[str, np.ndarray]]) -> None:
    links = arrays["hnsw_index.hnsw.graph"]["links"]
    links[7, 1] = links[7, 0]


def _own_neighbor(arrays: dict[str, dict[str, np.ndarray]]) -> None:
    arrays["hnsw_index.hnsw.graph"]["links"][9, 0] = 9


def _island(arrays: dict[str, dict[str, np.ndarray]]) -> None:
    links = arrays["hnsw_index.hnsw.graph"]["links"]
    links[links > 100] = -1


def _other_codes(arrays: dict[str, dict[str, np.ndarray]]) -> None:
    arrays["codes.bin"]["codes"][11] ^= 0x77


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (_neighbor_twice, "graph"),
        (_own_neighbor, "graph"),
        (_island, "graph"),
        (_other_codes, "codes.bin"),
    ],
)
def test_deep_check_finds_what_checksums_cannot(change: Callable[..., None], name: str, path: Path) -> None:
    _rewrite(path, change)
    assert verify(path).is_ok
    report = verify(path, deep=True)
    assert [name in problem for problem in report.problems] == [True], report.problems


def test_deep_check_compares_field_indexes_with_documents(path: Path) -> None:
    snapshot = read_snapshot(path)
    texts = list(snapshot.files["metadata.json"].values)
    texts[5] = json.dumps({"n": 77, "kind": "z", "tags": []})
    snapshot.files["metadata.json"] = LinesFile(texts)
    _write_without_journal(path, snapshot)
    assert verify(path).is_ok
    assert any("fields.bin" in problem for problem in verify(path, deep=True).problems)


def test_unreadable_documents_are_found(tmp_path: Path) -> None:
    path = tmp_path / "x.zdb"
    index = VectorDatabase().create(dim=2)
    index.add({"id": "a", "vector": [1.0, 2.0], "metadata": {"key": "value"}})
    index.save(path)
    data = (path / "metadata.json").read_bytes()
    (path / "metadata.json").write_bytes(data.replace(b'"value"', b'"va"ue"'))
    repair_digests(path)
    assert not verify(path).is_ok
    # Opened with a map the damage comes to light when the record is read, as an error of ours.
    with VectorDatabase().open(path, read_only=True) as opened, pytest.raises(CorruptIndexError):
        opened.get_records("a")
    with pytest.raises(CorruptIndexError):
        VectorDatabase().load(path)


# ---------------------------------------------------------------------------------------------- commands


def test_commands_say_what_they_found_by_their_exit_codes(
    path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = reopened(path)
    assert main(["verify", str(path)]) == 0
    assert "in order" in capsys.readouterr().out
    assert main(["compact", str(path)]) == 0
    assert reopened(path) == expected
    assert main(["verify", "--deep", "--json", str(path)]) == 0
    capsys.readouterr()
    (path / "codes.bin").write_bytes(b"")
    assert main(["verify", "--json", str(path)]) == 4
    report = json.loads(capsys.readouterr().out)
    assert not report["is_ok"]
    assert "codes.bin" in report["problems"][0]
    assert main(["info", str(path)]) == 1
    assert main(["repair", str(path)]) == 0
    assert "codes.bin" in capsys.readouterr().out
    assert main(["info", str(path)]) == 0
    assert main(["verify", "--deep", str(path)]) == 0
    assert reopened(path) == expected
    shutil.rmtree(path)
    for command in ("info", "verify", "repair", "compact"):
        assert main([command, str(path)]) == 1
    assert not path.exists()


def test_info_shows_an_index_that_is_being_written(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with VectorDatabase().open(path) as index:
        assert main(["info", str(path)]) == 0
        assert f"vectors={len(index)}" in capsys.readouterr().out
        assert everything(index) == reopened(path)

"""Damaged and hostile directories: each loads as what it reports, or raises an error of ours.

``ZEUSDB_VS_MUTANTS`` sets how many (2,000 by default, some 15 s). Half have their digests repaired, so that not
only the checksums are tested. A failure names its number and seed, and ``ZEUSDB_VS_MUTANT_SEED`` repeats it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from durability.common import change_in_every_way, columns, everything, rows
from storage.snapshots import repair_digests, write_manifest

from zeusdb_vs import (
    HNSWIndex,
    JournalDamagedError,
    StorageError,
    VectorDatabase,
    ZeusDBError,
    quantization_config,
)
from zeusdb_vs import linking as linking_module
from zeusdb_vs.storage import Journal, JournalReplay, read_manifest

MUTANTS = int(os.environ.get("ZEUSDB_VS_MUTANTS", "2000"))
SEED = int(os.environ.get("ZEUSDB_VS_MUTANT_SEED", "1"))
MOST_S = 2.0
HOSTILE_NUMBERS = (0, 1, -1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1, 10**40, 1e308, 0.5)


PQ = {"type": "pq", "subvectors": 8, "bits": 6}
INT8 = {"type": "int8"}
ONLY, RAW = "quantized_only", "quantized_with_raw"
SMALL_GRAPH, SMALL_TRAINING = 32, 16

Spec = tuple[str, int, dict[str, Any] | None, bool]
"""Space, width, quantization, and whether there is a journal."""
SPECS: list[Spec] = [
    ("cosine", 48, None, False),
    ("l2", 48, None, False),
    ("l1", 48, None, True),
    ("dot", 48, None, True),
    ("l2", 48, {**PQ, "storage_mode": ONLY, "training_size": 40}, False),
    ("cosine", 48, {**PQ, "storage_mode": RAW, "training_size": 40}, False),
    ("l2", 48, {**PQ, "storage_mode": ONLY, "training_size": 400}, False),  # not trained yet
    ("cosine", 48, {**PQ, "storage_mode": ONLY, "training_size": 40}, True),
    ("l2", 96, {**INT8, "storage_mode": ONLY, "training_size": 40}, True),  # in two planes
    ("l1", 48, {**INT8, "storage_mode": ONLY, "training_size": 40}, True),
    ("dot", 48, {**INT8, "storage_mode": RAW, "training_size": 40}, True),
]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> dict[Path, Spec]:
    """Directories with a bit of everything."""
    folder = tmp_path_factory.mktemp("originals")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linking_module, "SMALLEST_GRAPH", SMALL_GRAPH)
        patch.setattr(quantization_config, "LEAST_TRAINING_SIZE", SMALL_TRAINING)
        for number, (space, dim, quantization, is_journaled) in enumerate(SPECS):
            path = folder / str(number)
            options = {"dim": dim, "space": space, "m": 4, "quantization_config": quantization}
            with VectorDatabase().open(path, **options) as index:
                change_in_every_way(index)
                index.save()
                changes = (
                    lambda: index.add(columns(5, [f"j{i}" for i in range(12)], index.dim)),
                    lambda: index.remove_points(["j1", "r7"]),
                    lambda: index.update_metadata("j2", {"n": 2}),
                    lambda: index.add_metadata({"journal": True}),
                )
                for call, change in enumerate(changes if is_journaled else ()):
                    shutil.copytree(path, folder / f"{number}-{call}")
                    change()
    return {folder / str(number): spec for number, spec in enumerate(SPECS)}


@pytest.fixture(autouse=True)
def small_indexes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linking_module, "SMALLEST_GRAPH", SMALL_GRAPH)
    monkeypatch.setattr(quantization_config, "LEAST_TRAINING_SIZE", SMALL_TRAINING)


def test_mutants_load_or_raise(originals: dict[Path, Spec], tmp_path: Path) -> None:
    outcomes = {"loaded": 0, "refused": 0}
    expected = {path: _seen(VectorDatabase().load(path)) for path in originals}
    # With nothing behind it, a cut journal is one that ended there: what it says must be the first calls.
    earlier = {
        path: [_seen(VectorDatabase().load(one)) for one in path.parent.glob(f"{path.name}-*")]
        for path in originals
    }
    for number in range(MUTANTS):
        chance = random.Random(f"{SEED} {number}")
        source = chance.choice(list(originals))
        mutant = tmp_path / str(number)
        shutil.copytree(source, mutant)
        is_forged = number % 2 == 0
        what = _mutate(mutant, chance, is_forged)
        label = f"mutant {number} of seed {SEED}: {source.name}, {what}"
        started = time.perf_counter()
        try:
            for load in _ways(mutant):
                try:
                    index = load()
                except StorageError:
                    outcomes["refused"] += 1
                    continue
                outcomes["loaded"] += 1
                # What is not forged is found: then everything is as it was saved.
                allowed = [expected[source]] + (earlier[source] if what.startswith("journal") else [])
                _check(index, [] if is_forged else allowed)
        except BaseException as error:
            raise AssertionError(f"{label}: {error!r}") from error
        assert time.perf_counter() - started < MOST_S + 1, label
        shutil.rmtree(mutant)
    assert min(outcomes.values()) > MUTANTS / 20, outcomes


def _ways(path: Path) -> list[Callable[[], HNSWIndex]]:
    database = VectorDatabase()
    return [
        lambda: database.load(path),
        lambda: database.open(path, read_only=True),
        lambda: database.open(path, lock_timeout_s=0, create=False),
    ]


def _seen(index: HNSWIndex) -> Any:
    return everything(index)


def _check(index: HNSWIndex, allowed: list[Any]) -> None:
    """Use the index in every way; compare where nothing was forged."""
    try:
        if allowed:
            assert _seen(index) in allowed
            return
        seen = _seen(index)
        assert len(seen["records"]) == len(index)
        query = rows(1, 1, index.dim)[0]
        hits = index.search(query, top_k=5)
        assert len(hits) == min(5, len(index))
        assert len({hit["id"] for hit in hits}) == len(hits)
        for hit in hits:
            assert hit["id"] in index
        if not index.read_only:
            index.add(rows(2, 3, index.dim))
            index.compact()
            index.search(query, filter={"n": {"$gt": 1}})
    except ZeusDBError:
        # Metadata and text are read when they are asked for: there damage may come to light later. And forged
        # vectors may be so large that no distance can be told.
        if allowed:
            raise
    finally:
        index.close()


# ---------------------------------------------------------------------------------------------- mutations


def _mutate(path: Path, chance: random.Random, is_forged: bool) -> str:
    files = sorted(file for file in path.iterdir() if file.name != ".lock")
    weights = [1 if file.name in ("manifest.json", "config.json") else 2 for file in files]
    file = chance.choices(files, weights)[0]
    if file.name in ("manifest.json", "config.json") and chance.random() < 0.8:
        what = _change_json(file, chance)
    else:
        what = chance.choice((_flip, _flip, _flip, _fill, _cut, _extend, _swap, _replace, _hostile))(
            file, chance
        )
    if is_forged and file.name != "manifest.json":
        try:
            repair_digests(path)
        except (ValueError, KeyError, AttributeError):
            what += ", digests not repaired"
    return f"{file.name}: {what}"


def _flip(file: Path, chance: random.Random) -> str:
    data = bytearray(file.read_bytes())
    places = [chance.randrange(len(data)) for _ in range(chance.choice((1, 1, 1, 4, 64)))] if data else []
    for place in places:
        data[place] ^= 1 << chance.randrange(8)
    file.write_bytes(data)
    return f"bits flipped at {places[:4]}"


def _fill(file: Path, chance: random.Random) -> str:
    data = bytearray(file.read_bytes())
    start = chance.randrange(len(data) + 1)
    stop = min(len(data), start + chance.choice((4, 8, 64, 512)))
    data[start:stop] = bytes([chance.choice((0, 255, 127))]) * (stop - start)
    file.write_bytes(data)
    return f"filled {start}..{stop}"


def _cut(file: Path, chance: random.Random) -> str:
    size = chance.randrange(file.stat().st_size + 1)
    os.truncate(file, size)
    return f"cut to {size}"


def _extend(file: Path, chance: random.Random) -> str:
    with file.open("ab") as out:
        out.write(chance.randbytes(chance.choice((1, 64, 4096))))
    return "extended"


def _swap(file: Path, chance: random.Random) -> str:
    data = bytearray(file.read_bytes())
    half = 8 * chance.randint(1, 8)
    if len(data) < 4 * half:
        return "nothing"
    a, b = (chance.randrange(0, len(data) - half, 8) for _ in range(2))
    data[a : a + half], data[b : b + half] = data[b : b + half], data[a : a + half]
    file.write_bytes(data[: file.stat().st_size])
    return f"swapped {a} and {b}"


def _replace(file: Path, chance: random.Random) -> str:
    kind = chance.choice(("missing", "directory", "link", "fifo", "empty", "other"))
    if kind == "other":
        shutil.copyfile(chance.choice(sorted(file.parent.glob("*.*"))), file.with_name("copy"))
        file.with_name("copy").replace(file)
        return "another file's content"
    data = file.read_bytes()
    file.unlink()
    if kind == "directory":
        file.mkdir()
    elif kind == "link":
        file.with_name("target").write_bytes(data)
        file.symlink_to("target")
    elif kind == "fifo" and hasattr(os, "mkfifo"):
        os.mkfifo(file)
    elif kind == "empty":
        file.write_bytes(b"")
    return kind


def _hostile(file: Path, chance: random.Random) -> str:
    """Write a number where numbers stand: sizes, offsets, links, values."""
    data = bytearray(file.read_bytes())
    width = chance.choice((4, 8))
    if len(data) < 64:
        return "nothing"
    place = chance.randrange(0, len(data) - width, 4)
    number = chance.choice((0, 1, 2**31 - 1, 2**31, 2**32 - 1, 0x7FC00000, 0x7F800000, 60, 61))
    data[place : place + width] = number.to_bytes(8, "little")[:width]
    file.write_bytes(data)
    return f"{number} at {place}"


def _change_json(file: Path, chance: random.Random) -> str:
    content = json.loads(file.read_text())
    spots: list[tuple[Any, Any]] = []

    def walk(value: Any) -> None:
        pairs = (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        )
        for key, inner in pairs:
            spots.append((value, key))
            walk(inner)

    walk(content)
    holder, key = chance.choice(spots)
    values = (None, True, "", "cosine", "l2", [], {}, [1], {"a": 1}, *HOSTILE_NUMBERS)
    if isinstance(holder, dict) and chance.random() < 0.3:
        del holder[key]
        what = f"without {key}"
    else:
        holder[key] = chance.choice(values)
        what = f"{key} is {holder[key]!r}"
    if file.name == "manifest.json" and isinstance(content, dict):
        write_manifest(file.parent, content)
    else:
        file.write_text(json.dumps(content))
    return what


# ---------------------------------------------------------------------------------------------- chosen ones


@pytest.mark.parametrize("value", [None, 1, "", "nothing", [], {"a": 1}])
@pytest.mark.parametrize(
    "key",
    [
        "space",
        "dim",
        "m",
        "ef_construction",
        "seed",
        "indexed_fields",
        "generated_ids",
        "metadata",
        "index_type",
    ],
)
def test_forged_config_is_refused(key: str, value: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.zdb"
    index = VectorDatabase().create(dim=1)
    index.add([[1.0]])
    index.save(path)
    config = json.loads((path / "config.json").read_text())
    if (key, value) in (
        ("indexed_fields", []),
        ("dim", 1),
        ("metadata", {"a": 1}),
        ("generated_ids", 1),
        ("seed", 1),
    ):
        return
    if (key, value) == ("ef_construction", 1):
        return
    config[key] = value
    (path / "config.json").write_text(json.dumps(config))
    repair_digests(path)
    with pytest.raises(StorageError, match=key):
        VectorDatabase().load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("mapped", [True, False])
def test_forged_vectors_are_refused(value: float, mapped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.zdb"
    index = VectorDatabase().create(dim=8)
    index.add(rows(0, 20))
    index.save(path)
    data = bytearray((path / "vectors.bin").read_bytes())
    place = data.index(rows(0, 20)[3].tobytes())
    data[place : place + 4] = np.float32(value).tobytes()
    (path / "vectors.bin").write_bytes(data)
    repair_digests(path)
    with pytest.raises(StorageError, match="NaN"):
        VectorDatabase().open(path, read_only=True, mmap=mapped)


def test_forged_journals_load_or_raise(originals: dict[Path, Spec], tmp_path: Path) -> None:
    """Records of a journal changed and the journal written anew, so that every checksum is right."""
    refused = 0
    for number in range(max(100, MUTANTS // 5)):
        chance = random.Random(f"journal {SEED} {number}")
        source = chance.choice([path for path, (*_, is_journaled) in originals.items() if is_journaled])
        mutant = tmp_path / str(number)
        shutil.copytree(source, mutant)
        what = _forge_journal(mutant, chance)
        try:
            for load in _ways(mutant)[:2]:
                try:
                    index = load()
                except JournalDamagedError:
                    refused += 1
                    continue
                _check(index, [])
        except BaseException as error:
            raise AssertionError(f"journal mutant {number} of seed {SEED}: {what}: {error!r}") from error
        shutil.rmtree(mutant)
    assert refused > 20


def _forge_journal(path: Path, chance: random.Random) -> str:
    manifest = read_manifest(path)
    with JournalReplay(path, manifest.generation, manifest.index_uuid) as replay:
        calls = [list(call) for call in replay]
    call = chance.choice(calls)
    at = chance.randrange(len(call))
    kind, payload = call[at]
    data = bytearray(payload)
    way = chance.choice(("flip", "flip", "number", "number", "cut", "extend", "kind", "twice", "gone"))
    place = chance.randrange(min(len(data), chance.choice((28, len(data))))) if data else 0
    if way == "flip" and data:
        data[place] ^= 1 << chance.randrange(8)
    elif way == "number":
        data[place : place + 4] = chance.choice((0, 1, 255, 2**31, 2**32 - 1, 0x7FC00000)).to_bytes(
            4, "little"
        )
    elif way == "cut":
        del data[place:]
    elif way == "extend":
        data += chance.randbytes(8)
    call[at] = (chance.randint(1, 255) if way == "kind" else kind, bytes(data))
    if way == "twice":
        calls.insert(chance.randrange(len(calls)), list(call))
    elif way == "gone":
        calls.remove(call)
    for file in path.glob("journal-*"):
        file.unlink()
    with JournalReplay(path, manifest.generation, manifest.index_uuid) as replay:
        journal = Journal(replay, durability="never")
    for each in calls:
        journal.append(each)
    journal.close()
    return f"{way} at {place} of kind {kind}"

"""Directories that released versions wrote: read by every later one, for ever, and never rewritten.

``python tests/durability/test_golden.py`` writes those of the present format into ``tests/golden/<version>``,
where there are none.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeusdb_vs import HNSWIndex, UnsupportedVersionError, VectorDatabase, verify

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
DIRECTORIES = sorted(path.parent for path in GOLDEN.glob("*/*/expected.json"))
DIM = 6


def _seen(index: HNSWIndex) -> dict[str, Any]:
    """What is to stay the same for ever, as JSON: records in order, index metadata, exact answers."""
    names = [name for name, _ in index.list(number=10**6)]
    records = index.get_records(names, include=("metadata", "text", "payload", "vector"))
    pattern = np.array([[1, 2, 3, 4, 5, 6], [-3, 1, 0, 0.5, 2, -1]], np.float32)
    queries = np.tile(pattern, (1, index.dim // pattern.shape[1]))
    quantization = index.quantization
    quantized = {}
    if quantization is not None:
        quantized = {"quantization": {**quantization.to_json(), "is_trained": index.is_quantized()}}
    return {
        **quantized,
        "options": {"dim": index.dim, "space": index.space, "m": index.m, "fields": index.indexed_fields},
        "metadata": index.get_all_metadata(),
        "records": [{**record, "vector": record["vector"].tolist()} for record in records],
        "nearest": [[hit["id"] for hit in hits] for hits in index.search(queries, top_k=5, exact=True)],
        "filtered": [hit["id"] for hit in index.search(queries[0], filter={"n": {"$lt": 9}}, top_k=50)],
        "values": [list(pair) for pair in index.distinct("n")],
    }


def _check(index: HNSWIndex, expected: dict[str, Any]) -> None:
    """Compare all that is to stay; vectors decoded from codes are float32 sums, which processors round differently."""
    seen = _seen(index)
    if "quantization" in seen and seen["quantization"]["storage_mode"] == "quantized_only":
        decoded, known = ([record["vector"] for record in one["records"]] for one in (seen, expected))
        np.testing.assert_allclose(decoded, known, rtol=1e-4, atol=1e-4)
        for record, of_old in zip(seen["records"], expected["records"], strict=True):
            record["vector"] = of_old["vector"]
    assert seen == expected


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_golden_directory_is_read_as_it_was_written(directory: Path, tmp_path: Path) -> None:
    expected = json.loads((directory / "expected.json").read_text("utf-8"))
    original = directory / "index"
    before = {file.name: file.read_bytes() for file in original.iterdir()}
    _check(VectorDatabase().load(original), expected)
    for mapped in (True, False):
        with VectorDatabase().open(original, read_only=True, mmap=mapped) as index:
            _check(index, expected)
    report = verify(original, deep=True)
    assert report.is_ok, report.problems
    assert {file.name: file.read_bytes() for file in original.iterdir()} == before
    # And lives on.
    shutil.copytree(original, tmp_path / "x.zdb")
    with VectorDatabase().open(tmp_path / "x.zdb") as index:
        _check(index, expected)
        index.add({"id": "new", "vector": [1.0] * index.dim})
        index.save()
    with VectorDatabase().open(tmp_path / "x.zdb", read_only=True) as index:
        assert len(index) == len(expected["records"]) + 1


def test_there_are_golden_directories_of_every_kind() -> None:
    kinds = {path.name for path in DIRECTORIES if path.parent.name == "1.0"}
    assert kinds >= {"cosine", "l2", "l1", "dot", "empty", "tombstones", "documents", "journaled"}
    assert kinds >= {"graph-cosine", "graph-l2", "graph-l1", "graph-dot"}
    assert kinds >= {"pq-untrained", "pq-only", "pq-with-raw", "int8-only"}
    files = {path.name: {file.name for file in (path / "index").iterdir()} for path in DIRECTORIES}
    assert "codes.bin" in files["graph-l2"]
    assert {"pq_codes.bin", "pq_centroids.bin", "quantization.json"} <= files["pq-only"] & files[
        "pq-with-raw"
    ]
    assert [
        name for name in files if name.startswith(("pq", "int8")) and "vectors.bin" not in files[name]
    ] == [
        "int8-only",
        "pq-only",
    ]


@pytest.mark.parametrize("directory", DIRECTORIES, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_golden_directories_are_small(directory: Path) -> None:
    assert sum(file.stat().st_size for file in directory.rglob("*") if file.is_file()) < 300_000


@pytest.mark.parametrize(
    ("key", "value"),
    [("format_version", "2.0"), ("min_reader_version", "1.7"), ("required_features", ["time-travel"])],
)
def test_later_formats_are_refused_by_name(key: str, value: Any, tmp_path: Path) -> None:
    from storage.snapshots import write_manifest

    shutil.copytree(GOLDEN / "1.0" / "cosine" / "index", tmp_path / "x.zdb")
    manifest = json.loads((tmp_path / "x.zdb" / "manifest.json").read_text())
    manifest[key] = value
    write_manifest(tmp_path / "x.zdb", manifest)
    wanted = value[0] if isinstance(value, list) else value
    for read in (VectorDatabase().load, VectorDatabase().open, verify):
        with pytest.raises(UnsupportedVersionError, match=wanted):
            read(tmp_path / "x.zdb")


# ---------------------------------------------------------------------------------------------- writing them


def _vectors(count: int, seed: int, dim: int = DIM) -> np.ndarray:
    return np.random.default_rng(seed).integers(-8, 9, (count, dim)).astype(np.float32) + np.float32(0.5)


def _plain(index: HNSWIndex) -> None:
    index.add({"ids": [f"r{i}" for i in range(12)], "vectors": _vectors(12, 1)})


def _removed(index: HNSWIndex) -> None:
    index.add(
        {
            "ids": [f"r{i}" for i in range(30)],
            "vectors": _vectors(30, 2),
            "metadatas": [{"n": i} for i in range(30)],
        }
    )
    index.remove_points([f"r{i}" for i in range(0, 30, 3)])
    index.add({"ids": ["r1", "r3"], "vectors": _vectors(2, 3), "metadatas": [{"n": -1}, {"n": -3}]})


def _documents(index: HNSWIndex) -> None:
    index.add(
        {
            "ids": ["plain", "ζ-id", 'quo"te', "line\u2028break", "empty"],
            "vectors": _vectors(5, 4),
            "metadatas": [
                {"n": 1, "deep": {"a": [1, None, True, 2.5]}},
                {"n": 2**60},
                {"tags": ["a", "b"]},
                None,
                {},
            ],
            "texts": ["text", "ünïcode \u2029", None, "with\nnewline", ""],
            "payloads": [{"p": [1, 2]}, None, {"q": "ζ"}, None, {}],
        }
    )
    index.add_metadata({"owner": "golden", "numbers": [1, 2.5, None]})


def _journaled(index: HNSWIndex) -> None:
    _documents(index)
    index.save()
    _removed(index)
    index.update_metadata("plain", {"n": 5})
    index.update_payload(["plain", "r5"], {"p": "changed"})
    index.add_metadata({"owner": "journal"})
    index.add(_vectors(2, 9))


def _graph(index: HNSWIndex) -> None:
    from zeusdb_vs import linking

    usual, linking.SMALLEST_GRAPH = linking.SMALLEST_GRAPH, 16
    index.add({"ids": [f"r{i}" for i in range(64)], "vectors": _vectors(64, 5, index.dim)})
    index.save()
    linking.SMALLEST_GRAPH = usual


_PQ = {"type": "pq", "subvectors": 3, "training_size": 1000}


def _collecting(index: HNSWIndex) -> None:
    _removed(index)
    index.save()
    index.add({"ids": ["journal"], "vectors": _vectors(1, 6, index.dim)})


def _trained(index: HNSWIndex) -> None:
    """Trained on as many records as it takes, of which few stay; some more are in the journal."""
    vectors = _vectors(1000, 7, index.dim)
    index.add(
        {
            "ids": [f"r{i}" for i in range(1000)],
            "vectors": vectors,
            "metadatas": [{"n": i} for i in range(1000)],
        }
    )
    assert index.is_quantized()
    index.remove_points([f"r{i}" for i in range(40, 1000)])
    index.save()
    index.add({"ids": ["r3", "journal"], "vectors": vectors[500:502], "metadatas": [{"n": 3}, None]})
    index.remove_point("r5")


def _write_all() -> None:
    from zeusdb_vs.storage.manifest import FORMAT_VERSION

    kinds: dict[str, tuple[dict[str, Any], Callable[[HNSWIndex], None], bool]] = {
        **{space: ({"space": space}, _plain, True) for space in ("cosine", "l2", "l1", "dot")},
        "empty": ({}, lambda index: None, True),
        "tombstones": ({"space": "l2"}, _removed, True),
        "documents": ({"indexed_fields": ["n"]}, _documents, True),
        "journaled": ({"space": "dot"}, _journaled, False),
        **{
            f"graph-{space}": ({"space": space, "m": 4, "dim": 48}, _graph, True)
            for space in ("cosine", "l2", "l1", "dot")
        },
        "pq-untrained": ({"space": "l2", "quantization_config": _PQ}, _collecting, False),
        "pq-only": ({"space": "l2", "dim": 12, "m": 4, "quantization_config": _PQ}, _trained, False),
        "pq-with-raw": (
            {"dim": 12, "m": 4, "quantization_config": {**_PQ, "storage_mode": "quantized_with_raw"}},
            _trained,
            False,
        ),
        "int8-only": (
            {"dim": 96, "m": 4, "quantization_config": {"type": "int8", "training_size": 1000}},
            _trained,
            False,
        ),
    }
    for name, (options, fill, is_saved) in kinds.items():
        directory = GOLDEN / ".".join(map(str, FORMAT_VERSION)) / name
        if directory.exists():
            continue
        directory.mkdir(parents=True)
        with VectorDatabase().open(directory / "index", **{"dim": DIM, **options}) as index:
            fill(index)
            if is_saved:
                index.save()
            expected = _seen(index)
        (directory / "index" / ".lock").unlink()
        (directory / "expected.json").write_text(json.dumps(expected, ensure_ascii=False, indent=1), "utf-8")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
    _write_all()

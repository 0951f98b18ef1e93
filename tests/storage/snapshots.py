"""Synthetic snapshots for the tests of storage, and what one compares of them."""

from __future__ import annotations

import hashlib
import json
import zlib
from pathlib import Path

import numpy as np

from zeusdb_vs.storage import BinaryFile, JsonFile, LinesFile, Snapshot

SPECIAL_IDS = [
    "plain",
    'quo"te',
    "back\\slash",
    "tab\there",
    "zeta ζ",
    "emoji 🦓",
    "line\u2028sep",
    "new\nline",
    "x" * 1024,
]


def id_arrays(ids):
    encoded = [text.encode() for text in ids]
    offsets = np.cumsum([0, *map(len, encoded)]).astype(np.uint64)
    return np.frombuffer(b"".join(encoded), np.uint8), offsets


def make_snapshot(n=9, dim=4, seed=0, *, uuid=None, texts=True):
    """A snapshot of every kind of file; different seeds differ in every file."""
    rng = np.random.default_rng(seed)
    ids = (SPECIAL_IDS + [f"doc_{i}" for i in range(n)])[:n]
    id_bytes, id_offsets = id_arrays(ids)
    vectors = rng.standard_normal((n, dim)).astype(np.float32)
    lines = [
        json.dumps({"i": i, "seed": seed, "é": "ü"}, ensure_ascii=False) if i % 3 else None for i in range(n)
    ]
    files = {
        "mappings.bin": BinaryFile(
            {"id_bytes": id_bytes, "id_offsets": id_offsets, "tombstones": rng.random(n) < 0.2, "seed": seed}
        ),
        "vectors.bin": BinaryFile({"vectors": [vectors[: n // 2], vectors[n // 2 :]]}),
        "hnsw_index.hnsw.graph": BinaryFile(
            {
                "neighbors": rng.integers(0, 99, (n, 6)).astype(np.int32),
                "levels": rng.integers(0, 4, n).astype(np.uint8),
                "upper": np.empty((0, 3), np.int32),
                "scale": 1.5 + seed,
            }
        ),
        "metadata.json": LinesFile(lines),
        "quantization.json": JsonFile({"type": "none", "seed": seed}),
    }
    if texts:
        files["texts.json"] = LinesFile(
            [json.dumps(f"text {i} {seed} ζ", ensure_ascii=False) for i in range(n)]
        )
        files["payloads.json"] = LinesFile([None] * n)
    snapshot = Snapshot(config={"dim": dim, "seed": seed, "nested": {"a": [1, 2.5, None, "ζ"]}}, files=files)
    snapshot.counts = {"records": n}
    if uuid is not None:
        snapshot.index_uuid = uuid
    return snapshot


def content_of(snapshot):
    """Everything a snapshot holds, in comparable form."""
    content = {"config.json": snapshot.config, "counts": snapshot.counts, "uuid": str(snapshot.index_uuid)}
    for name, file in snapshot.files.items():
        if isinstance(file, BinaryFile):
            for key, value in file.arrays.items():
                array = np.concatenate(value) if isinstance(value, list) else np.asarray(value)
                content[name, key] = (array.dtype.str, array.shape, array.tobytes())
        elif isinstance(file, LinesFile):
            content[name] = list(file.values)
        else:
            content[name] = file.value
    return content


def tree_of(path):
    """Every name below a path with its kind and bytes; links are not followed."""
    result = {}
    for entry in sorted(Path(path).rglob("*")):
        name = str(entry.relative_to(path))
        if entry.is_symlink():
            result[name] = ("link", str(entry.readlink()))
        elif entry.is_dir():
            result[name] = "directory"
        elif entry.is_file():
            result[name] = entry.read_bytes()
        else:
            result[name] = "other"
    return result


def repair_digests(path):
    """Rewrite the digests of a directory to go with what its files now hold, as a forger would."""
    manifest = json.loads((path / "manifest.json").read_text())
    for name, entry in manifest["files"].items():
        file = path / name
        if not file.is_file():
            continue
        data = file.read_bytes()
        block = manifest["block_bytes"]
        entry["bytes"] = len(data)
        entry["crc32"] = [f"{zlib.crc32(data[i : i + block]):08x}" for i in range(0, len(data), block)]
    write_manifest(path, manifest)


def write_manifest(path, manifest, *, seal=True):
    if seal:
        rest = {key: value for key, value in manifest.items() if key != "digest"}
        text = json.dumps(rest, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        manifest["digest"] = "sha256:" + hashlib.sha256(text.encode()).hexdigest()
    (path / "manifest.json").write_text(json.dumps(manifest))

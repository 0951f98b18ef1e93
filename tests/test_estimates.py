"""What `estimate_memory` says against what the system measures."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from zeusdb_vs import ArgumentTypeError, ConfigurationError, VectorDatabase, estimate_memory

ROWS, DIM = 40_000, 128
CONFIGS: dict[str, dict[str, Any] | None] = {
    "none": None,
    "int8": {"type": "int8", "training_size": 1000},
    "pq": {"type": "pq", "training_size": 1000},
    "pq with raw": {"type": "pq", "training_size": 1000, "storage_mode": "quantized_with_raw"},
}

# Rows are made in chunks, so that only what the index keeps stays; the heap's free pages go back to the system.
_GROWTH = """
import ctypes, ctypes.util, gc, json, sys
import numpy as np
from zeusdb_vs import VectorDatabase

config, rows, dim, path = json.loads(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
rng = np.random.default_rng(0)

def anonymous():
    gc.collect()
    ctypes.CDLL(ctypes.util.find_library("c")).malloc_trim(0)
    lines = open("/proc/self/smaps_rollup").read().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous:")) * 1024

def fill(index, rows):
    centers = rng.normal(size=(64, dim))
    for start in range(0, rows, 2000):
        chunk = centers[rng.integers(0, 64, 2000)] + rng.normal(size=(2000, dim))
        index.add({"ids": [f"record-{i:06}" for i in range(start, start + 2000)], "vectors": chunk.astype("f4")})
    for query in rng.normal(size=(50, dim)).astype("f4"):
        index.search(query)
    index.search(query, top_k=1, ef_search=1)  # a walk, which small indexes do without

# Everything is compiled and imported before, by an index of the same kind.
warm = VectorDatabase().create("hnsw", dim=dim, quantization_config=config)
fill(warm, 6000)
del warm
before = anonymous()
index = VectorDatabase().open(path, dim=dim, quantization_config=config)
fill(index, rows)
index.save()
print(anonymous() - before)
index.close()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", CONFIGS)
def test_estimate_is_near_what_is_measured(name: str, tmp_path: Path) -> None:
    estimate = estimate_memory(ROWS, DIM, quantization_config=CONFIGS[name], id_bytes=13)
    growths = []
    for attempt in range(3):
        path = tmp_path / f"{attempt}.zdb"
        arguments = [json.dumps(CONFIGS[name]), str(ROWS), str(DIM), str(path)]
        process = subprocess.run(
            [sys.executable, "-c", _GROWTH, *arguments], capture_output=True, text=True, check=False
        )
        assert process.returncode == 0, process.stderr
        growths.append(int(process.stdout.split()[0]))
        # What the heap keeps of a checkpoint beside the adds differs from run to run by some 3 MB: the least counts.
        if abs(estimate.memory_bytes - growths[-1]) <= 0.15 * growths[-1]:
            break
    on_disk = sum(file.stat().st_size for file in path.iterdir())
    print(f"{name}: measured {growths}, {on_disk} on disk; {estimate}")
    assert abs(estimate.memory_bytes - min(growths)) <= 0.15 * min(growths)
    assert abs(estimate.disk_bytes - on_disk) <= 0.15 * on_disk


@pytest.mark.parametrize("space", ["cosine", "l2", "l1", "dot"])
@pytest.mark.parametrize("dim", [8, 48, 100, 384])
@pytest.mark.parametrize("name", CONFIGS)
def test_estimate_is_near_what_the_index_says(space: str, dim: int, name: str) -> None:
    config = CONFIGS[name]
    if space == "l1" and config is not None and config["type"] == "pq":
        pytest.skip("product codes have no l1")
    rng = np.random.default_rng(0)
    rows = (rng.normal(size=(16, dim))[rng.integers(0, 16, 1200)] + rng.normal(size=(1200, dim))).astype("f4")
    index = VectorDatabase().create("hnsw", dim=dim, space=space, quantization_config=config)
    index.add(rows)
    estimate = estimate_memory(1200, dim, space=space, quantization_config=config, has_directory=False)
    memory = index.memory()
    # Rows are reserved in chunks, 4,096 of them here: what is reserved and not written yet takes no memory.
    parts = {name: size for name, size in estimate.memory.items() if name in ("vectors", "codes")}
    for part, size in parts.items():
        assert size <= memory[part] <= size * 4096 / 1200 * 1.05 + 4096 * 4


def test_few_records_are_estimated_unquantized() -> None:
    assert estimate_memory(900, 64, quantization_config={"type": "int8"}) == estimate_memory(900, 64)


def test_parts_add_up_and_are_told() -> None:
    estimate = estimate_memory(
        100_000, 384, quantization_config={"type": "pq", "storage_mode": "quantized_with_raw"}
    )
    assert estimate.memory_bytes == sum(estimate.memory.values())
    assert estimate.mapped_bytes == 100_000 * 384 * 4
    assert str(estimate).endswith("MiB on disk")
    in_memory = estimate_memory(
        100_000,
        384,
        quantization_config={"type": "pq", "storage_mode": "quantized_with_raw"},
        has_directory=False,
    )
    assert in_memory.memory_bytes - estimate.memory_bytes == estimate.mapped_bytes
    assert in_memory.mapped_bytes == 0


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"n": -1, "dim": 4}, ConfigurationError, "n must be"),
        ({"n": 10, "dim": 0}, ConfigurationError, "dim must be"),
        ({"n": 10, "dim": 4, "space": "cosin"}, ConfigurationError, "did you mean 'cosine'"),
        ({"n": 10, "dim": 4, "space": 1}, ArgumentTypeError, "space must be a str"),
        ({"n": 10, "dim": 4, "quantization_config": {"type": "q"}}, ConfigurationError, "unknown type"),
        ({"n": 10, "dim": 4, "has_directory": 1}, ArgumentTypeError, "has_directory must be"),
        ({"n": 10, "dim": 4, "id_bytes": 0}, ConfigurationError, "id_bytes must be"),
    ],
)
def test_options_are_checked(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        estimate_memory(**options)

"""`warmup()` leaves nothing to compile, whatever comes after it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

# In a process of its own: other tests load kernels too.
_SCRIPT = """
import json, sys
import numpy as np
import zeusdb_vs
from zeusdb_vs import VectorDatabase

zeusdb_vs.warmup()
from numba.core.dispatcher import Dispatcher

def compiled():
    return {
        f"{name}.{kernel}": len(value.overloads)
        for name, module in list(sys.modules.items()) if name.startswith("zeusdb_vs.kernels.")
        for kernel, value in vars(module).items()
        if isinstance(value, Dispatcher) and value.py_func.__module__ == name
    }

after_warmup = compiled()
rng = np.random.default_rng(1)
paths = set()
quantizations = {
    "cosine": [("pq", "with_raw"), ("int8", "only")], "l2": [("pq", "only"), ("int8", "with_raw")],
    "l1": [("int8", "only")], "dot": [("pq", "only")],
}
for space in ("cosine", "l2", "l1", "dot"):
    vectors = rng.standard_normal((5000, 64), dtype=np.float32)
    if space == "dot":
        vectors *= 50 * rng.random((5000, 1), dtype=np.float32)
    index = VectorDatabase().create("hnsw", dim=64, space=space)
    index.add({"vectors": vectors, "metadatas": [{"a": number} for number in range(5000)]})
    for below in (None, 10, 500, 3000, 4900):
        condition = None if below is None else {"a": {"lt": below}}
        for ef_search in (1, None):
            hits = index.search(vectors[3], condition, top_k=1, ef_search=ef_search, explain=True)
            paths.add(hits.explanation.path)
    index.search(vectors[0], exact=True)
    index.search_arrays(vectors[:100])
    for number in range(5):
        index.add({"id": f"vec_{number + 1}", "vector": vectors[number + 1]})
    index.remove_points([f"vec_{number}" for number in range(1, 2500)])
    index.compact()
    index.rebuild(m=8)
    for kind, mode in quantizations[space]:
        quantization = {"type": kind, "storage_mode": "quantized_" + mode, "training_size": 1000}
        index = VectorDatabase().create("hnsw", dim=64, space=space, quantization_config=quantization)
        index.add({"vectors": vectors[:1500], "metadatas": [{"a": number} for number in range(1500)]})
        for options in ({}, {"rerank": 0}, {"exact": True}, {"ef_search": 1, "top_k": 1}):
            for condition in (None, {"a": {"lt": 900}}):
                index.search(vectors[1], condition, **options)
        index.search_arrays(vectors[:100])
        index.get_records(["vec_1"])
        index.add({"id": "vec_1", "vector": vectors[1]})
        index.remove_points([f"vec_{number}" for number in range(1, 50)])
        index.compact()
        index.rebuild(m=8)
print(json.dumps({"warmed": after_warmup, "later": compiled(), "paths": sorted(paths)}))
"""


@pytest.mark.skipif(os.environ.get("NUMBA_DISABLE_JIT") == "1", reason="nothing is compiled")
def test_warmup_compiles_every_kernel_that_any_space_and_path_uses() -> None:
    process = subprocess.run([sys.executable, "-c", _SCRIPT], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    report = json.loads(process.stdout)
    assert report["later"] == report["warmed"]
    assert {"walk", "filtered walk", "scan", "exact"} <= set(report["paths"])
    assert sum(report["warmed"].values()) > 0

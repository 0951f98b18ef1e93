"""What an index says of itself: one line, a table, figures, a benchmark of its reads."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from html import escape
from typing import Any

from zeusdb_vs.collection import Collection
from zeusdb_vs.results import IndexStats, ReadBenchmark
from zeusdb_vs.threads import get_num_threads

_MIB = 1 << 20


def info_line(collection: Collection) -> str:
    """Return the index in one line, in the form of the original."""
    config = collection.config
    return (
        f"HNSWIndex(dim={config.dim}, space={config.space}, m={config.m}, "
        f"ef_construction={config.ef_construction}, expected_size={config.expected_size}, "
        f"vectors={collection.view.live_count}, quantization={_quantization_line(collection)})"
    )


def _quantization_line(collection: Collection) -> str:
    quantization = collection.config.quantization
    if quantization is None:
        return "none"
    options = {
        "pq": f"subvectors={quantization.subvectors}, bits={quantization.bits}, ",
        "int8": "scale=per_dimension, ",
    }[quantization.type]
    state = "trained, active" if collection.is_quantized else "untrained, inactive"
    ratio = quantization.compression_ratio(collection.config.dim)
    return f"{quantization.type}({options}{state}, compression={ratio:.1f}x)"


def training_needed(collection: Collection) -> int:
    """Return how many more records training needs; 0 once it is done, and without quantization."""
    quantization = collection.config.quantization
    if quantization is None or collection.is_quantized:
        return 0
    return max(0, quantization.training_size - collection.view.live_count)


def training_progress(collection: Collection) -> float:
    """Return how much of what training needs is there, 0..100."""
    quantization = collection.config.quantization
    if quantization is None:
        return 0.0
    return 100.0 * (1 - training_needed(collection) / quantization.training_size)


def storage_state(collection: Collection) -> str:
    """Return how vectors are kept now, in the words of `HNSWIndex.get_storage_mode`."""
    if collection.config.quantization is None:
        return "raw_only"
    return "quantized_active" if collection.is_quantized else "raw_collecting_for_training"


def quantization_info(collection: Collection) -> dict[str, Any] | None:
    """Return the answer of `HNSWIndex.get_quantization_info`."""
    config, view = collection.config, collection.view
    quantization = config.quantization
    if quantization is None:
        return None
    info: dict[str, Any] = {
        **quantization.to_json(),
        "is_trained": collection.is_quantized,
        "compression_ratio": quantization.compression_ratio(config.dim),
        "code_bytes": -(-quantization.code_bits(config.dim) // 8),
        "memory_mb": collection.codec_bytes / _MIB if collection.is_quantized else 0.0,
    }
    if quantization.type == "pq":
        info["total_centroids"] = quantization.subvectors << quantization.bits
    if collection.is_quantized:
        info |= {
            "codes": view.codes,
            "rerank": view.rerank,
            "kept_neighbors": view.kept,
            "training_seconds": collection.training_seconds,
        }
    return info


def memory_table(collection: Collection) -> dict[str, int]:
    """Return the bytes each part holds, and their sum under ``total``."""
    parts = dict(collection.memory_bytes())
    parts.pop("total", None)
    return {**parts, "total": sum(parts.values())}


def statistics(collection: Collection) -> IndexStats:
    """Return the figures of `HNSWIndex.get_stats`."""
    config, view = collection.config, collection.view
    memory = memory_table(collection)
    return IndexStats(
        index_type="HNSW",
        dimension=config.dim,
        space=config.space,
        m=config.m,
        ef_construction=config.ef_construction,
        expected_size=config.expected_size,
        total_vectors=view.live_count,
        graph_nodes=view.n,
        stranded_graph_nodes=view.n - view.live_count,
        raw_vectors_stored=view.live_count if collection.keeps_originals else 0,
        quantized_codes_stored=view.live_count if collection.is_quantized else 0,
        quantization_type="none" if config.quantization is None else config.quantization.type,
        storage_mode="raw_only" if config.quantization is None else config.quantization.storage_mode,
        storage_mode_description=storage_state(collection),
        quantization_trained=collection.is_quantized,
        training_progress=training_progress(collection),
        training_vectors_needed=training_needed(collection),
        rerank_default_fetch=view.rerank if collection.is_quantized else 0,
        thread_safety="one writer, readers without locks",
        total_memory_bytes=memory["total"],
        memory_bytes=memory,
        mapped_bytes=collection.mapped_bytes(),
    )


def html_table(collection: Collection) -> str:
    """Return the table that notebooks show."""
    config, view = collection.config, collection.view
    rows = {
        "vectors": f"{view.live_count:,}",
        "dim": config.dim,
        "space": config.space,
        "m": config.m,
        "ef_construction": config.ef_construction,
        "expected_size": f"{config.expected_size:,}",
        "quantization": _quantization_line(collection),
        "memory": f"{memory_table(collection)['total'] / _MIB:,.1f} MiB",
    }
    cells = "".join(f"<tr><th>{escape(k)}</th><td>{escape(str(v))}</td></tr>" for k, v in rows.items())
    return f"<table><caption>HNSWIndex</caption>{cells}</table>"


def performance_notes() -> dict[str, Any]:
    """Return what limits searches and adds here, and what one call may use."""
    return {
        "search_bottleneck": "memory latency: cache misses on the codes of the neighbors visited",
        "search_concurrency": "any number of threads; no locks; kernels release the GIL",
        "insertion_path": "one writer at a time; bulk adds are linked in parallel",
        "num_threads": get_num_threads(),
    }


def benchmark_reads(search: Callable[[int], object], query_count: int, max_threads: int) -> ReadBenchmark:
    """Time `query_count` searches one after another, then on several threads.

    Parameters
    ----------
    search : callable
        Answers query number i.
    query_count, max_threads : int
        At least 1.
    """
    search(0)  # compile and touch what the first search has to
    start = time.perf_counter()
    for number in range(query_count):
        search(number)
    sequential = time.perf_counter() - start
    with ThreadPoolExecutor(max_threads, thread_name_prefix="zeusdb-vs-benchmark") as pool:
        start = time.perf_counter()
        for _ in pool.map(search, range(query_count), chunksize=max(1, query_count // (4 * max_threads))):
            pass
        parallel = time.perf_counter() - start
    return ReadBenchmark(
        sequential_time=sequential,
        parallel_time=parallel,
        sequential_qps=query_count / sequential,
        parallel_qps=query_count / parallel,
        speedup=sequential / parallel,
        threads_used=max_threads,
    )

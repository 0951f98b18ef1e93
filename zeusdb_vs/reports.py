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
        f"vectors={collection.view.live_count}, quantization=none)"
    )


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
        raw_vectors_stored=view.live_count,
        quantized_codes_stored=0,
        quantization_type="none",
        storage_mode="raw_only",
        storage_mode_description="raw_only",
        thread_safety="one writer, readers without locks",
        total_memory_bytes=memory["total"],
        memory_bytes=memory,
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
        "quantization": "none",
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

"""What the LlamaIndex adapter costs above the engine, beside SimpleVectorStore, Chroma and FAISS.

    PYTHONPATH=.:integrations python -m benchmarks.llama_index_store [--count 10000] [--write]

Embeddings are random and nothing is embedded, so what is timed is the store. Rivals that are not installed
(``[peers]``) are left out. With `--write` the tables go to ``benchmarks/results/llama_index.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from llama_index.core.schema import NodeRelationship, ObjectType, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import VectorDatabase

DIM = 384
TOP_K = 10
PERSISTED = "default__vector_store.json"
RESULTS = Path(__file__).parent / "results" / "llama_index.md"


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Return vectors around some centres, as embeddings lie, rather than alike in all directions."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((64, DIM))
    return (centres[random.integers(0, 64, count)] + 0.6 * random.standard_normal((count, DIM))).astype(
        np.float32
    )


def nodes_of(vectors: np.ndarray) -> list[TextNode]:
    """Return nodes as a splitter leaves them: a source with its hash, neighbours, offsets, some metadata."""
    nodes = []
    for i, vector in enumerate(vectors.tolist()):
        metadata = {"file_name": f"file_{i // 8}.txt", "page": i % 50, "lang": ["en", "de", "pl"][i % 3]}
        nodes.append(
            TextNode(
                id_=f"node-{i:08d}",
                text=f"Passage {i}. " + "Some words of a passage. " * 12,
                metadata=metadata,
                embedding=vector,
                start_char_idx=i,
                end_char_idx=i + 300,
                relationships={
                    NodeRelationship.SOURCE: RelatedNodeInfo(
                        node_id=f"doc-{i // 8}",
                        node_type=ObjectType.DOCUMENT,
                        metadata=metadata,
                        hash="0" * 64,
                    ),
                    NodeRelationship.NEXT: RelatedNodeInfo(
                        node_id=f"node-{i + 1:08d}", node_type=ObjectType.TEXT, hash="1" * 64
                    ),
                },
            )
        )
    return nodes


def best_us(call: Callable[[int], Any], inputs: Sequence[int], rounds: int = 1) -> float:
    """Return the microseconds of one call, of the best of some rounds over all inputs."""
    best = float("inf")
    for _ in range(rounds):
        began = time.perf_counter()
        for i in inputs:
            call(i)
        best = min(best, time.perf_counter() - began)
    return best / len(inputs) * 1e6


def seconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call took, and what it gave."""
    began = time.perf_counter()
    outcome = call()
    return time.perf_counter() - began, outcome


def overhead(count: int) -> list[tuple[str, str]]:
    """Compare with the engine alone, on the same records."""
    vectors = clustered(count)
    nodes = nodes_of(vectors)
    columns = {
        "ids": [node.node_id for node in nodes],
        "vectors": [node.embedding for node in nodes],
        "metadatas": [node.metadata for node in nodes],
        "texts": [node.text for node in nodes],
    }
    # Interleaved, so that a busy machine slows both alike.
    engine_s, store_s, engine_cpu_s, store_cpu_s = [], [], [], []
    for _ in range(3):
        index = VectorDatabase().create("hnsw", dim=DIM)
        cpu_s = time.process_time()
        engine_s.append(seconds(lambda index=index: index.add(columns))[0])
        engine_cpu_s.append(time.process_time() - cpu_s)
        store = ZeusDBVectorStore()
        cpu_s = time.process_time()
        store_s.append(seconds(lambda store=store: store.add(nodes))[0])
        store_cpu_s.append(time.process_time() - cpu_s)
    queries = [query.tolist() for query in clustered(200, seed=1)]
    asked = [VectorStoreQuery(query_embedding=query, similarity_top_k=TOP_K) for query in queries]
    for i in range(200):
        store.query(asked[i])
        store.client.search(queries[i], top_k=TOP_K)
    engine_us, build_us, query_us = [], [], []
    for i in range(100):
        # Short rounds, interleaved: the best of each is one that nothing else disturbed.
        part = range(i % 10 * 20, i % 10 * 20 + 20)
        engine_us.append(best_us(lambda n: store.client.search(queries[n], top_k=TOP_K), part))
        build_us.append(best_us(lambda n: nodes_bare(nodes, n), part))
        query_us.append(best_us(lambda n: store.query(asked[n]), part))
    engine, build, query = min(engine_us), min(build_us), min(query_us)
    add_ratio = min(store_s) / min(engine_s)
    return [
        (f"engine's search, top_k = {TOP_K}, us", f"{engine:.0f}"),
        ("bare construction of ten such nodes, us", f"{build:.0f}"),
        ("store's query, us", f"{query:.0f}"),
        ("store's query above engine and construction, us (goal: 60)", f"{query - engine - build:.0f}"),
        (f"engine adds {count:,} records, s", f"{min(engine_s):.2f}"),
        (f"store adds {count:,} nodes, s", f"{min(store_s):.2f}"),
        ("ratio (goal: 2)", f"{add_ratio:.2f}"),
        ("the same of processor time", f"{min(store_cpu_s) / min(engine_cpu_s):.2f}"),
    ]


def nodes_bare(nodes: list[TextNode], i: int) -> list[TextNode]:
    """Construct ten nodes as anyone would."""
    return [
        TextNode(
            id_=node.id_,
            text=node.text,
            metadata=node.metadata,
            relationships=node.relationships,
            start_char_idx=node.start_char_idx,
            end_char_idx=node.end_char_idx,
        )
        for node in nodes[i : i + TOP_K]
    ]


@dataclass(frozen=True)
class Rival:
    """How a store is made in a folder, made safe there, and read again."""

    make: Callable[[Path], Any]
    persist: Callable[[Any, Path], object]
    reopen: Callable[[Path], Any]
    has_filters: bool = True


def zeusdb() -> Rival:
    return _persisting(ZeusDBVectorStore)


def simple() -> Rival:
    return _persisting(SimpleVectorStore)


def _persisting(kind: Any) -> Rival:
    return Rival(
        lambda _: kind(), lambda store, folder: store.persist(str(folder / PERSISTED)), kind.from_persist_dir
    )


def chroma() -> Rival:
    import chromadb
    from llama_index.vector_stores.chroma import ChromaVectorStore

    def store_in(folder: Path) -> Any:
        client = chromadb.PersistentClient(str(folder / "chroma"))
        return ChromaVectorStore(
            client.get_or_create_collection("nodes", configuration={"hnsw": {"space": "cosine"}})
        )

    return Rival(store_in, lambda *_: None, store_in)


def faiss() -> Rival:
    import faiss as library
    from llama_index.vector_stores.faiss import FaissVectorStore

    # For one query at a time OpenMP's threads cost more than they bring, many times more on a busy machine.
    library.omp_set_num_threads(1)
    return Rival(
        lambda _: FaissVectorStore(library.IndexFlatIP(DIM)),
        lambda store, folder: store.persist(str(folder / PERSISTED)),
        lambda folder: FaissVectorStore.from_persist_dir(str(folder)),
        has_filters=False,
    )


RIVALS = {"zeusdb-vs": zeusdb, "SimpleVectorStore": simple, "Chroma": chroma, "FAISS (flat)": faiss}


def beside_others(count: int) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Compare with other stores: add, query, filtered query, persist, reload and first answer."""
    nodes = nodes_of(clustered(count))
    columns = {name: figures for name in RIVALS if (figures := figures_of(name, nodes)) is not None}
    measured = next(iter(columns.values()))
    return ("", *columns), [
        (name, *(figures.get(name, "-") for figures in columns.values())) for name in measured
    ]


def figures_of(name: str, nodes: list[TextNode]) -> dict[str, str] | None:
    """Return what was measured of a store, None where it is not installed."""
    try:
        rival = RIVALS[name]()
    except ImportError:
        return None
    queries = [query.tolist() for query in clustered(10, seed=1)]
    filters = MetadataFilters(
        filters=[MetadataFilter(key="lang", value="de"), MetadataFilter(key="page", value=7)]
    )
    figures = {}
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        store = rival.make(folder)
        add_s = 0.0
        for first in range(0, len(nodes), 5_000):  # Chroma takes no more at a time
            part = nodes[first : first + 5_000]
            add_s += seconds(lambda part=part: store.add(part))[0]
        figures[f"add {len(nodes):,} nodes, s"] = f"{add_s:.3f}"
        for what, chosen in (("query, ms", None), ("filtered query, ms", filters)):
            if chosen is not None and not rival.has_filters:
                continue
            asked = [
                VectorStoreQuery(query_embedding=query, similarity_top_k=TOP_K, filters=chosen)
                for query in queries
            ]
            store.query(asked[0])
            figures[what] = f"{best_us(lambda i, asked=asked: store.query(asked[i]), range(10), 2) / 1e3:.3f}"
        figures["persist, s"] = f"{seconds(lambda: rival.persist(store, folder))[0]:.3f}"
        query = VectorStoreQuery(query_embedding=queries[0], similarity_top_k=TOP_K)
        figures["reload and first answer, s"] = f"{seconds(lambda: rival.reopen(folder).query(query))[0]:.3f}"
    return figures


def stalls(count: int) -> list[tuple[str, str]]:
    """Watch the event loop under 20 concurrent queries, and the first answer after `from_persist_dir`."""
    store = ZeusDBVectorStore(expected_size=count)
    for first in range(0, count, 10_000):
        store.add(
            nodes_of(clustered(min(10_000, count - first), seed=first))
            if first == 0
            else shifted(first, count)
        )
    queries = [query.tolist() for query in clustered(50, seed=1)]
    stalled: list[float] = []

    async def main() -> float:
        done = False

        async def watch() -> None:
            while not done:
                began = time.perf_counter()
                await asyncio.sleep(0.001)
                stalled.append((time.perf_counter() - began - 0.001) * 1e3)

        async def ask(number: int) -> None:
            for i in range(50):
                embedding = queries[(number + i) % 50]
                await store.aquery(VectorStoreQuery(query_embedding=embedding, similarity_top_k=TOP_K))

        watcher = asyncio.create_task(watch())
        began = time.perf_counter()
        await asyncio.gather(*map(ask, range(20)))
        elapsed_s = time.perf_counter() - began
        done = True
        await watcher
        return 1000 / elapsed_s

    asyncio.run(main())
    stalled.clear()
    per_second = asyncio.run(main())
    with tempfile.TemporaryDirectory() as folder:
        persist_s = seconds(lambda: store.persist(str(Path(folder) / PERSISTED)))[0]
        size = sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())
        query = VectorStoreQuery(query_embedding=queries[0], similarity_top_k=TOP_K)
        reload_s = min(
            seconds(lambda: ZeusDBVectorStore.from_persist_dir(folder).query(query))[0] for _ in range(2)
        )
    return [
        (
            f"event loop's stall under 20 concurrent aquery over {count:,} nodes, p99 ms (goal: 20)",
            f"{np.percentile(stalled, 99):.1f}",
        ),
        ("the same, median ms", f"{statistics.median(stalled):.2f}"),
        ("aquery per second", f"{per_second:,.0f}"),
        (f"persist {count:,} nodes ({size / 2**20:.0f} MiB), s", f"{persist_s:.2f}"),
        (f"from_persist_dir of {count:,} nodes and first answer, s (goal: 1.0)", f"{reload_s:.2f}"),
    ]


def shifted(first: int, count: int) -> list[TextNode]:
    """Return the nodes from `first` on."""
    nodes = nodes_of(clustered(min(10_000, count - first), seed=first))
    for i, node in enumerate(nodes):
        node.id_ = f"node-{first + i:08d}"
    return nodes


def table(rows: list[tuple[str, ...]], head: tuple[str, ...]) -> str:
    """Return rows as a Markdown table."""
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--count", type=int, default=10_000, help="nodes for the comparison with the engine")
    parser.add_argument(
        "--others", type=int, default=5_000, help="nodes for the comparison with other stores"
    )
    parser.add_argument(
        "--large", type=int, default=50_000, help="nodes for stalls and reloads; 0 leaves them out"
    )
    parser.add_argument("--write", action="store_true", help=f"write {RESULTS.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    head, rows = beside_others(options.others)
    parts = [
        "# The LlamaIndex adapter\n",
        f"{DIM} dimensions, Python {platform.python_version()}, {sys.platform} {platform.machine()}; "
        "times of the best round. Read the ratios: the machine was shared.\n",
        table(overhead(options.count), ("above the engine", "")),
        "",
        table(rows, head),
        "",
        "Chroma, where it is installed, is on disk all the time and has nothing to persist; its client is still there",
        "when it is read again. FAISS keeps vectors alone: no text, no metadata, so no filters.",
    ]
    if options.large:
        parts += ["", table(stalls(options.large), ("a larger store", ""))]
    text = "\n".join(parts) + "\n"
    print(text)
    if options.write:
        RESULTS.write_text(text)


if __name__ == "__main__":
    main()

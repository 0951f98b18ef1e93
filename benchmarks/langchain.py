"""What the LangChain adapter costs above the engine, beside FAISS, Chroma and InMemoryVectorStore.

    python -m benchmarks.langchain [--count 10000] [--write]

Embeddings are looked up, so what is timed is the store. Rivals that are not installed (``[peers]``) are left out. With
`--write` the tables go to ``benchmarks/results/langchain.md``.
"""

from __future__ import annotations

import argparse
import asyncio
import importlib.metadata
import os
import platform
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import InMemoryVectorStore, VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance
from langchain_zeusdb_vs import ZeusDBVectorStore
from langchain_zeusdb_vs.scores import choose_diverse

from zeusdb_vs import VectorDatabase

DIM = 384
K = 4
RARE = {"page": 7}
"""Matches 1 % of the documents."""
RESULTS = Path(__file__).parent / "results" / "langchain.md"


def clustered(count: int, seed: int = 0) -> np.ndarray:
    """Return vectors around some centres, as embeddings lie, rather than alike in all directions."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((64, DIM))
    return (centres[random.integers(0, 64, count)] + 0.6 * random.standard_normal((count, DIM))).astype(
        np.float32
    )


class Table(Embeddings):
    """Embeddings looked up: text ``"17"`` is row 17. Lists, as every real model returns them."""

    def __init__(self, vectors: np.ndarray) -> None:
        self.rows = vectors.tolist()

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        # Other texts are probes by which a store tells models apart.
        return [self.rows[int(text) if text.isdigit() else 0] for text in texts]

    def embed_query(self, text: str) -> list[float]:
        return self.rows[int(text)]  # type: ignore[no-any-return]


def median_us(call: Callable[[int], object], repeats: int, warm: int = 5) -> float:
    """Return the median time of a call in microseconds; it is told which repeat it is."""
    for number in range(warm):
        call(number)
    times = []
    for number in range(repeats):
        began = time.perf_counter()
        call(number)
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    began = time.perf_counter()
    value = call()
    return time.perf_counter() - began, value


# ---------------------------------------------------------------------------------------------- our own cost


def overheads(vectors: np.ndarray, columns: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what is asked of the adapter, what came out, and what it must reach."""
    count, model = len(columns["texts"]), Table(vectors)
    engine_s, adapter_s = [], []
    for _ in range(3):
        index = VectorDatabase().create("hnsw", dim=DIM)
        engine_s.append(timed(lambda index=index: index.add({**columns, "vectors": vectors[:count]}))[0])
        store = ZeusDBVectorStore(model, dim=DIM)
        adapter_s.append(
            timed(
                lambda store=store: store.add_embeddings(
                    columns["texts"], vectors[:count], columns["metadatas"], columns["ids"]
                )
            )[0]
        )
    ratio = min(adapter_s) / min(engine_s)
    yield f"add {count:,}, embeddings given", f"{ratio:.2f} x the engine ({min(adapter_s):.2f} s)", "<= 1.3 x"

    queries = vectors[count:]
    index = store.index
    for name, filter in (("search", None), ("filtered search, 1 %", RARE)):

        def engine(number: int, filter: Any = filter) -> object:
            query = np.asarray(model.embed_query(str(count + number % len(queries))), np.float32)
            return index.search(query, filter, K, include=("metadata", "text"))

        def adapter(number: int, filter: Any = filter) -> object:
            return store.similarity_search(str(count + number % len(queries)), k=K, filter=filter)

        rounds = [(median_us(engine, 300), median_us(adapter, 300)) for _ in range(5)]
        cost = statistics.median(ours - theirs for theirs, ours in rounds)
        base = statistics.median(theirs for theirs, _ in rounds)
        yield f"{name}, k = {K}: on top of the engine's {base:.0f} us", f"{cost:.0f} us", "<= 60 us"

    random = np.random.default_rng(1)
    rows, query = (
        random.standard_normal((100, 768), dtype=np.float32),
        random.standard_normal(768, dtype=np.float32),
    )
    ours = median_us(lambda _: choose_diverse(query, rows, 20, 0.5), 50) / 1e3
    core_s, chosen = timed(
        lambda: maximal_marginal_relevance(
            query.astype(np.float64), rows.astype(np.float64).tolist(), 0.5, 20
        )
    )
    same = "the same rows" if chosen == choose_diverse(query, rows, 20, 0.5)[0] else "OTHER ROWS"
    yield "MMR, 20 of 100, 768-d", f"{ours:.2f} ms (core's helper {core_s * 1e3:.0f} ms, {same})", "<= 2 ms"


async def loop_lateness(store: ZeusDBVectorStore, count: int) -> float:
    """Return by how many ms an event loop is late at p99 while 20 tasks search."""

    async def searcher(number: int) -> None:
        for step in range(50):
            await store.asimilarity_search(str((number * 50 + step) % count), k=10)

    work = [asyncio.create_task(searcher(number)) for number in range(20)]
    late = []
    while not all(task.done() for task in work):
        began = time.perf_counter()
        await asyncio.sleep(0.001)
        late.append(time.perf_counter() - began - 0.001)
    await asyncio.gather(*work)
    return float(np.percentile(late, 99)) * 1e3


# ---------------------------------------------------------------------------------------------- beside others


def zeusdb(model: Embeddings, folder: Path) -> tuple[Any, Any, Any, Any]:
    return (
        lambda: ZeusDBVectorStore(model, path=folder / "z", dim=DIM, durability="always"),
        lambda filter: {"filter": filter},
        lambda store: store.close(),
        lambda: ZeusDBVectorStore(model, path=folder / "z"),
    )


def faiss(model: Embeddings, folder: Path) -> tuple[Any, Any, Any, Any]:
    import faiss as library
    from langchain_community.docstore.in_memory import InMemoryDocstore
    from langchain_community.vectorstores import FAISS

    # For one query at a time OpenMP's threads cost more than they bring, many times more on a busy machine.
    library.omp_set_num_threads(1)
    return (
        lambda: FAISS(model, library.IndexFlatL2(DIM), InMemoryDocstore(), {}),
        lambda filter: {"filter": filter},
        lambda store: store.save_local(str(folder / "f")),
        lambda: FAISS.load_local(str(folder / "f"), model, allow_dangerous_deserialization=True),
    )


def chroma(model: Embeddings, folder: Path) -> tuple[Any, Any, Any, Any]:
    from langchain_chroma import Chroma

    return (
        lambda: Chroma("documents", model, persist_directory=str(folder / "c")),
        lambda filter: {"filter": filter},
        lambda _: None,
        lambda: Chroma("documents", model, persist_directory=str(folder / "c")),
    )


def inmemory(model: Embeddings, folder: Path) -> tuple[Any, Any, Any, Any]:
    return (
        lambda: InMemoryVectorStore(model),
        lambda filter: {
            "filter": lambda document: all(document.metadata[key] == v for key, v in filter.items())
        },
        lambda store: store.dump(str(folder / "i.json")),
        lambda: InMemoryVectorStore.load(str(folder / "i.json"), model),
    )


RIVALS = {"zeusdb-vs": zeusdb, "FAISS (flat)": faiss, "Chroma": chroma, "InMemoryVectorStore": inmemory}


def compare(name: str, vectors: np.ndarray, columns: dict[str, Any], truth: np.ndarray) -> list[str] | None:
    """Return one row of the table, None where the rival is not installed."""
    count, model = len(columns["texts"]), Table(vectors)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        try:
            make, filtered, persist, reopen = RIVALS[name](model, Path(folder))
        except ImportError:
            return None
        store: VectorStore = make()
        add_s = 0.0
        for start in range(0, count, 5_000):  # Chroma takes no more at a time
            part = {key: values[start : start + 5_000] for key, values in columns.items()}
            add_s += timed(lambda part=part: store.add_texts(**part))[0]
        repeats = 12 if name == "InMemoryVectorStore" else 200
        search = median_us(lambda i: store.similarity_search(str(count + i), k=K), repeats, warm=3)
        narrow = median_us(
            lambda i: store.similarity_search(str(count + i), k=K, **filtered(RARE)), repeats, warm=3
        )
        found = [store.similarity_search(str(count + i), k=K) for i in range(20)]
        full = [len(store.similarity_search(str(count + i), k=K, **filtered(RARE))) for i in range(20)]
        hits = sum(len({d.id for d in row} & set(map(str, truth[i, :K]))) for i, row in enumerate(found))
        persist_s, _ = timed(lambda: persist(store))
        open_s, again = timed(lambda: (reopened := reopen(), reopened.similarity_search(str(count), k=K))[0])
        with suppress(AttributeError):
            again.close()
    return [
        name,
        f"{add_s:.2f} s",
        f"{search:,.0f} us",
        f"{hits / (20 * K):.3f}",
        f"{narrow:,.0f} us",
        f"{statistics.mean(full):.1f} of {K}",
        f"{persist_s * 1e3:,.0f} ms",
        f"{open_s * 1e3:,.0f} ms",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    os.environ.setdefault("ANONYMIZED_TELEMETRY", "False")
    count = arguments.count
    vectors = clustered(count + 400)
    names = [str(i) for i in range(count)]
    columns = {
        "texts": names,
        "metadatas": [{"page": i % 100, "lang": "en"} for i in range(count)],
        "ids": names,
    }
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    # The nearest by cosine; FAISS and Chroma rank by l2, so theirs is measured against that.
    by_cosine = np.argsort(-(units[count : count + 20] @ units[:count].T), axis=1)[:, :K]
    squares = (vectors[:count] ** 2).sum(axis=1)
    by_l2 = np.argsort(squares - 2 * vectors[count : count + 20] @ vectors[:count].T, axis=1)[:, :K]

    lines = ["# LangChain", ""]
    installed = ", ".join(
        f"{p} {_version(p)}" for p in ("langchain-core", "faiss-cpu", "chromadb") if _version(p)
    )
    lines += [
        f"{count:,} documents of {DIM} dimensions, one run; {installed}; Python {platform.python_version()},"
    ]
    lines += [f"{os.cpu_count()} cores. `python -m benchmarks.langchain --write` writes this page.", ""]
    lines += ["| the adapter | measured | must reach |", "|---|---|---|"]
    for row in overheads(vectors, columns):
        lines.append(f"| {' | '.join(row)} |")
    store = ZeusDBVectorStore(Table(vectors), dim=DIM)
    store.add_embeddings(names, vectors[:count], columns["metadatas"], names)
    store.similarity_search("1", k=10)
    late = asyncio.run(loop_lateness(store, count))
    lines.append(f"| an event loop's lateness at p99 under 20 searches | {late:.1f} ms | <= 20 ms |")
    lines += [
        "",
        f"| store | add {count:,} | search, k = {K} | recall@{K} | filtered, 1 % | results then | persist |",
    ]
    lines[-1] += " reopen and search |"
    lines.append("|---|---|---|---|---|---|---|---|")
    for name in RIVALS:
        row = compare(
            name, vectors, columns, by_cosine if name in ("zeusdb-vs", "InMemoryVectorStore") else by_l2
        )
        if row is not None:
            lines.append(f"| {' | '.join(row)} |")
    load = (
        f" on a machine that had other work (load {os.getloadavg()[0]:.1f})"
        if hasattr(os, "getloadavg")
        else ""
    )
    lines += ["", f"All stores in one run{load}: compare rows, not figures with other pages."]
    lines += [
        "Persist: what it takes after the adds until all is safe on disk; zeusdb-vs and Chroma write while adding."
    ]
    lines += [
        "Reopen: in the same process, where Chroma's client is still there. Filtered: a field that 1 % of the"
    ]
    lines += ["documents match, with each store's default options."]
    page = "\n".join(lines) + "\n"
    sys.stdout.write(page)
    if arguments.write:
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(page, encoding="utf-8")


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


if __name__ == "__main__":
    main()

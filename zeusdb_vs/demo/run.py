"""The demo itself, step by step; every figure it prints is measured in the run that prints it."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from zeusdb_vs import ForeignDirectoryError, StorageError, ZeusDBError
from zeusdb_vs.demo.answers import QUESTIONS, TOP_K, Answer, answer, differences
from zeusdb_vs.demo.corpus import Entry, read_compiled, read_corpus, source_files
from zeusdb_vs.demo.embedder import Embedder, HashingEmbedder, SentenceTransformerEmbedder, words
from zeusdb_vs.demo.terminal import Advance, Terminal

if TYPE_CHECKING:
    from zeusdb_vs import HNSWIndex

MADE_BY = "zeusdb-vs demo"

_RECALL_QUERIES = 300
_RECALL_K = 10
_TIMED_ROUNDS = 25
_MIB = 1024.0 * 1024.0


def run_demo(path: Path, terminal: Terminal, *, model: str | None = None, limit: int | None = None) -> bool:
    """Index the standard library's docstrings, ask, save, ask again from a second process, compare.

    Parameters
    ----------
    path : Path
        Where to save; an index that an earlier demo left there is replaced, anything else is left alone.
    terminal : Terminal
        Where to print.
    model : str, optional
        A sentence-transformers model to embed with; the lexical hashing embedder when omitted.
    limit : int, optional
        Index only about so many docstrings, taken evenly from all over the library.

    Returns
    -------
    bool
        Whether the second process gave the same answers.

    Raises
    ------
    ForeignDirectoryError
        If `path` holds something that the demo did not make.
    ZeusDBError
        If a step fails.
    """
    _check_path(path)
    embedder = HashingEmbedder() if model is None else SentenceTransformerEmbedder(model)
    terminal.heading("Reading the docstrings of this machine's Python standard library")
    entries = _sample(_read(terminal), limit)
    vectors = _embed(entries, embedder, terminal)

    terminal.heading("Building the index")
    index = _build(entries, embedder, vectors, terminal)

    terminal.heading("Questions")
    answers = answer(index, embedder)
    _show_answers(index, answers, terminal)
    _measure_searches(index, embedder, terminal)
    _measure_recall(index, entries, embedder, terminal)

    terminal.heading("The same questions, from the saved directory, in a second process")
    _save(index, path, terminal)
    is_same = _ask_again(path, answers, model, terminal)
    if is_same:
        # From `make demo` the command lies in .venv and not on the path.
        command = "zeusdb-vs" if shutil.which("zeusdb-vs") else f"{sys.executable} -m zeusdb_vs"
        terminal.note(f'Ask it yourself: {command} search {path} "how do I compress a file"')
    return is_same


def _check_path(path: Path) -> None:
    """Refuse a place that holds anything but an index of the demo's, before any work is done."""
    from zeusdb_vs import VectorDatabase

    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    try:
        made_by = VectorDatabase().load(path).get_all_metadata().get("made_by")
    except StorageError as error:
        raise ForeignDirectoryError(
            f"{path} holds something that the demo did not make ({error}); name another place: --path"
        ) from error
    if made_by != MADE_BY:
        raise ForeignDirectoryError(
            f"{path} holds an index that the demo did not make and is left alone; name another place: --path"
        )


def _read(terminal: Terminal) -> list[Entry]:
    started = time.perf_counter()
    entries: list[Entry] = []
    with terminal.progress("files", len(source_files()) + bool(read_compiled())) as advance:
        for _, found in read_corpus():
            entries += found
            advance(1)
    elapsed_s = time.perf_counter() - started
    if not entries:
        raise ZeusDBError("this Python comes without the sources of its standard library: nothing to index")
    kinds = Counter(entry.metadata["kind"] for entry in entries)
    plurals = {"module": "modules", "class": "classes", "function": "functions", "method": "methods"}
    counted = ", ".join(f"{kinds[kind]:,} {plural}" for kind, plural in plurals.items())
    terminal.fact("docstrings", f"{len(entries):,}: {counted}")
    terminal.fact("read in", f"{elapsed_s:.1f} s")
    return entries


def _sample(entries: list[Entry], limit: int | None) -> list[Entry]:
    step = 1 if limit is None else max(1, len(entries) // limit)
    return entries[::step][:limit]


def _embed(
    entries: Sequence[Entry], embedder: HashingEmbedder | SentenceTransformerEmbedder, terminal: Terminal
) -> NDArray[np.float32]:
    texts = [entry.embedded_text for entry in entries]
    started = time.perf_counter()
    if isinstance(embedder, HashingEmbedder):
        embedder.fit(texts)
        terminal.note(
            "Embedder: hashed words, word pairs and letter groups. It is lexical: it finds shared words and "
            "spellings, not meanings. For meanings: --embedder with a sentence-transformers model."
        )
    with terminal.progress("embedded", len(texts)) as advance:
        vectors = embedder.embed(texts, advance)
    elapsed_s = time.perf_counter() - started
    terminal.fact("vectors", f"{len(vectors):,} x {embedder.dim}, float32, {vectors.nbytes / _MIB:.1f} MiB")
    terminal.fact("embedded in", f"{elapsed_s:.1f} s")
    return vectors


def _build(
    entries: Sequence[Entry], embedder: Embedder, vectors: NDArray[np.float32], terminal: Terminal
) -> HNSWIndex:
    from zeusdb_vs import VectorDatabase

    before = _resident_bytes()
    started = time.perf_counter()
    index = VectorDatabase().create("hnsw", dim=embedder.dim, space="cosine", expected_size=len(entries))
    records = {
        "ids": [entry.id for entry in entries],
        "vectors": vectors,
        "metadatas": [entry.metadata for entry in entries],
        "texts": [entry.text for entry in entries],
    }
    with terminal.progress("records", len(entries)) as advance:
        result = index.add(records, on_error="raise", progress=_from_totals(advance))
    elapsed_s = time.perf_counter() - started
    after = _resident_bytes()
    index.add_metadata(
        {"made_by": MADE_BY, "python": sys.version.split()[0], "embedder": embedder.to_config()}
    )
    terminal.fact("index", index.info())
    terminal.fact("added", f"{result.summary()} in {elapsed_s:.2f} s, loading or compiling kernels included")
    terminal.fact("memory of the index", f"{index.get_stats()['total_memory_bytes'] / _MIB:.1f} MiB")
    if before is not None and after is not None:
        terminal.fact("growth of the process", f"{(after - before) / _MIB:.1f} MiB, compiler included")
    return index


def _from_totals(advance: Advance) -> Advance:
    """Turn "so many done in all", which `add` reports, into "so many more"."""
    seen = 0

    def report(total: int) -> None:
        nonlocal seen
        advance(total - seen)
        seen = total

    return report


def _show_answers(index: HNSWIndex, answers: Sequence[Answer], terminal: Terminal) -> None:
    for question, hits in zip(QUESTIONS, answers, strict=True):
        condition = ""
        if question.filter:
            condition = f"  where {json.dumps(question.filter)} ({index.count(question.filter):,} match)"
        terminal.note(f'"{question.text}"{condition}')
        records = {
            record["id"]: record
            for record in index.get_records([name for name, _ in hits], include=("metadata", "text"))
        }
        terminal.table(
            ("distance", "kind", "name", "summary"),
            [
                (f"{score:.3f}", records[name]["metadata"]["kind"], name, summary(records[name]["text"]))
                for name, score in hits
            ],
        )


def _measure_searches(index: HNSWIndex, embedder: Embedder, terminal: Terminal) -> None:
    """Time single searches, embedding apart: the median over all questions, warm."""
    vectors = embedder.embed([question.text for question in QUESTIONS])
    elapsed_s = []
    for _ in range(_TIMED_ROUNDS):
        for question, vector in zip(QUESTIONS, vectors, strict=True):
            started = time.perf_counter()
            index.search(vector, filter=question.filter, top_k=TOP_K)
            elapsed_s.append(time.perf_counter() - started)
    median_us = statistics.median(elapsed_s) * 1e6
    terminal.fact("one search", f"{median_us:,.0f} us (median of {len(elapsed_s)}, warm, embedding apart)")


def _measure_recall(
    index: HNSWIndex, entries: Sequence[Entry], embedder: Embedder, terminal: Terminal
) -> None:
    """Compare with exact search, asking with the first sentences of docstrings from all over the corpus."""
    step = max(1, len(entries) // _RECALL_QUERIES)
    queries = embedder.embed([question_about(entry) for entry in entries[::step]])
    _, found = index.search_arrays(queries, top_k=_RECALL_K)
    _, true = index.search_arrays(queries, top_k=_RECALL_K, exact=True)
    terminal.fact(
        f"recall@{_RECALL_K}",
        f"{recall(found, true):.4f} against exact search over {len(queries)} docstring summaries",
    )


def recall(found: NDArray[np.float32], true: NDArray[np.float32]) -> float:
    """Share of the true nearest that were found, ties allowed.

    Parameters
    ----------
    found, true : (q, k) float32 arrays
        Distances, nearest first, padded with inf: of the search to judge, and of the exact one.

    Returns
    -------
    float
        Mean over the queries, 0 to 1.
    """
    wanted = np.isfinite(true)
    farthest = np.where(wanted, true, -np.inf).max(axis=1, keepdims=True)
    tolerance = 1e-6 * np.maximum(1.0, np.abs(farthest))  # one distance, added up in two orders
    hits = (np.isfinite(found) & (found <= farthest + tolerance)).sum(axis=1)
    return float(np.mean(hits / np.maximum(1, wanted.sum(axis=1))))


def _save(index: HNSWIndex, path: Path, terminal: Terminal) -> None:
    started = time.perf_counter()
    index.save(path)
    elapsed_s = time.perf_counter() - started
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    terminal.fact("saved", f"{path}, {size / _MIB:.1f} MiB in {elapsed_s:.2f} s")


def _ask_again(path: Path, answers: Sequence[Answer], model: str | None, terminal: Terminal) -> bool:
    command = [sys.executable, "-m", "zeusdb_vs.demo.answers", str(path)]
    if model is not None:
        command += ["--embedder", model]
    started = time.perf_counter()
    process = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    elapsed_s = time.perf_counter() - started
    if process.returncode != 0:
        raise ZeusDBError(f"the second process failed:\n{process.stderr.strip()}")
    report: dict[str, Any] = json.loads(process.stdout)
    terminal.fact("loaded in", f"{report['load_s']:.2f} s")
    terminal.fact("answered in", f"{report['answer_s']:.2f} s, first search and kernel loading included")
    terminal.fact("whole process", f"{elapsed_s:.2f} s")
    different = differences(answers, [[(name, score) for name, score in hits] for hits in report["answers"]])
    if different:
        asked = "; ".join(repr(QUESTIONS[position].text) for position in different)
        terminal.verdict(False, f"the second process answered these differently: {asked}")
    else:
        hits = sum(map(len, answers))
        terminal.verdict(True, f"the same answers: {len(answers)} questions, {hits} hits, ids and distances")
    return not different


def summary(text: str) -> str:
    """Return the first paragraph of a docstring on one line."""
    return " ".join(text.partition("\n\n")[0].split())


def question_about(entry: Entry) -> str:
    """Return a docstring's summary where it holds words, the object's name where it does not."""
    text = summary(entry.text)
    return text if words(text) else entry.id


def _resident_bytes() -> int | None:
    """Memory of this process that is in RAM now; None where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")

"""What calls give back: the outcome of an add, of an explained search, and the figures of an index."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict


class AddError(NamedTuple):
    """One record that `add` did not store.

    Attributes
    ----------
    position : int
        Its place in the input, counted from 0.
    id : str or None
        Its id, None when it had none or none that could be used.
    reason : str
        What is wrong with it.
    """

    position: int
    id: str | None
    reason: str

    def __str__(self) -> str:
        return f"record {self.position}{'' if self.id is None else f' (id {self.id!r})'}: {self.reason}"


@dataclass(slots=True, repr=False)
class AddResult:
    """What an `add` did.

    Attributes
    ----------
    total_inserted : int
        Records now in the index through this call; of duplicates inside the input the last one counts.
    total_errors : int
        Records refused.
    errors : list of AddError
        Why, by position.
    vector_shape : tuple of int
        Records given and the index's width.
    ids : list of str
        Ids of the records stored, generated ones included, in input order.
    """

    total_inserted: int
    total_errors: int
    errors: list[AddError]
    vector_shape: tuple[int, int]
    ids: list[str]

    def is_success(self) -> bool:
        """Return whether every record went in."""
        return self.total_errors == 0

    def summary(self) -> str:
        """Return the counts as a sentence: ``"5 inserted, 0 errors"``."""
        return f"{self.total_inserted} inserted, {self.total_errors} errors"

    def __repr__(self) -> str:
        inserted, errors = self.total_inserted, self.total_errors
        return f"AddResult(inserted={inserted}, errors={errors}, shape={self.vector_shape})"


@dataclass(slots=True)
class SearchExplanation:
    """How a search was answered.

    Attributes
    ----------
    path : str
        ``"empty"``; ``"exact"``: every matching vector compared; ``"scan"``: every matching code compared
        and the best reranked; ``"walk"``: through the graph; ``"filtered walk"``: through the graph until
        enough that match are found; ``"two-hop"``: through the matching part of the graph; with
        ``", then scan"`` behind it where a walk came out short.
    approximate : bool
        Whether a nearer record may have been missed, or scores are approximate.
    scores : str
        ``"exact"``: distances to the vectors as they were given; ``"decoded"``: to vectors decoded from 8-bit
        codes; ``"by code"``: estimated from codes.
    reranked : int
        Candidates of a query that were reranked at first; 0 where none were.
    matches : int
        Records that could be returned.
    total : int
        Records in the index.
    top_k : int
        Neighbors asked for.
    ef_search : int or None
        Width of the walk, None where nothing was walked.
    filter : str or None
        The filter as given.
    conditions : list of dict
        How each condition of the filter was answered; see `FieldsView.report`.
    distances, hops : int or None
        Distances computed and graph rows read, for all queries together; None where they are not counted.
    codes : str
        What walks and scans compare before the rerank: ``"4-bit"``, ``"4-bit rotated"``, ``"8-bit"``,
        ``"8-bit rotated"``, or ``"float32"`` where codes would lose neighbors or the index is small; of a quantized
        index its codes, ``"pq 48x8 rotated"`` say.
    kept : float or None
        Share of the true 10 nearest that these codes kept when they were chosen, measured on the index's own
        vectors; None for float32 and after a load.
    mask_s, search_s, elapsed_s : float
        Seconds spent on the filter, on the search and its hits, and altogether.
    """

    path: str
    approximate: bool
    scores: str
    reranked: int
    matches: int
    total: int
    top_k: int
    ef_search: int | None
    filter: str | None
    conditions: list[dict[str, Any]]
    distances: int | None
    hops: int | None
    codes: str
    kept: float | None
    mask_s: float
    search_s: float
    elapsed_s: float


class ExplainedHits(list[Any]):
    """The hits of a search made with ``explain=True``: an ordinary list with an `explanation`.

    Attributes
    ----------
    explanation : SearchExplanation
    """

    def __init__(self, hits: list[Any], explanation: SearchExplanation) -> None:
        super().__init__(hits)
        self.explanation = explanation


class IndexStats(TypedDict):
    """Figures of an index, typed; sizes in bytes."""

    index_type: str
    dimension: int
    space: str
    m: int
    ef_construction: int
    expected_size: int
    total_vectors: int
    graph_nodes: int
    stranded_graph_nodes: int
    raw_vectors_stored: int
    quantized_codes_stored: int
    quantization_type: str
    storage_mode: str
    storage_mode_description: str
    quantization_trained: bool
    training_progress: float
    training_vectors_needed: int
    rerank_default_fetch: int
    thread_safety: str
    total_memory_bytes: int
    memory_bytes: dict[str, int]
    mapped_bytes: int


class ReadBenchmark(TypedDict):
    """Outcome of `benchmark_concurrent_reads`: seconds, queries per second, and their ratio."""

    sequential_time: float
    parallel_time: float
    sequential_qps: float
    parallel_qps: float
    speedup: float
    threads_used: int

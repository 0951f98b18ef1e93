"""Every way to search a store, each with a native async twin.

A search is three steps: check the arguments, embed, ask the engine. The twins share the first and the last; the
async one awaits the embedding and asks the engine in a worker thread, so that the event loop is never held up.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from copy import deepcopy
from dataclasses import dataclass
from math import isnan
from typing import Any, TypeVar

import numpy as np
from langchain_core.documents import Document
from langchain_core.runnables.config import ContextThreadPoolExecutor
from numpy.typing import NDArray

from langchain_zeusdb_vs.core import (
    PARTS,
    PARTS_AND_VECTOR,
    Hit,
    StoreBase,
    as_document,
    check_count,
    check_text,
    refuse_unknown,
)
from langchain_zeusdb_vs.embedders import as_matrix, as_vector
from langchain_zeusdb_vs.filters import Condition, Filter, check_filter, read_filter
from langchain_zeusdb_vs.scores import choose_diverse
from zeusdb_vs import ArgumentTypeError, ConfigurationError, HNSWIndex

Scored = list[tuple[Document, float]]
Vector = NDArray[np.float32]
Answer = TypeVar("Answer")

OPTIONS = ("k", "filter", "ef_search", "exact", "max_distance", "score_key")
_GIVEN = "the embedding given"
_FIRST_LOOK = 64
_LAST_LOOK = 4_096
"""A callable filter is asked about this many of the nearest at most; then about every record."""
_EMBED_THREADS = 8


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """The checked arguments of one search."""

    k: int
    condition: Condition
    ef_search: int | None
    exact: bool
    max_distance: float | None
    score_key: str | None


class _Workers:
    """The threads in which all stores search for event loops.

    Two: each running thread may keep an event loop waiting for the interpreter lock, 5 ms at a time, and the engine
    itself goes to the cores without it.
    """

    def __init__(self) -> None:
        self.renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self.renew)

    def renew(self) -> None:
        self.executor = ThreadPoolExecutor(max_workers=2, thread_name_prefix="langchain_zeusdb_vs")


_workers = _Workers()


async def _in_worker(ask: Callable[[], Answer]) -> Answer:
    context = copy_context()
    return await asyncio.get_running_loop().run_in_executor(_workers.executor, context.run, ask)


class SearchMixin(StoreBase):
    """The searches of `ZeusDBVectorStore`."""

    # ------------------------------------------------------------------------------------------ by text

    def similarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """Return the documents most similar to a text, nearest first.

        Parameters
        ----------
        query : str
        k : int
            Documents wanted, at least 1; there are always ``min(k, matching documents)``.
        filter : Filter, optional
            Only documents that match are ranked.
        **kwargs
            ``ef_search`` (int: width of the walk, more finds more of the true nearest), ``exact`` (bool: compare
            with every matching document), ``max_distance`` (float: leave out what is farther), ``score_key``
            (str: put each distance into the metadata under this key).

        Raises
        ------
        TypeError
            An argument is unknown or of the wrong type.
        ValueError
            `k` is below 1, or the filter cannot be understood.
        """
        return self._documents(self._hits_for(query, self._plan(k, filter, kwargs)), kwargs)

    async def asimilarity_search(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search`, without holding up the event loop."""
        return await self._aask(query, self._plan(k, filter, kwargs), self._documents, kwargs)

    def similarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """As `similarity_search`, each document with its distance: lower is more similar, in every space."""
        return self._scored(self._hits_for(query, self._plan(k, filter, kwargs)), kwargs)

    async def asimilarity_search_with_score(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """As `similarity_search_with_score`, without holding up the event loop."""
        return await self._aask(query, self._plan(k, filter, kwargs), self._scored, kwargs)

    def similarity_search_with_relevance_scores(
        self,
        query: str,
        k: int = 4,
        score_threshold: float | None = None,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> Scored:
        """As `similarity_search`, each document with its relevance from 0 to 1: higher is more similar.

        Parameters
        ----------
        query, k, filter, **kwargs
            As for `similarity_search`. What ``score_key`` names is then the relevance.
        score_threshold : float, optional
            Leave out documents less relevant than this.
        """
        least = _check_threshold(score_threshold)
        return self._relevant(self._hits_for(query, self._plan(k, filter, kwargs)), kwargs, least)

    async def asimilarity_search_with_relevance_scores(
        self,
        query: str,
        k: int = 4,
        score_threshold: float | None = None,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> Scored:
        """As `similarity_search_with_relevance_scores`, without holding up the event loop."""
        least = _check_threshold(score_threshold)
        return await self._aask(query, self._plan(k, filter, kwargs), self._relevant, kwargs, least)

    def similarity_search_with_vectors(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, Vector]]:
        """As `similarity_search`, each document with its vector, float32 (dim,)."""
        return _with_vectors(self._hits_for(query, self._plan(k, filter, kwargs), PARTS_AND_VECTOR), kwargs)

    async def asimilarity_search_with_vectors(
        self, query: str, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[tuple[Document, Vector]]:
        """As `similarity_search_with_vectors`, without holding up the event loop."""
        plan = self._plan(k, filter, kwargs)
        return await self._aask(query, plan, _with_vectors, kwargs, parts=PARTS_AND_VECTOR)

    # ------------------------------------------------------------------------------------------ by vector

    def similarity_search_by_vector(
        self, embedding: Any, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search`, for an embedding: a sequence of floats or an array of shape (dim,)."""
        plan = self._plan(k, filter, kwargs)
        return self._documents(self._find(as_vector(embedding, _GIVEN), plan), kwargs)

    async def asimilarity_search_by_vector(
        self, embedding: Any, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search_by_vector`, without holding up the event loop."""
        plan = self._plan(k, filter, kwargs)
        vector = as_vector(embedding, _GIVEN)
        return await _in_worker(lambda: self._documents(self._find(vector, plan), kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: Any, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """As `similarity_search_with_score`, for an embedding."""
        plan = self._plan(k, filter, kwargs)
        return self._scored(self._find(as_vector(embedding, _GIVEN), plan), kwargs)

    async def asimilarity_search_with_score_by_vector(
        self, embedding: Any, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """As `similarity_search_with_score_by_vector`, without holding up the event loop."""
        plan = self._plan(k, filter, kwargs)
        vector = as_vector(embedding, _GIVEN)
        return await _in_worker(lambda: self._scored(self._find(vector, plan), kwargs))

    # ------------------------------------------------------------------------------------------ many at once

    def similarity_search_batch(
        self,
        queries: Iterable[str] | None = None,
        k: int = 4,
        filter: Filter | None = None,
        *,
        vectors: Any = None,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """Search for several texts in one call of the engine.

        Parameters
        ----------
        queries : iterable of str, optional
            Each is embedded as a query, several at a time.
        k, filter, **kwargs
            As for `similarity_search`, for all of them.
        vectors : array_like, shape (q, dim), optional
            Instead of `queries`.

        Returns
        -------
        list of list of Document
            One list for each query, in their order.
        """
        found = self.similarity_search_batch_with_score(queries, k, filter, vectors=vectors, **kwargs)
        return [[document for document, _ in row] for row in found]

    async def asimilarity_search_batch(
        self,
        queries: Iterable[str] | None = None,
        k: int = 4,
        filter: Filter | None = None,
        *,
        vectors: Any = None,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """As `similarity_search_batch`, without holding up the event loop."""
        found = await self.asimilarity_search_batch_with_score(queries, k, filter, vectors=vectors, **kwargs)
        return [[document for document, _ in row] for row in found]

    def similarity_search_batch_with_score(
        self,
        queries: Iterable[str] | None = None,
        k: int = 4,
        filter: Filter | None = None,
        *,
        vectors: Any = None,
        **kwargs: Any,
    ) -> list[Scored]:
        """As `similarity_search_batch`, each document with its distance."""
        plan = self._plan(k, filter, kwargs)
        texts, matrix = _read_queries(queries, vectors)
        if texts:
            workers = min(_EMBED_THREADS, len(texts))
            with ContextThreadPoolExecutor(max_workers=workers) as executor:
                matrix = _stacked(list(executor.map(self._embed_query, texts)))
        return [self._scored(hits, kwargs) for hits in self._find_many(matrix, plan)]

    async def asimilarity_search_batch_with_score(
        self,
        queries: Iterable[str] | None = None,
        k: int = 4,
        filter: Filter | None = None,
        *,
        vectors: Any = None,
        **kwargs: Any,
    ) -> list[Scored]:
        """As `similarity_search_batch_with_score`, without holding up the event loop."""
        plan = self._plan(k, filter, kwargs)
        texts, matrix = _read_queries(queries, vectors)
        if texts:
            gate = asyncio.Semaphore(_EMBED_THREADS)

            async def embed(text: str) -> Vector:
                async with gate:
                    return await self._aembed_query(text)

            matrix = _stacked(await asyncio.gather(*map(embed, texts)))
        return await _in_worker(
            lambda: [self._scored(hits, kwargs) for hits in self._find_many(matrix, plan)]
        )

    # ------------------------------------------------------------------------------------------ MMR

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """Return documents similar to a text and different from one another.

        Parameters
        ----------
        query : str
        k : int
            Documents wanted; there are always ``min(k, matching documents)``.
        fetch_k : int
            How many of the nearest to choose from; at least `k`.
        lambda_mult : float
            From 0 (most diverse) to 1 (nearest).
        filter, **kwargs
            As for `similarity_search`.
        """
        found = self.max_marginal_relevance_search_with_score(
            query, k, fetch_k, lambda_mult, filter, **kwargs
        )
        return [document for document, _ in found]

    async def amax_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, without holding up the event loop."""
        found = await self.amax_marginal_relevance_search_with_score(
            query, k, fetch_k, lambda_mult, filter, **kwargs
        )
        return [document for document, _ in found]

    def max_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> Scored:
        """As `max_marginal_relevance_search`, each document with its distance to the text."""
        plan = self._diverse_plan(k, fetch_k, lambda_mult, filter, kwargs)
        vector = None if self._index is None else self._embed_query(query)
        return self._scored(self._find_diverse(vector, plan, k, lambda_mult), kwargs)

    async def amax_marginal_relevance_search_with_score(
        self,
        query: str,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> Scored:
        """As `max_marginal_relevance_search_with_score`, without holding up the event loop."""
        plan = self._diverse_plan(k, fetch_k, lambda_mult, filter, kwargs)
        vector = None if self._index is None else await self._aembed_query(query)
        return await _in_worker(
            lambda: self._scored(self._find_diverse(vector, plan, k, lambda_mult), kwargs)
        )

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Any,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for an embedding."""
        plan = self._diverse_plan(k, fetch_k, lambda_mult, filter, kwargs)
        return self._documents(self._find_diverse(as_vector(embedding, _GIVEN), plan, k, lambda_mult), kwargs)

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Any,
        k: int = 4,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search_by_vector`, without holding up the event loop."""
        plan = self._diverse_plan(k, fetch_k, lambda_mult, filter, kwargs)
        vector = as_vector(embedding, _GIVEN)
        return await _in_worker(
            lambda: self._documents(self._find_diverse(vector, plan, k, lambda_mult), kwargs)
        )

    # ------------------------------------------------------------------------------------------ arguments

    def _plan(self, k: Any, filter: Filter | None, options: dict[str, Any]) -> SearchPlan:
        """Check the arguments of a search; what the engine checks is left to it, where there is an index."""
        self._check_open()
        if options:
            unknown = {name: value for name, value in options.items() if name not in OPTIONS}
            refuse_unknown(unknown, OPTIONS, "a search")
        score_key = options.get("score_key")
        if score_key is not None:
            check_text(score_key, "score_key")
        plan = SearchPlan(
            k if type(k) is int and k > 0 else check_count(k, "k"),
            read_filter(filter),
            options.get("ef_search", self._ef_search),
            options.get("exact", False),
            options.get("max_distance"),
            score_key,
        )
        if self._index is None:
            check_filter(plan.condition)
        return plan

    def _diverse_plan(
        self, k: Any, fetch_k: Any, lambda_mult: Any, filter: Filter | None, options: dict[str, Any]
    ) -> SearchPlan:
        wanted, fetched = check_count(k, "k"), check_count(fetch_k, "fetch_k")
        if fetched < wanted:
            raise ConfigurationError(f"fetch_k must be at least k: got fetch_k={fetched}, k={wanted}")
        _check_share(lambda_mult, "lambda_mult")
        return self._plan(fetched, filter, options)

    # ------------------------------------------------------------------------------------------ engine

    def _hits_for(self, query: str, plan: SearchPlan, parts: Sequence[str] = PARTS) -> list[Hit]:
        if self._index is None:
            check_text(query, "query")
            return []
        return self._find(self._embed_query(query), plan, parts)

    async def _aask(
        self,
        query: str,
        plan: SearchPlan,
        finish: Callable[..., Answer],
        *arguments: Any,
        parts: Sequence[str] = PARTS,
    ) -> Answer:
        """Embed, then search and build the answer in a worker."""
        if self._index is None:
            check_text(query, "query")
            return finish([], *arguments)
        vector = await self._aembed_query(query)
        return await _in_worker(lambda: finish(self._find(vector, plan, parts), *arguments))

    def _find(self, vector: Vector, plan: SearchPlan, parts: Sequence[str] = PARTS) -> list[Hit]:
        index = self._index
        if index is None:
            return []
        condition = plan.condition
        if condition.predicates:
            return self._find_accepted(index, vector, plan, parts)
        return index.search(
            vector,
            condition.tree,
            plan.k,
            plan.ef_search,
            include=parts,
            max_distance=plan.max_distance,
            exact=plan.exact,
        )

    def _find_many(self, vectors: NDArray[np.float32], plan: SearchPlan) -> list[list[Hit]]:
        index = self._index
        if index is None or len(vectors) == 0:
            return [[] for _ in vectors]
        if plan.condition.predicates:
            return [self._find_accepted(index, vector, plan, PARTS) for vector in vectors]
        return index.search(
            vectors,
            plan.condition.tree,
            plan.k,
            plan.ef_search,
            include=PARTS,
            max_distance=plan.max_distance,
            exact=plan.exact,
        )

    def _find_accepted(
        self, index: HNSWIndex, vector: Vector, plan: SearchPlan, parts: Sequence[str]
    ) -> list[Hit]:
        """Find the nearest that a callable accepts: look at ever more of the nearest, at last at every record."""
        holds, tree = plan.condition.holds, plan.condition.tree
        verdicts: dict[str, bool] = {}
        looked_at = max(_FIRST_LOOK, 4 * plan.k)
        while looked_at <= _LAST_LOOK:
            hits = index.search(
                vector,
                tree,
                looked_at,
                plan.ef_search,
                include=parts,
                max_distance=plan.max_distance,
                exact=plan.exact,
            )
            accepted = []
            for hit in hits:
                if hit["id"] not in verdicts:
                    verdicts[hit["id"]] = bool(holds(_copied(hit)))
                if verdicts[hit["id"]]:
                    accepted.append(hit)
                    if len(accepted) == plan.k:
                        break
            if len(accepted) == plan.k or len(hits) < looked_at:
                return accepted
            looked_at *= 8
        ids = [record["id"] for record in self._matching(index, plan.condition)]
        return index.search(
            vector,
            tree,
            plan.k,
            plan.ef_search,
            include=parts,
            max_distance=plan.max_distance,
            exact=plan.exact,
            ids=ids,
        )

    def _find_diverse(self, vector: Vector | None, plan: SearchPlan, k: int, lambda_mult: float) -> list[Hit]:
        if vector is None:
            return []
        hits = self._find(vector, plan, PARTS_AND_VECTOR)
        if not hits:
            return []
        chosen, _ = choose_diverse(vector, np.stack([hit["vector"] for hit in hits]), k, lambda_mult)
        return [hits[row] for row in chosen]

    # ------------------------------------------------------------------------------------------ answers

    @staticmethod
    def _documents(hits: list[Hit], options: dict[str, Any]) -> list[Document]:
        if "score_key" not in options:
            return [as_document(hit) for hit in hits]
        return [_document(hit, options) for hit in hits]

    @staticmethod
    def _scored(hits: list[Hit], options: dict[str, Any]) -> Scored:
        return [(_document(hit, options), hit["score"]) for hit in hits]

    def _relevant(self, hits: list[Hit], options: dict[str, Any], least: float | None) -> Scored:
        relevance = self._select_relevance_score_fn()
        scored = []
        for hit in hits:
            hit["score"] = relevance(hit["score"])
            if least is None or hit["score"] >= least:
                scored.append((_document(hit, options), hit["score"]))
        return scored


def _copied(hit: Hit) -> Document:
    """Return a hit as a document that a callable may do with as it likes."""
    return as_document({**hit, "metadata": deepcopy(hit["metadata"])})


def _with_vectors(hits: list[Hit], options: dict[str, Any]) -> list[tuple[Document, Vector]]:
    return [(_document(hit, options), hit["vector"]) for hit in hits]


def _document(hit: Hit, options: dict[str, Any]) -> Document:
    document = as_document(hit)
    key = options.get("score_key")
    if key is not None:
        document.metadata[key] = hit["score"]
    return document


def _stacked(vectors: Sequence[Vector]) -> NDArray[np.float32]:
    return as_matrix(vectors, len(vectors), "the embedding model")


def _read_queries(queries: Iterable[str] | None, vectors: Any) -> tuple[list[str], NDArray[np.float32]]:
    if (queries is None) == (vectors is None):
        raise ArgumentTypeError("similarity_search_batch takes queries or vectors=, one of the two")
    if queries is None:
        rows = vectors if isinstance(vectors, np.ndarray) else list(vectors)
        return [], as_matrix(rows, len(rows), _GIVEN)
    if isinstance(queries, str):
        raise ArgumentTypeError("queries must be a list of str, got one str; similarity_search takes one")
    return [check_text(query, "query") for query in queries], np.empty((0, 0), np.float32)


def _check_share(value: Any, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.number):
        raise ArgumentTypeError(f"{what} must be a number, got {type(value).__name__}: {value!r:.80}")
    if isnan(value) or not 0 <= value <= 1:
        raise ConfigurationError(f"{what} must be from 0 to 1, got {value!r}")
    return float(value)


def _check_threshold(value: Any) -> float | None:
    return None if value is None else _check_share(value, "score_threshold")

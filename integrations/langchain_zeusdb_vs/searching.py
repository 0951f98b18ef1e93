"""Every way to search a store, by text, by vector and for many at once, each with a native async twin."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from langchain_core.documents import Document
from langchain_core.runnables.config import ContextThreadPoolExecutor
from numpy.typing import NDArray

from langchain_zeusdb_vs.asking import GIVEN, Scored, Vector, as_answer
from langchain_zeusdb_vs.core import PARTS_AND_VECTOR, Hit, check_share, check_text
from langchain_zeusdb_vs.diversity import DiverseSearchMixin
from langchain_zeusdb_vs.embedders import as_matrix, as_vector
from langchain_zeusdb_vs.filters import Filter
from langchain_zeusdb_vs.workers import in_worker
from zeusdb_vs import ArgumentTypeError

_EMBED_THREADS = 8


class SearchMixin(DiverseSearchMixin):
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
            with every matching document), ``max_distance`` (float: leave out what is farther), ``strict`` (bool:
            raise where the filter orders values that do not compare, such as text and numbers, which otherwise
            do not match), ``score_key`` (str: put each distance into the metadata under this key).

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
        return self._documents(self._find(as_vector(embedding, GIVEN), plan), kwargs)

    async def asimilarity_search_by_vector(
        self, embedding: Any, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> list[Document]:
        """As `similarity_search_by_vector`, without holding up the event loop."""
        plan = self._plan(k, filter, kwargs)
        vector = as_vector(embedding, GIVEN)
        return await in_worker(lambda: self._documents(self._find(vector, plan), kwargs))

    def similarity_search_with_score_by_vector(
        self, embedding: Any, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """As `similarity_search_with_score`, for an embedding."""
        plan = self._plan(k, filter, kwargs)
        return self._scored(self._find(as_vector(embedding, GIVEN), plan), kwargs)

    async def asimilarity_search_with_score_by_vector(
        self, embedding: Any, k: int = 4, filter: Filter | None = None, **kwargs: Any
    ) -> Scored:
        """As `similarity_search_with_score_by_vector`, without holding up the event loop."""
        plan = self._plan(k, filter, kwargs)
        vector = as_vector(embedding, GIVEN)
        return await in_worker(lambda: self._scored(self._find(vector, plan), kwargs))

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
        return await in_worker(lambda: [self._scored(hits, kwargs) for hits in self._find_many(matrix, plan)])


def _with_vectors(hits: list[Hit], options: dict[str, Any]) -> list[tuple[Document, Vector]]:
    return [(as_answer(hit, options), hit["vector"]) for hit in hits]


def _stacked(vectors: Sequence[Vector]) -> NDArray[np.float32]:
    return as_matrix(vectors, len(vectors), "the embedding model")


def _read_queries(queries: Iterable[str] | None, vectors: Any) -> tuple[list[str], NDArray[np.float32]]:
    if (queries is None) == (vectors is None):
        raise ArgumentTypeError("similarity_search_batch takes queries or vectors=, one of the two")
    if queries is None:
        rows = vectors if isinstance(vectors, np.ndarray) else list(vectors)
        return [], as_matrix(rows, len(rows), GIVEN)
    if isinstance(queries, str):
        raise ArgumentTypeError("queries must be a list of str, got one str; similarity_search takes one")
    return [check_text(query, "query") for query in queries], np.empty((0, 0), np.float32)


def _check_threshold(value: Any) -> float | None:
    return None if value is None else check_share(value, "score_threshold")

"""Maximal marginal relevance: results near the query and unlike one another, each call with an async twin."""

from __future__ import annotations

from typing import Any

import numpy as np
from langchain_core.documents import Document

from langchain_zeusdb_vs.asking import GIVEN, AskingMixin, Scored, SearchPlan, Vector
from langchain_zeusdb_vs.core import PARTS_AND_VECTOR, Hit, check_count, check_share
from langchain_zeusdb_vs.embedders import as_vector
from langchain_zeusdb_vs.filters import Filter
from langchain_zeusdb_vs.scores import choose_diverse
from langchain_zeusdb_vs.workers import in_worker
from zeusdb_vs import ConfigurationError

_FETCHED = 20
"""Documents that MMR chooses from where the caller does not say; langchain-core's number."""


class DiverseSearchMixin(AskingMixin):
    """The searches of `ZeusDBVectorStore` that ask for variety."""

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = 4,
        fetch_k: int | None = None,
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
        fetch_k : int, optional
            How many of the nearest to choose from, at least `k`; 20 by default, or `k` where that is more.
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
        fetch_k: int | None = None,
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
        fetch_k: int | None = None,
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
        fetch_k: int | None = None,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> Scored:
        """As `max_marginal_relevance_search_with_score`, without holding up the event loop."""
        plan = self._diverse_plan(k, fetch_k, lambda_mult, filter, kwargs)
        vector = None if self._index is None else await self._aembed_query(query)
        return await in_worker(lambda: self._scored(self._find_diverse(vector, plan, k, lambda_mult), kwargs))

    def max_marginal_relevance_search_by_vector(
        self,
        embedding: Any,
        k: int = 4,
        fetch_k: int | None = None,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search`, for an embedding."""
        plan = self._diverse_plan(k, fetch_k, lambda_mult, filter, kwargs)
        return self._documents(self._find_diverse(as_vector(embedding, GIVEN), plan, k, lambda_mult), kwargs)

    async def amax_marginal_relevance_search_by_vector(
        self,
        embedding: Any,
        k: int = 4,
        fetch_k: int | None = None,
        lambda_mult: float = 0.5,
        filter: Filter | None = None,
        **kwargs: Any,
    ) -> list[Document]:
        """As `max_marginal_relevance_search_by_vector`, without holding up the event loop."""
        plan = self._diverse_plan(k, fetch_k, lambda_mult, filter, kwargs)
        vector = as_vector(embedding, GIVEN)
        return await in_worker(
            lambda: self._documents(self._find_diverse(vector, plan, k, lambda_mult), kwargs)
        )

    # ------------------------------------------------------------------------------------------ inside

    def _diverse_plan(
        self, k: Any, fetch_k: Any, lambda_mult: Any, filter: Filter | None, options: dict[str, Any]
    ) -> SearchPlan:
        wanted = check_count(k, "k")
        fetched = max(_FETCHED, wanted) if fetch_k is None else check_count(fetch_k, "fetch_k")
        if fetched < wanted:
            raise ConfigurationError(f"fetch_k must be at least k: got fetch_k={fetched}, k={wanted}")
        check_share(lambda_mult, "lambda_mult")
        return self._plan(fetched, filter, options)

    def _find_diverse(self, vector: Vector | None, plan: SearchPlan, k: int, lambda_mult: float) -> list[Hit]:
        if vector is None:
            return []
        hits = self._find(vector, plan, PARTS_AND_VECTOR)
        if not hits:
            return []
        chosen, _ = choose_diverse(vector, np.stack([hit["vector"] for hit in hits]), k, lambda_mult)
        return [hits[row] for row in chosen]

"""Queries: the nearest, the nearest and diverse, and listings, with the async twin."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from llama_index.core.vector_stores.types import (
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.zeusdb_vs.core import StoreBase
from llama_index.vector_stores.zeusdb_vs.filters import Deep, both, is_payload
from llama_index.vector_stores.zeusdb_vs.nodes import REF_DOC_FIELD, TYPE_FIELD, non_text_types
from llama_index.vector_stores.zeusdb_vs.protocol import VectorIndex
from llama_index.vector_stores.zeusdb_vs.ranking import mmr, similarities_of
from llama_index.vector_stores.zeusdb_vs.records import node_of
from llama_index.vector_stores.zeusdb_vs.selecting import listed_ids, matching_ids, selection
from llama_index.vector_stores.zeusdb_vs.workers import on_reader
from numpy.typing import NDArray

from zeusdb_vs import ConfigurationError, Filter, VectorError

MMR_FETCH = 256
"""Candidates that MMR chooses from at least, where the caller does not say."""

_QUERY_OPTIONS = ("ef_search", "exact", "mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k")
_RANKED_BY_TEXT = (
    VectorStoreQueryMode.TEXT_SEARCH,
    VectorStoreQueryMode.SPARSE,
    VectorStoreQueryMode.HYBRID,
    VectorStoreQueryMode.SEMANTIC_HYBRID,
)


class QueryMixin(StoreBase):
    """The query of `ZeusDBVectorStore`."""

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """Return the nodes most similar to an embedding, most similar first.

        There are always ``min(similarity_top_k, matching nodes)``: filters, `doc_ids` and `node_ids` choose before
        anything is ranked. Without an embedding but with one of those, the matching nodes are listed, in the order of
        adding and without similarities.

        Parameters
        ----------
        query : VectorStoreQuery
            In mode DEFAULT or MMR. Empty `node_ids` and `doc_ids` restrict nothing.
        **kwargs
            ef_search : as for the class; exact : compare with every matching node; mmr_threshold : 0 for diversity
            alone to 1 for similarity alone, before the query's own, 0.5 by default;
            mmr_prefetch_k, or mmr_prefetch_factor times `similarity_top_k` : the most similar that MMR chooses from,
            256 or 4 times as many by default.

        Returns
        -------
        VectorStoreQueryResult
            Similarities are floats, higher is nearer: the cosine, the dot product, or 1 / (1 + distance).

        Raises
        ------
        NotImplementedError
            The mode ranks by text or by a learner; the message names it.
        FilterError, VectorError, ConfigurationError
            Filters, embedding or options cannot be used.
        """
        mode = _mode_of(query)
        unknown = [name for name in kwargs if name not in _QUERY_OPTIONS]
        if unknown:
            raise ConfigurationError(
                f"query has no option {unknown[0]!r}; known are {', '.join(_QUERY_OPTIONS)}"
            )
        tree = self._restricted(query)
        threshold = _mmr_threshold(query, kwargs) if mode == VectorStoreQueryMode.MMR else None
        index = self._index
        if index is None:
            return VectorStoreQueryResult(nodes=[], similarities=[], ids=[])
        where, ids = selection(index, tree, self._chosen_ids(index, query.node_ids))
        if query.query_embedding is None:
            return self._listed(index, query, mode, where, ids)
        vector = np.asarray(query.query_embedding, np.float32)
        options = {
            "filter": where,
            "ef_search": kwargs.get("ef_search", self.ef_search),
            "exact": kwargs.get("exact", False),
            "ids": ids,
        }
        if threshold is not None:
            return self._diverse(index, vector, query.similarity_top_k, threshold, kwargs, options)
        hits = index.search(vector, top_k=query.similarity_top_k, include=self._parts(), **options)
        return _result(hits, self.space)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`, on a worker thread; queries run beside each other."""
        return await on_reader(self.query, query, **kwargs)

    def _restricted(self, query: VectorStoreQuery) -> Filter | Deep | None:
        tree = None if query.filters is None else self._translated(query.filters)
        if query.doc_ids:
            of_documents = is_payload(REF_DOC_FIELD, "in", listed_ids(query.doc_ids))
            tree = both(tree, of_documents)
        return tree

    def _listed(
        self,
        index: VectorIndex,
        query: VectorStoreQuery,
        mode: VectorStoreQueryMode,
        tree: Filter | None,
        ids: list[str] | None,
    ) -> VectorStoreQueryResult:
        if mode != VectorStoreQueryMode.DEFAULT or (tree is None and ids is None):
            raise VectorError(
                f"a query in mode {mode.value!r} needs query_embedding; without one, a query in default mode lists the "
                "nodes that filters, doc_ids or node_ids select, of which there are none"
            )
        if ids is None:
            chosen = [record_id for record_id, _ in index.list(query.similarity_top_k, filter=tree)]
        else:
            chosen = ids if tree is None else matching_ids(index, ids, tree)
        nodes = [node_of(record) for record in index.get_records(chosen, include=self._parts())]
        nodes = nodes[: query.similarity_top_k]
        return VectorStoreQueryResult(nodes=nodes, similarities=None, ids=[node.node_id for node in nodes])

    def _diverse(
        self,
        index: VectorIndex,
        vector: NDArray[np.float32],
        top_k: int,
        threshold: float,
        kwargs: Mapping[str, Any],
        options: Mapping[str, Any],
    ) -> VectorStoreQueryResult:
        fetch = _mmr_fetch(top_k, kwargs)
        candidates = index.search(vector, top_k=fetch, include=("vector",), **options)
        order = mmr(candidates, top_k, threshold, self.space)
        chosen = [candidates[at] for at in order]
        # What is not chosen is never decoded.
        records = {
            record["id"]: record
            for record in index.get_records([hit["id"] for hit in chosen], include=self._parts())
        }
        hits = [{**hit, **records[hit["id"]]} for hit in chosen if hit["id"] in records]
        if not self.include_embeddings:
            for hit in hits:
                del hit["vector"]
        return _result(hits, self.space)

    def _chosen_ids(self, index: VectorIndex, node_ids: list[str] | None) -> list[str] | None:
        """Return the ids that restrict a query, None where nothing does."""
        wanted = listed_ids(node_ids)
        if not wanted or self.strict_node_ids:
            return wanted or None
        others = is_payload(TYPE_FIELD, "in", non_text_types())
        count = index.count(others)
        if not 0 < count < len(index):
            return wanted
        present = {record["id"] for record in index.get_records(dict.fromkeys(wanted), include=())}
        if len(present) == count and len(matching_ids(index, list(present), others)) == count:
            return None
        return wanted


def _mode_of(query: VectorStoreQuery) -> VectorStoreQueryMode:
    mode = query.mode
    if mode is VectorStoreQueryMode.DEFAULT or mode is VectorStoreQueryMode.MMR:
        return mode
    try:
        mode = VectorStoreQueryMode(mode)
    except ValueError:
        known = ", ".join(member.value for member in VectorStoreQueryMode)
        raise ConfigurationError(f"unknown query mode {query.mode!r}; core has {known}") from None
    if mode in (VectorStoreQueryMode.DEFAULT, VectorStoreQueryMode.MMR):
        return mode
    what = "text search" if mode in _RANKED_BY_TEXT else "learners"
    raise NotImplementedError(
        f"query mode {mode.value!r} is not available: zeusdb-vs has no {what}; use 'default' or 'mmr'"
    )


def _mmr_threshold(query: VectorStoreQuery, kwargs: Mapping[str, Any]) -> float:
    threshold = kwargs.get("mmr_threshold")
    if threshold is None:
        threshold = query.mmr_threshold
    if threshold is None:
        return 0.5
    if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 <= threshold <= 1:
        raise ConfigurationError(f"mmr_threshold must be a number from 0 to 1, got {threshold!r}")
    return float(threshold)


def _mmr_fetch(top_k: int, kwargs: Mapping[str, Any]) -> int:
    fetch, factor = kwargs.get("mmr_prefetch_k"), kwargs.get("mmr_prefetch_factor")
    if fetch is not None and factor is not None:
        raise ConfigurationError("pass mmr_prefetch_k or mmr_prefetch_factor, not both")
    if fetch is None:
        fetch = max(MMR_FETCH, 4 * top_k) if factor is None else int(factor * top_k)
    if isinstance(fetch, bool) or not isinstance(fetch, int):
        raise ConfigurationError(f"mmr_prefetch_k must be an int, got {fetch!r}")
    return max(fetch, top_k)


def _result(hits: list[Any], space: str) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=[node_of(hit) for hit in hits],
        similarities=similarities_of([hit["score"] for hit in hits], space),
        ids=[hit["id"] for hit in hits],
    )

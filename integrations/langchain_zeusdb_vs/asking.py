"""What all searches share: arguments checked into a plan, the engine asked, hits turned into documents.

A search is three steps: check the arguments, embed, ask the engine. The twins share the first and the last; the
async one awaits the embedding and asks the engine in a worker thread, so that the event loop is never held up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from langchain_core.documents import Document
from numpy.typing import NDArray

from langchain_zeusdb_vs.core import (
    PARTS,
    Hit,
    StoreBase,
    as_document,
    check_count,
    check_text,
    refuse_unknown,
)
from langchain_zeusdb_vs.filters import Condition, Filter, check_filter, read_filter
from langchain_zeusdb_vs.workers import in_worker
from zeusdb_vs import HNSWIndex

Scored = list[tuple[Document, float]]
Vector = NDArray[np.float32]
Answer = TypeVar("Answer")

ENGINE_OPTIONS = ("ef_search", "exact", "max_distance", "strict")
OPTIONS = ("k", "filter", *ENGINE_OPTIONS, "score_key")
GIVEN = "the embedding given"
_FIRST_LOOK = 64
_LAST_LOOK = 4_096
"""A callable filter is asked about this many of the nearest at most; then about every record."""


@dataclass(frozen=True, slots=True)
class SearchPlan:
    """The checked arguments of one search.

    Attributes
    ----------
    k : int
    condition : Condition
    options : dict
        Further arguments for the engine's `search`.
    """

    k: int
    condition: Condition
    options: dict[str, Any]


class AskingMixin(StoreBase):
    """How a store asks its index, and how it gives the answer."""

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
            {
                "ef_search": self._ef_search,
                **{name: options[name] for name in ENGINE_OPTIONS if name in options},
            },
        )
        if self._index is None:
            check_filter(plan.condition)
        return plan

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
        return await in_worker(lambda: finish(self._find(vector, plan, parts), *arguments))

    def _find(self, vector: Vector, plan: SearchPlan, parts: Sequence[str] = PARTS) -> list[Hit]:
        index = self._index
        if index is None:
            return []
        condition = plan.condition
        if condition.predicates:
            return self._find_accepted(index, vector, plan, parts)
        return index.search(vector, condition.tree, plan.k, include=parts, **plan.options)

    def _find_many(self, vectors: NDArray[np.float32], plan: SearchPlan) -> list[list[Hit]]:
        index = self._index
        if index is None or len(vectors) == 0:
            return [[] for _ in vectors]
        if plan.condition.predicates:
            return [self._find_accepted(index, vector, plan, PARTS) for vector in vectors]
        return index.search(vectors, plan.condition.tree, plan.k, include=PARTS, **plan.options)

    def _find_accepted(
        self, index: HNSWIndex, vector: Vector, plan: SearchPlan, parts: Sequence[str]
    ) -> list[Hit]:
        """Find the nearest that a callable accepts: look at ever more of the nearest, at last at every record."""
        holds, tree = plan.condition.holds, plan.condition.tree
        verdicts: dict[str, bool] = {}
        looked_at = max(_FIRST_LOOK, 4 * plan.k)
        while looked_at <= _LAST_LOOK:
            hits = index.search(vector, tree, looked_at, include=parts, **plan.options)
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
        return index.search(vector, tree, plan.k, include=parts, ids=ids, **plan.options)

    # ------------------------------------------------------------------------------------------ answers

    @staticmethod
    def _documents(hits: list[Hit], options: dict[str, Any]) -> list[Document]:
        if "score_key" not in options:
            return [as_document(hit) for hit in hits]
        return [as_answer(hit, options) for hit in hits]

    @staticmethod
    def _scored(hits: list[Hit], options: dict[str, Any]) -> Scored:
        return [(as_answer(hit, options), hit["score"]) for hit in hits]

    def _relevant(self, hits: list[Hit], options: dict[str, Any], least: float | None) -> Scored:
        relevance = self._select_relevance_score_fn()
        scored = []
        for hit in hits:
            hit["score"] = relevance(hit["score"])
            if least is None or hit["score"] >= least:
                scored.append((as_answer(hit, options), hit["score"]))
        return scored


def _copied(hit: Hit) -> Document:
    """Return a hit as a document that a callable may do with as it likes."""
    return as_document({**hit, "metadata": deepcopy(hit["metadata"])})


def as_answer(hit: Hit, options: dict[str, Any]) -> Document:
    """Return a hit as a document, its score among the metadata where a search asked for that."""
    document = as_document(hit)
    key = options.get("score_key")
    if key is not None:
        document.metadata[key] = hit["score"]
    return document

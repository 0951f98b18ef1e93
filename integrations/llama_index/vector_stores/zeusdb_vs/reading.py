"""What a store holds, read without ranking: nodes by id or filter, counts, documents."""

from __future__ import annotations

from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index.vector_stores.zeusdb_vs.core import StoreBase
from llama_index.vector_stores.zeusdb_vs.nodes import REF_DOC_FIELD
from llama_index.vector_stores.zeusdb_vs.records import node_of
from llama_index.vector_stores.zeusdb_vs.selecting import listed_ids, matching_ids, selection
from llama_index.vector_stores.zeusdb_vs.workers import on_reader

from zeusdb_vs import ConfigurationError

_PAGE = 1024
"""Records read at a time where all are walked through."""


class ReadingMixin(StoreBase):
    """The calls of `ZeusDBVectorStore` that read."""

    def get_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        include_embeddings: bool | None = None,
    ) -> list[BaseNode]:
        """Return nodes by id, in the order asked for, or by filters, in the order of adding; all without either.

        Parameters
        ----------
        node_ids : list of str, optional
            Ids that are not there are skipped.
        filters : MetadataFilters, optional
            With `node_ids`: those of them that match.
        limit : int, optional
            At most so many; all by default.
        offset : int
            Matches to skip.
        include_embeddings : bool, optional
            As for the class, which says so by default.
        """
        tree = self._translated(filters)
        index = self._index
        if limit is not None and (type(limit) is not int or limit < 0):
            raise ConfigurationError(f"limit must be an int from 0, got {limit!r}")
        if type(offset) is not int or offset < 0:
            raise ConfigurationError(f"offset must be an int from 0, got {offset!r}")
        if index is None:
            return []
        where, chosen = selection(index, tree, listed_ids(node_ids))
        if chosen is None:
            number = len(index) if limit is None else limit
            chosen = [record_id for record_id, _ in index.list(number, offset, filter=where)]
        else:
            if where is not None:
                matching = set(matching_ids(index, chosen, where))
                chosen = [node_id for node_id in chosen if node_id in matching]
            if offset or limit is not None:
                present = {record["id"] for record in index.get_records(chosen, include=())}
                chosen = [node_id for node_id in chosen if node_id in present]
                chosen = chosen[offset : None if limit is None else offset + limit]
        return [
            node_of(record) for record in index.get_records(chosen, include=self._parts(include_embeddings))
        ]

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **kwargs: Any
    ) -> list[BaseNode]:
        """As `get_nodes`, on a worker thread."""
        return await on_reader(self.get_nodes, node_ids, filters, **kwargs)

    def count(self, filters: MetadataFilters | None = None) -> int:
        """Return how many nodes match; all of them without filters."""
        tree = self._translated(filters)
        if self._index is None:
            return 0
        where, chosen = selection(self._index, tree, None)
        return self._index.count(where) if chosen is None else len(chosen)

    def __len__(self) -> int:
        return 0 if self._index is None else len(self._index)

    def __bool__(self) -> bool:
        # An empty store is a store: `vector_store or default` must not drop it.
        return True

    def list_ref_docs(self) -> dict[str, list[str]]:
        """Return the documents that nodes come from, each with the ids of its nodes, in the order of adding."""
        documents: dict[str, list[str]] = {}
        index = self._index
        if index is None:
            return documents
        chosen = [record_id for record_id, _ in index.list(len(index))]
        for first in range(0, len(chosen), _PAGE):
            for record in index.get_records(chosen[first : first + _PAGE], include=("payload",)):
                if (ref_doc_id := (record["payload"] or {}).get(REF_DOC_FIELD)) is not None:
                    documents.setdefault(ref_doc_id, []).append(record["id"])
        return documents

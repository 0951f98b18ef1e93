"""Everything that changes what a store holds: add, delete, update, with their async twins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import MetadataFilters
from llama_index.vector_stores.zeusdb_vs.core import StoreBase
from llama_index.vector_stores.zeusdb_vs.filters import is_payload
from llama_index.vector_stores.zeusdb_vs.nodes import REF_DOC_FIELD
from llama_index.vector_stores.zeusdb_vs.protocol import VectorIndex
from llama_index.vector_stores.zeusdb_vs.records import columns_of
from llama_index.vector_stores.zeusdb_vs.selecting import listed_ids, matching_ids, selection
from llama_index.vector_stores.zeusdb_vs.workers import on_writer

from zeusdb_vs import ArgumentTypeError, ConfigurationError, Filter, VectorDatabase, VectorError, field

_TRIED_AT_A_TIME = 1_024
"""Records of the first batch that are tried in memory before a directory is made for them."""


class WritingMixin(StoreBase):
    """The calls of `ZeusDBVectorStore` that write."""

    def add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """Store nodes with their embeddings; a node whose id is there already is replaced. All go in or none.

        Parameters
        ----------
        nodes : sequence of BaseNode
            Of any type. Of several with the same id the last one stays.
        **kwargs
            Taken for the framework's sake, and without meaning.

        Returns
        -------
        list of str
            The ids, one for each node in order.

        Raises
        ------
        RecordError
            A ValueError naming the node: it has no embedding, one of another width or not finite, or holds what cannot
            be stored. Nothing is added.
        """
        del kwargs
        nodes = list(nodes)
        if not nodes:
            return []
        columns = columns_of(nodes)
        with self._creating:
            index = self._index
            if index is None:
                self._add_first(columns)
        if index is not None:
            _store(index, columns)
        return list(columns["ids"])

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`, on a worker thread."""
        return await on_writer(self.add, nodes, **kwargs)

    def delete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """Remove the nodes of a document; also the node of that id, where it comes from no document.

        Pipelines name documents that were stored unsplit, and so have no source, by their own id.

        Parameters
        ----------
        ref_doc_id : str
        **delete_kwargs
            Taken for the framework's sake, and without meaning.

        Raises
        ------
        ArgumentTypeError
            `ref_doc_id` is no str; None removes nothing.
        """
        del delete_kwargs
        if not isinstance(ref_doc_id, str):
            raise ArgumentTypeError(
                f"delete takes the id of a document as a str, got {ref_doc_id!r}; nothing was removed"
            )
        if self._index is None:
            return
        of_document = is_payload(REF_DOC_FIELD, "==", ref_doc_id)
        self._index.delete(where=of_document)
        self._index.delete(ids=[ref_doc_id], where=_has_no_source())

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`, on a worker thread."""
        await on_writer(self.delete, ref_doc_id, **delete_kwargs)

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """Remove nodes by id, by filters, or those among the ids that match the filters.

        Parameters
        ----------
        node_ids : list of str, optional
            Ids that are not there are skipped; an empty list removes nothing.
        filters : MetadataFilters, optional
        **delete_kwargs
            Taken for the framework's sake, and without meaning.

        Raises
        ------
        ConfigurationError
            Nothing is selected: neither is given, or filters without a condition; `clear` empties the store.
        FilterError
            The filters cannot be understood.
        """
        del delete_kwargs
        tree = self._translated(filters)
        if node_ids is None and tree is None:
            raise ConfigurationError(
                "delete_nodes needs node_ids or filters with a condition; clear() empties the store"
            )
        if self._index is not None and (node_ids is None or len(node_ids)):
            where, chosen = selection(self._index, tree, listed_ids(node_ids))
            self._index.delete(ids=chosen, where=where)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As `delete_nodes`, on a worker thread."""
        await on_writer(self.delete_nodes, node_ids, filters, **delete_kwargs)

    def clear(self) -> None:
        """Remove every node; width and space stay."""
        if self._index is not None:
            self._index.clear()

    async def aclear(self) -> None:
        """As `clear`, on a worker thread."""
        await on_writer(self.clear)

    def update_metadata(
        self,
        metadata: Mapping[str, Any],
        node_ids: list[str] | None = None,
        filters: MetadataFilters | None = None,
        *,
        merge: bool = True,
    ) -> int:
        """Change the metadata of nodes; embedding, text and all else stay.

        Parameters
        ----------
        metadata : dict
        node_ids, filters
            Which nodes, as for `delete_nodes`.
        merge : bool
            Keep the keys that `metadata` does not have.

        Returns
        -------
        int
            Nodes changed.
        """
        tree = self._translated(filters)
        if node_ids is None and tree is None:
            raise ConfigurationError("update_metadata needs node_ids or filters with a condition")
        index = self._index
        if index is None:
            return 0
        where, chosen = selection(index, tree, listed_ids(node_ids))
        if chosen is None:
            return int(index.update_metadata(metadata=metadata, where=where, merge=merge))
        if where is not None:
            chosen = matching_ids(index, chosen, where)
        return sum(bool(index.update_metadata(id, metadata, merge=merge)) for id in dict.fromkeys(chosen))

    def _add_first(self, columns: dict[str, list[Any]]) -> None:
        """Make the index with the first nodes; it comes to be only if all of them can be stored."""
        width = len(columns["vectors"][0])
        if width == 0:
            raise VectorError(f"node {columns['ids'][0]!r} has an empty embedding")
        if self.path is not None:
            # In small parts, which costs little; on disk an index is not undone.
            for first in range(0, len(columns["ids"]), _TRIED_AT_A_TIME):
                part = {name: column[first : first + _TRIED_AT_A_TIME] for name, column in columns.items()}
                _store(VectorDatabase().create("hnsw", dim=width, space=self.space), part)
        index = self._create(width)
        _store(index, columns)
        self._adopt(index)


def _store(index: VectorIndex, columns: dict[str, list[Any]]) -> None:
    index.add(columns, on_error="raise")


def _has_no_source() -> Filter:
    return ~field(REF_DOC_FIELD, source="payload").exists()

"""The vector store: all of LlamaIndex's `BasePydanticVectorStore` on an index of zeusdb-vs."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.schema import BaseNode, NodeRelationship, ObjectType, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores.types import (
    DEFAULT_PERSIST_DIR,
    DEFAULT_PERSIST_FNAME,
    BasePydanticVectorStore,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
    VectorStoreQueryResult,
)
from llama_index.vector_stores.zeusdb_vs import transfer
from llama_index.vector_stores.zeusdb_vs.filters import (
    RESERVED,
    Deep,
    Translation,
    both,
    is_payload,
    translate,
)
from llama_index.vector_stores.zeusdb_vs.nodes import (
    REF_DOC_FIELD,
    TYPE_FIELD,
    decode_node,
    encode_node,
    non_text_types,
)
from llama_index.vector_stores.zeusdb_vs.protocol import VectorIndex
from llama_index.vector_stores.zeusdb_vs.ranking import mmr, similarities_of
from llama_index.vector_stores.zeusdb_vs.workers import on_reader, on_writer
from numpy.typing import NDArray

from zeusdb_vs import (
    ArgumentTypeError,
    ConfigurationError,
    Filter,
    FilterError,
    IndexNotFoundError,
    RecordError,
    VectorDatabase,
    VectorError,
    field,
)

DEFAULT_NAMESPACE = "default"
MMR_FETCH = 256
"""Candidates that MMR chooses from at least, where the caller does not say."""
PAGE = 1024
"""Records read at a time where all are walked through."""

_PARTS = ("metadata", "text", "payload")
_PARTS_AND_VECTOR = (*_PARTS, "vector")
_QUERY_OPTIONS = ("ef_search", "exact", "mmr_threshold", "mmr_prefetch_factor", "mmr_prefetch_k")
_RANKED_BY_TEXT = (
    VectorStoreQueryMode.TEXT_SEARCH,
    VectorStoreQueryMode.SPARSE,
    VectorStoreQueryMode.HYBRID,
    VectorStoreQueryMode.SEMANTIC_HYBRID,
)
_IGNORED_OPTIONS = ("class_name", "stores_text", "is_embedding_query", "index_type", "index_name")
"""What a dict of the configuration, or a call written for ZeusDB's own adapter, names beside the options."""

Store = TypeVar("Store", bound="ZeusDBVectorStore")


class ZeusDBVectorStore(BasePydanticVectorStore):
    """Nodes with their embeddings in an index of zeusdb-vs, in memory or in a directory of its own.

    Any number of threads may use one store. Each call that changes it takes effect wholly or not at all, and of a store
    with a `path` it is on disk when the call returns.

    Parameters
    ----------
    path : str or path-like, optional
        A directory that the store keeps itself in: opened if there is an index, made if not. Without it the store lives
        in memory until `persist`.
    dim : int, optional
        Width of the embeddings; by default that of the first node added.
    space : {"cosine", "l2", "l1", "dot"}, optional
        What is near; "cosine" for a new index. `distance` is taken for it too.
    m, ef_construction, expected_size : int, optional
        Of the graph of a new index; see `VectorDatabase.create`.
    ef_search : int, optional
        Width of the walk through the graph of each query: more finds more of the true nearest and takes longer.
    quantization_config : dict, optional
        Passed to `VectorDatabase.create`.
    durability : {"always", "interval", "never"}
        With `path`: what a write that has returned survives beside the end of the process; see `VectorDatabase.open`.
    read_only : bool
        With `path`: open for reading only, beside another process that writes.
    include_embeddings : bool
        Return nodes with their embeddings (as float32 values); without, `embedding` is None.
    strict_filters : bool
        Raise where a filter compares by order and a value of another type is stored under its key, instead of taking
        such a value not to match.
    strict_node_ids : bool
        Take `node_ids` of a query literally. By default ids that name all index and image nodes and nothing else, in a
        store that holds other nodes too, restrict nothing: that is what `VectorStoreIndex.as_retriever` sends without
        being asked, where it means all nodes.
    index : HNSWIndex, optional
        An index to use, instead of `path`; `zeusdb_index` is taken for it too.

    Raises
    ------
    ConfigurationError
        An option is unknown, out of range, or not that of the index at `path`.
    StorageError
        The directory cannot be opened, of the class that says why.
    """

    stores_text: bool = True
    is_embedding_query: bool = True
    flat_metadata: bool = False

    path: str | None = None
    dim: int | None = None
    space: str = "cosine"
    m: int | None = None
    ef_construction: int | None = None
    expected_size: int | None = None
    ef_search: int | None = None
    quantization_config: dict[str, Any] | None = None
    durability: str = "always"
    read_only: bool = False
    include_embeddings: bool = False
    strict_filters: bool = False
    strict_node_ids: bool = False

    _index: VectorIndex | None = PrivateAttr(default=None)
    _creating: Any = PrivateAttr(default_factory=threading.Lock)

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        dim: int | None = None,
        space: str | None = None,
        m: int | None = None,
        ef_construction: int | None = None,
        expected_size: int | None = None,
        ef_search: int | None = None,
        quantization_config: Mapping[str, Any] | None = None,
        durability: str = "always",
        read_only: bool = False,
        include_embeddings: bool = False,
        strict_filters: bool = False,
        strict_node_ids: bool = False,
        index: VectorIndex | None = None,
        **aliases: Any,
    ) -> None:
        space = _alias(aliases, "distance", space, "space")
        index = _alias(aliases, "zeusdb_index", index, "index")
        for name in (*_IGNORED_OPTIONS, "flat_metadata"):
            aliases.pop(name, None)
        if aliases:
            known = [name for name in type(self).model_fields if name not in _IGNORED_OPTIONS]
            raise ConfigurationError(f"unknown option {next(iter(aliases))!r}; known are {', '.join(known)}")
        if index is not None and path is not None:
            raise ConfigurationError("a store takes an index or a path, not both")
        options: dict[str, Any] = {
            "path": None if path is None else os.fspath(path),
            "dim": dim,
            "space": "cosine" if space is None else space,
            "m": m,
            "ef_construction": ef_construction,
            "expected_size": expected_size,
            "ef_search": ef_search,
            "quantization_config": None if quantization_config is None else dict(quantization_config),
            "durability": durability,
            "read_only": read_only,
            "include_embeddings": include_embeddings,
            "strict_filters": strict_filters,
            "strict_node_ids": strict_node_ids,
        }
        super().__init__(stores_text=True, **options)
        if index is not None:
            self._adopt(index, dim=dim, space=space)
        elif path is not None:
            self._open_at_start(space)
        elif dim is not None:
            self._adopt(self._create(dim))
        else:
            # Options that are wrong by themselves are refused now, not at the first add.
            self._new_in_memory(1)

    # ------------------------------------------------------------------------------------------ making

    @classmethod
    def class_name(cls) -> str:
        """Return the name that serialised configurations carry."""
        return "ZeusDBVectorStore"

    @classmethod
    def from_params(cls: type[Store], **options: Any) -> Store:
        """Return a store made with these options, which are those of the class."""
        return cls(**options)

    @classmethod
    def from_client(cls: type[Store], index: VectorIndex, **options: Any) -> Store:
        """Return a store on an index that is there, opened by `VectorDatabase` or written by another adapter.

        Parameters
        ----------
        index : HNSWIndex
        **options
            Those of the class that concern how the store asks; `dim` and `space` must be those of the index.
        """
        return cls(index=index, **options)

    @classmethod
    def from_nodes(cls: type[Store], nodes: Sequence[BaseNode], **options: Any) -> Store:
        """Return a store that holds these nodes, which carry embeddings; options are those of the class."""
        store = cls(**options)
        try:
            store.add(nodes)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def from_simple(
        cls: type[Store],
        simple: Any,
        nodes: Iterable[BaseNode] | None = None,
        *,
        docstore: Any = None,
        **options: Any,
    ) -> Store:
        """Return a store with what a SimpleVectorStore holds; nothing is embedded again.

        Parameters
        ----------
        simple : SimpleVectorStore
        nodes : iterable of BaseNode, optional
            The nodes, for a SimpleVectorStore holds neither text nor relationships.
        docstore : BaseDocumentStore, optional
            Where nodes not among `nodes` are looked up; ``storage_context.docstore`` as a rule. A node found in neither
            becomes a TextNode without text, of what the store knows: its metadata and its document.
        **options
            Those of the class.
        """
        by_id = {node.node_id: node for node in nodes or ()}
        moved = []
        for node_id, embedding in simple.data.embedding_dict.items():
            node = by_id.get(node_id)
            if node is None and docstore is not None:
                node = docstore.get_node(node_id, raise_error=False)
            if node is None:
                node = _node_of_simple(simple, node_id)
            moved.append(node.model_copy(update={"embedding": list(embedding)}))
        return cls.from_nodes(moved, **options)

    @property
    def client(self) -> Any:
        """The index; None before the first node, where no `dim` was given."""
        return self._index

    def _adopt(self, index: VectorIndex, *, dim: int | None = None, space: str | None = None) -> None:
        """Use an index and take over what it was made with."""
        if dim is not None and dim != index.dim:
            raise ConfigurationError(
                f"the index holds vectors of width {index.dim}, dim={dim} was given; leave it out"
            )
        if space is not None and _canonical_space(space) != index.space:
            raise ConfigurationError(
                f"the index was made for the space {index.space!r}, space={space!r} was given; leave it out"
            )
        self.dim, self.space = index.dim, index.space
        self.m, self.ef_construction, self.expected_size = index.m, index.ef_construction, index.expected_size
        self._index = index

    def _graph_options(self) -> dict[str, Any]:
        given = {"m": self.m, "ef_construction": self.ef_construction, "expected_size": self.expected_size}
        return {name: value for name, value in given.items() if value is not None}

    def _new_in_memory(self, dim: int) -> VectorIndex:
        return VectorDatabase().create(
            "hnsw",
            dim=dim,
            space=self.space,
            quantization_config=self.quantization_config,
            **self._graph_options(),
        )

    def _create(self, dim: int) -> VectorIndex:
        if self.path is None:
            return self._new_in_memory(dim)
        if self.quantization_config is not None:
            self._new_in_memory(dim)  # says what is not available
        return VectorDatabase().open(
            self.path,
            dim=dim,
            space=self.space,
            durability=self.durability,  # type: ignore[arg-type]
            read_only=self.read_only,
            **self._graph_options(),
        )

    def _open_at_start(self, space: str | None) -> None:
        """Open the directory if there is an index; else make one as soon as the width is known."""
        assert self.path is not None
        try:
            index = VectorDatabase().open(
                self.path,
                dim=self.dim,
                space=space,
                m=self.m,
                ef_construction=self.ef_construction,
                durability=self.durability,  # type: ignore[arg-type]
                read_only=self.read_only,
                create=False,
            )
        except IndexNotFoundError:
            place = Path(self.path)
            if self.read_only or (place.exists() and (not place.is_dir() or any(place.iterdir()))):
                raise
            if self.dim is None:
                self._new_in_memory(1)
                return
            index = self._create(self.dim)  # type: ignore[assignment]
        self._adopt(index)

    # ------------------------------------------------------------------------------------------ writing

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
        columns = _columns_of(nodes)
        with self._creating:
            index = self._index
            if index is None:
                self._add_first(columns)
        if index is not None:
            _store(index, columns)
        return list(columns["ids"])

    def _add_first(self, columns: dict[str, list[Any]]) -> None:
        """Make the index with the first nodes; it comes to be only if all of them can be stored."""
        width = len(columns["vectors"][0])
        if width == 0:
            raise VectorError(f"node {columns['ids'][0]!r} has an empty embedding")
        if self.path is not None:
            # In memory and in small parts, which costs little; on disk an index is not undone.
            for first in range(0, len(columns["ids"]), PAGE):
                part = {name: column[first : first + PAGE] for name, column in columns.items()}
                _store(self._new_in_memory(width), part)
        index = self._create(width)
        _store(index, columns)
        self._adopt(index)

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
            where, chosen = _selection(self._index, tree, _ids(node_ids))
            self._index.delete(ids=chosen, where=where)

    def clear(self) -> None:
        """Remove every node; width and space stay."""
        if self._index is not None:
            self._index.clear()

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
        where, chosen = _selection(index, tree, _ids(node_ids))
        if chosen is None:
            return int(index.update_metadata(metadata=metadata, where=where, merge=merge))
        if where is not None:
            chosen = _matching_ids(index, chosen, where)
        return sum(bool(index.update_metadata(id, metadata, merge=merge)) for id in dict.fromkeys(chosen))

    # ------------------------------------------------------------------------------------------ reading

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
        where, chosen = _selection(index, tree, _ids(node_ids))
        if chosen is None:
            number = len(index) if limit is None else limit
            chosen = [record_id for record_id, _ in index.list(number, offset, filter=where)]
        else:
            if where is not None:
                matching = set(_matching_ids(index, chosen, where))
                chosen = [node_id for node_id in chosen if node_id in matching]
            if offset or limit is not None:
                present = {record["id"] for record in index.get_records(chosen, include=())}
                chosen = [node_id for node_id in chosen if node_id in present]
                chosen = chosen[offset : None if limit is None else offset + limit]
        return [
            _node_of(record) for record in index.get_records(chosen, include=self._parts(include_embeddings))
        ]

    def count(self, filters: MetadataFilters | None = None) -> int:
        """Return how many nodes match; all of them without filters."""
        tree = self._translated(filters)
        if self._index is None:
            return 0
        where, chosen = _selection(self._index, tree, None)
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
        for first in range(0, len(chosen), PAGE):
            for record in index.get_records(chosen[first : first + PAGE], include=("payload",)):
                if (ref_doc_id := (record["payload"] or {}).get(REF_DOC_FIELD)) is not None:
                    documents.setdefault(ref_doc_id, []).append(record["id"])
        return documents

    # ------------------------------------------------------------------------------------------ query

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
        where, ids = _selection(index, tree, self._chosen_ids(index, query.node_ids))
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

    def _restricted(self, query: VectorStoreQuery) -> Filter | Deep | None:
        tree = None if query.filters is None else self._translated(query.filters)
        if query.doc_ids:
            of_documents = is_payload(REF_DOC_FIELD, "in", _ids(query.doc_ids))
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
            chosen = ids if tree is None else _matching_ids(index, ids, tree)
        nodes = [_node_of(record) for record in index.get_records(chosen, include=self._parts())]
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
        wanted = _ids(node_ids)
        if not wanted or self.strict_node_ids:
            return wanted or None
        others = is_payload(TYPE_FIELD, "in", non_text_types())
        count = index.count(others)
        if not 0 < count < len(index):
            return wanted
        present = {record["id"] for record in index.get_records(dict.fromkeys(wanted), include=())}
        if len(present) == count and len(_matching_ids(index, list(present), others)) == count:
            return None
        return wanted

    def _parts(self, include_embeddings: bool | None = None) -> tuple[str, ...]:
        wanted = self.include_embeddings if include_embeddings is None else include_embeddings
        return _PARTS_AND_VECTOR if wanted else _PARTS

    def _translated(self, filters: MetadataFilters | None) -> Filter | Deep | None:
        translation = translate(filters)
        if self.strict_filters and translation.ordered and self._index is not None:
            _check_order(self._index, translation)
        return translation.tree

    # ------------------------------------------------------------------------------------------ asynchronous

    async def aget_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **kwargs: Any
    ) -> list[BaseNode]:
        """As `get_nodes`, on a worker thread."""
        return await on_reader(self.get_nodes, node_ids, filters, **kwargs)

    async def async_add(self, nodes: Sequence[BaseNode], **kwargs: Any) -> list[str]:
        """As `add`, on a worker thread."""
        return await on_writer(self.add, nodes, **kwargs)

    async def adelete(self, ref_doc_id: str, **delete_kwargs: Any) -> None:
        """As `delete`, on a worker thread."""
        await on_writer(self.delete, ref_doc_id, **delete_kwargs)

    async def adelete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **delete_kwargs: Any
    ) -> None:
        """As `delete_nodes`, on a worker thread."""
        await on_writer(self.delete_nodes, node_ids, filters, **delete_kwargs)

    async def aclear(self) -> None:
        """As `clear`, on a worker thread."""
        await on_writer(self.clear)

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """As `query`, on a worker thread; queries run beside each other."""
        return await on_reader(self.query, query, **kwargs)

    # ------------------------------------------------------------------------------------------ persistence

    def persist(
        self, persist_path: str = f"{DEFAULT_PERSIST_DIR}/{DEFAULT_PERSIST_FNAME}", fs: Any | None = None
    ) -> None:
        """Write a copy of the store to a path, wholly or not at all; a store stays bound to a `path` of its own.

        Parameters
        ----------
        persist_path : str
            On the local file system a directory is written there, whatever the name ends with; an index of ours that is
            there is replaced, anything else is left alone.
        fs : fsspec.AbstractFileSystem, optional
            Another file system; there it is one file.

        Raises
        ------
        StorageError
            Of the class that says what stands in the way.
        """
        transfer.persist(self._index, str(persist_path), fs, self._configuration())

    @classmethod
    def from_persist_path(
        cls: type[Store], persist_path: str, fs: Any | None = None, **options: Any
    ) -> Store:
        """Return the store that `persist` wrote, in memory.

        Parameters
        ----------
        persist_path : str
        fs : fsspec.AbstractFileSystem, optional
        **options
            Those of the class that concern how the store asks; `dim` and `space`, where given, must be the index's.

        Raises
        ------
        IndexNotFoundError
            Nothing is there.
        ConfigurationError
            The index is of another width or space than given.
        CorruptIndexError
            What is there is damaged, or not of `persist`.
        """
        index, kept = transfer.load(str(persist_path), fs)
        if index is None:
            return cls(**{**kept, **options})
        return cls(index=index, **options)

    @classmethod
    def from_persist_dir(
        cls: type[Store],
        persist_dir: str = DEFAULT_PERSIST_DIR,
        namespace: str = DEFAULT_NAMESPACE,
        fs: Any | None = None,
        **options: Any,
    ) -> Store:
        """Return the store that ``StorageContext.persist`` wrote under a namespace; see `from_persist_path`."""
        name = f"{namespace}__{DEFAULT_PERSIST_FNAME}"
        return cls.from_persist_path(transfer.joined(str(persist_dir), name, fs), fs, **options)

    def save_index(self, path: str) -> bool:
        """Write a copy of the store: `persist` by the name it has in ZeusDB's own adapter."""
        self.persist(path)
        return True

    @classmethod
    def load_index(cls: type[Store], path: str, **options: Any) -> Store:
        """Return the store in a directory: `from_persist_path` by the name it has in ZeusDB's own adapter."""
        return cls.from_persist_path(path, **options)

    def flush(self) -> None:
        """Force every change so far to disk, whatever the durability."""
        if self._index is not None:
            self._index.flush()

    def close(self) -> None:
        """Let go of the directory of a store with a `path`; later calls raise ClosedIndexError."""
        if self._index is not None and self.path is not None:
            self._index.close()

    def __enter__(self: Store) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _configuration(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in type(self).model_fields if name not in _IGNORED_OPTIONS}

    def __getstate__(self) -> dict[str, Any]:
        """Return the configuration and the index, which pickles by its directory or says why it does not."""
        return {"configuration": self._configuration(), "index": self._index}

    def __deepcopy__(self: Store, memo: dict[int, Any] | None = None) -> Store:
        """Return what a pickle would bring to another process; a store in memory says why it has no deep copy."""
        state = {**self.__getstate__(), "index": copy.deepcopy(self._index, memo)}
        other = type(self).__new__(type(self))
        other.__setstate__(state)
        return other

    def __setstate__(self, state: dict[str, Any]) -> None:
        configuration = dict(state["configuration"])
        index = state["index"]
        if index is None:
            self.__init__(**configuration)  # type: ignore[misc]
            return
        path = configuration.pop("path")
        self.__init__(index=index, **configuration)  # type: ignore[misc]
        # The other process may still be writing: what comes out of a pickle reads.
        self.path, self.read_only = path, True


# ---------------------------------------------------------------------------------------------- options


def _alias(aliases: dict[str, Any], alias: str, given: Any, name: str) -> Any:
    other = aliases.pop(alias, None)
    if other is None:
        return given
    if given is not None:
        raise ConfigurationError(f"{alias} is another name for {name}; pass one of them")
    return other


def _canonical_space(space: str) -> str:
    return VectorDatabase().create("hnsw", dim=1, space=space).space


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


def _ids(ids: Iterable[str] | None) -> list[str] | None:
    if ids is None:
        return None
    if isinstance(ids, str):
        raise ArgumentTypeError(f"ids are a list of str, got the str {ids!r}")
    return list(ids)


def _has_no_source() -> Filter:
    return ~field(REF_DOC_FIELD, source="payload").exists()


def _selection(
    index: VectorIndex, tree: Filter | Deep | None, ids: list[str] | None
) -> tuple[Filter | None, list[str] | None]:
    """Return a filter of the engine and ids that together select what a tree and ids do, None for no restriction."""
    if not isinstance(tree, Deep):
        return tree, ids
    ordered = [record_id for record_id, _ in index.list(len(index))] if ids is None else ids
    matching = tree.ids(lambda where: [record_id for record_id, _ in index.list(len(index), filter=where)])
    return None, [record_id for record_id in ordered if record_id in matching]


def _matching_ids(index: VectorIndex, ids: Sequence[str], tree: Filter) -> list[str]:
    """Return those of the ids that match, in their order and each once."""
    wanted = list(dict.fromkeys(ids))
    anywhere = np.ones(index.dim, np.float32)
    found = index.search_arrays(anywhere, len(wanted), filter=tree, ids=wanted, exact=True)[0]
    matching = set(found[0].tolist())
    return [node_id for node_id in wanted if node_id in matching]


def _check_order(index: VectorIndex, translation: Translation) -> None:
    """Raise where a comparison by order meets values of another type."""
    types = {summary.name: summary.types for summary in index.fields() if summary.source == "metadata"}
    for key, operand in translation.ordered:
        comparable = (
            {"null", "str", "datetime"} if isinstance(operand, str) else {"null", "int", "float", "bool"}
        )
        strangers = sorted(set(types.get(key, ())) - comparable)
        if strangers and key not in RESERVED:
            raise FilterError(
                f"filter on {key!r}: {operand!r} does not compare with the stored values of type "
                f"{', '.join(strangers)}; strict_filters=False takes these not to match"
            )


# ---------------------------------------------------------------------------------------------- records


def _columns_of(nodes: Sequence[BaseNode]) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = {
        name: [] for name in ("ids", "vectors", "metadatas", "texts", "payloads")
    }
    ids, vectors, metadatas, texts, payloads = columns.values()
    for position, node in enumerate(nodes):
        if not isinstance(node, BaseNode):
            raise ArgumentTypeError(f"node {position} is a {type(node).__name__}, not a node of LlamaIndex")
        if node.embedding is None:
            raise VectorError(
                f"node {node.node_id!r} (number {position}) has no embedding; embed nodes before they are added, "
                "or let a VectorStoreIndex do so"
            )
        try:
            text, extras = encode_node(node)
        except RecordError as error:
            raise type(error)(f"node {node.node_id!r} (number {position}): {error}") from None
        ids.append(node.node_id)
        vectors.append(node.embedding)
        metadatas.append(node.metadata)
        texts.append(text)
        payloads.append(extras)
    return columns


def _store(index: VectorIndex, columns: dict[str, list[Any]]) -> None:
    index.add(columns, on_error="raise")


def _node_of(record: Mapping[str, Any]) -> BaseNode:
    vector = record.get("vector")
    return decode_node(
        record["id"],
        record["text"],
        record["metadata"],
        record["payload"],
        None if vector is None else vector.tolist(),
    )


def _result(hits: list[Any], space: str) -> VectorStoreQueryResult:
    return VectorStoreQueryResult(
        nodes=[_node_of(hit) for hit in hits],
        similarities=similarities_of([hit["score"] for hit in hits], space),
        ids=[hit["id"] for hit in hits],
    )


def _node_of_simple(simple: Any, node_id: str) -> BaseNode:
    metadata = dict((simple.data.metadata_dict or {}).get(node_id) or {})
    for name in RESERVED:
        metadata.pop(name, None)
    node = TextNode(id_=node_id, metadata=metadata)
    ref_doc_id = simple.data.text_id_to_ref_doc_id.get(node_id, "None")
    if ref_doc_id != "None":
        node.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(
            node_id=ref_doc_id, node_type=ObjectType.DOCUMENT
        )
    return node

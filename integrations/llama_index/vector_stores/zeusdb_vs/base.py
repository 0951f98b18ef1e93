"""The vector store, all parts in one: how it is made, kept and pickled. What it does has files of its own."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, TypeVar

from llama_index.core.schema import BaseNode
from llama_index.core.vector_stores.types import DEFAULT_PERSIST_DIR, DEFAULT_PERSIST_FNAME
from llama_index.vector_stores.zeusdb_vs import transfer
from llama_index.vector_stores.zeusdb_vs.core import IGNORED_OPTIONS
from llama_index.vector_stores.zeusdb_vs.migration import nodes_of_simple
from llama_index.vector_stores.zeusdb_vs.protocol import VectorIndex
from llama_index.vector_stores.zeusdb_vs.querying import QueryMixin
from llama_index.vector_stores.zeusdb_vs.reading import ReadingMixin
from llama_index.vector_stores.zeusdb_vs.writing import WritingMixin

from zeusdb_vs import ArgumentTypeError, ConfigurationError

DEFAULT_NAMESPACE = "default"

Store = TypeVar("Store", bound="ZeusDBVectorStore")


class ZeusDBVectorStore(WritingMixin, ReadingMixin, QueryMixin):
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
        Keep small codes in place of embeddings once there are enough to train on, such as ``{"type": "int8"}``; see
        `VectorDatabase.create`. An index that is there remembers it.
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
        for name in (*IGNORED_OPTIONS, "flat_metadata"):
            aliases.pop(name, None)
        if aliases:
            known = [name for name in type(self).model_fields if name not in IGNORED_OPTIONS]
            raise ConfigurationError(f"unknown option {next(iter(aliases))!r}; known are {', '.join(known)}")
        if index is not None and path is not None:
            raise ConfigurationError("a store takes an index or a path, not both")
        if quantization_config is not None and not isinstance(quantization_config, Mapping):
            raise ArgumentTypeError(
                "quantization_config must be a dict such as {'type': 'int8'}, "
                f"got {type(quantization_config).__name__}"
            )
        if index is not None and quantization_config is not None:
            raise ConfigurationError(
                "quantization_config is for a new index; the one given changes by rebuild(quantization_config=...)"
            )
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
            self._check_options()

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
        return cls.from_nodes(nodes_of_simple(simple, nodes, docstore), **options)

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

    # ------------------------------------------------------------------------------------------ pickling

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
        del configuration["quantization_config"]  # the index has it
        self.__init__(index=index, **configuration)  # type: ignore[misc]
        # The other process may still be writing: what comes out of a pickle reads.
        self.path, self.read_only = path, True


def _alias(aliases: dict[str, Any], alias: str, given: Any, name: str) -> Any:
    other = aliases.pop(alias, None)
    if other is None:
        return given
    if given is not None:
        raise ConfigurationError(f"{alias} is another name for {name}; pass one of them")
    return other

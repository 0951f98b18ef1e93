"""`ZeusDBVectorStore`: documents in, documents out, and the life of a store."""

from __future__ import annotations

import pathlib
import uuid
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables import run_in_executor
from numpy.typing import NDArray

from langchain_zeusdb_vs import migration
from langchain_zeusdb_vs.core import (
    PARTS,
    Path,
    as_document,
    as_id,
    check_count,
    check_ids,
    check_text,
    logger,
    refuse_unknown,
)
from langchain_zeusdb_vs.embedders import as_matrix
from langchain_zeusdb_vs.filters import Filter, ZeusDBTranslator, both, check_filter, read_filter
from langchain_zeusdb_vs.retrievers import ZeusDBRetriever
from langchain_zeusdb_vs.searching import SearchMixin
from zeusdb_vs import (
    ArgumentTypeError,
    ConfigurationError,
    FilterError,
    HNSWIndex,
    IdError,
    RecordError,
    VectorDatabase,
)

if TYPE_CHECKING:
    from langchain_core.language_models import BaseLanguageModel

Matrix = NDArray[np.float32]
OnError = Literal["raise", "skip"]
StrList = list[str]
Documents = list[Document]

_GET_PARTS = ("documents", "metadatas", "embeddings")
_ADD_OPTIONS = ("texts", "metadatas", "ids", "batch_size", "on_error")


class Records(TypedDict, total=False):
    """What `ZeusDBVectorStore.get` returns: parallel lists, of which `include` chooses all but the ids."""

    ids: list[str]
    documents: list[str]
    metadatas: list[dict[str, Any]]
    embeddings: list[NDArray[np.float32]]


class ZeusDBVectorStore(SearchMixin):
    """A vector store in this process, in memory or in a directory that survives it.

    Setup
        ``pip install 'zeusdb-vs[langchain]'``. No server, no account.

    Key init args
        embedding : Embeddings or None
            The embedding model; None to work with vectors only.
        path : str or path-like, optional
            A directory to open or make. What was added is there after a restart, or a crash, without a save.
            Without it the store lives in memory.
        space : {"cosine", "l2", "l1", "dot"}
            How vectors compare; cosine by default.
        index : HNSWIndex, optional
            An index of the engine to work on, instead of `path`; ``zeusdb_index`` is its old name.
        dim : int, optional
            Width of the vectors; taken from the first ones by default.
        m, ef_construction, expected_size : int, optional
            Of the graph; see `zeusdb_vs.VectorDatabase.create`.
        ef_search : int, optional
            Width of searches that name none; chosen from ``k`` by default.
        relevance_score_fn : callable, optional
            Distance to relevance; by default one that stays within 0 to 1.
        on_embedding_mismatch : {"error", "warn", "ignore"}
            What to do when a directory was filled by another model, which is found out before any search by
            embedding one known text.
        durability : {"always", "interval", "never"}
            What survives a loss of power; a crash of the process loses nothing. See `VectorDatabase.open`.
        read_only : bool
            Open the directory beside another process that writes to it.
        batch_size : int
            Texts given to the embedding model at a time.

    Instantiate
        >>> from langchain_core.embeddings import DeterministicFakeEmbedding
        >>> from langchain_zeusdb_vs import ZeusDBVectorStore
        >>> store = ZeusDBVectorStore(DeterministicFakeEmbedding(size=8))  # path="docs.zdb" keeps it

    Add
        >>> from langchain_core.documents import Document
        >>> bees = Document("bees make honey", metadata={"topic": "animals", "year": 2021})
        >>> bread = Document("bread needs time", metadata={"topic": "food", "year": 2023})
        >>> store.add_documents([bees, bread], ids=["bees", "bread"])
        ['bees', 'bread']

    Delete
        >>> store.delete(ids=["bread"])
        True

    Search
        >>> [document.id for document in store.similarity_search("honey", k=2)]
        ['bees']
        >>> store.similarity_search("honey", filter={"year": {"$gt": 2022}})
        []
        >>> document, distance = store.similarity_search_with_score("bees make honey", k=1)[0]
        >>> round(distance, 3)
        0.0

    Async
        Every call has an async twin (``asimilarity_search``, ``aadd_documents``, ...) that awaits the model's own
        async calls and leaves the event loop free while the engine works.

    Retriever
        >>> retriever = store.as_retriever(k=1, filter={"topic": "animals"})
        >>> [document.id for document in retriever.invoke("sweet")]
        ['bees']
    """

    # ------------------------------------------------------------------------------------------ add

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        batch_size: int | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> StrList:
        """Embed texts and store them; one whose id is there already replaces that document.

        All are embedded before any is stored, and they are stored together: after an error nothing is.

        Parameters
        ----------
        texts : iterable of str
        metadatas : iterable of (dict or None), optional
            One for each text, copied.
        ids : iterable of (str, int or None), optional
            One for each text; None is replaced by a new UUID. Of equal ids the last counts.
        batch_size : int, optional
            Texts given to the embedding model at a time.
        on_error : {"raise", "skip"}
            ``"skip"`` leaves out documents that cannot be stored, such as one whose embedding is zero under
            cosine, and logs a warning.

        Returns
        -------
        list of str
            The ids of what was stored, in the order of the texts.

        Raises
        ------
        TypeError
            A text is no str, or an argument is unknown.
        ValueError
            The lengths differ, or a record cannot be stored (`zeusdb_vs.RecordError`, which names it).
        """
        batch = self._read_batch(texts, metadatas, ids, on_error, kwargs)
        if not batch.texts:
            return []
        return self._store(batch, self._embed_documents(batch.texts, self._batch_of(batch_size)))

    async def aadd_texts(
        self,
        texts: Iterable[str],
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        batch_size: int | None = None,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> StrList:
        """As `add_texts`, without holding up the event loop. Cancelled, it stores all or nothing."""
        # Iterables are read here, for they may belong to this thread; checking them takes longer.
        columns = _listed(texts), _listed(metadatas), _listed(ids)
        batch = await run_in_executor(None, self._read_batch, *columns, on_error, kwargs)
        if not batch.texts:
            return []
        vectors = await self._aembed_documents(batch.texts, self._batch_of(batch_size))
        return await run_in_executor(None, self._store, batch, vectors)

    def add_documents(
        self, documents: Iterable[Document], ids: Iterable[str | int | None] | None = None, **kwargs: Any
    ) -> StrList:
        """As `add_texts`, for documents, which stay as they are; an id not given is taken from the document."""
        return self.add_texts(**self._read_documents(documents, ids), **kwargs)

    async def aadd_documents(
        self, documents: Iterable[Document], ids: Iterable[str | int | None] | None = None, **kwargs: Any
    ) -> StrList:
        """As `add_documents`, without holding up the event loop."""
        return await self.aadd_texts(**self._read_documents(documents, ids), **kwargs)

    def add_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        *,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> StrList:
        """As `add_texts`, for texts embedded already: an array (n, dim) or a sequence of vectors."""
        batch = self._read_batch(texts, metadatas, ids, on_error, kwargs)
        vectors = as_matrix(embeddings, len(batch.texts), "embeddings")
        return self._store(batch, vectors) if batch.texts else []

    async def aadd_embeddings(
        self,
        texts: Iterable[str],
        embeddings: Any,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        *,
        on_error: OnError = "raise",
        **kwargs: Any,
    ) -> StrList:
        """As `add_embeddings`, without holding up the event loop."""
        columns = _listed(texts), _listed(metadatas), _listed(ids)
        batch = await run_in_executor(None, self._read_batch, *columns, on_error, kwargs)
        vectors = await run_in_executor(None, as_matrix, embeddings, len(batch.texts), "embeddings")
        return await run_in_executor(None, self._store, batch, vectors) if batch.texts else []

    def update_documents(
        self, ids: Iterable[str | int] | str, documents: Iterable[Document] | Document, **kwargs: Any
    ) -> StrList:
        """Replace documents that are there by others, embedded anew.

        Raises
        ------
        KeyError
            An id is not in the store (`zeusdb_vs.RecordNotFoundError`); nothing is changed.
        """
        names, replacements = self._read_update(ids, documents)
        self._check_there(names)
        return self.add_documents(replacements, ids=names, **kwargs)

    async def aupdate_documents(
        self, ids: Iterable[str | int] | str, documents: Iterable[Document] | Document, **kwargs: Any
    ) -> StrList:
        """As `update_documents`, without holding up the event loop."""
        names, replacements = self._read_update(ids, documents)
        await run_in_executor(None, self._check_there, names)
        return await self.aadd_documents(replacements, ids=names, **kwargs)

    def update_metadata(
        self,
        patch: Mapping[str, Any],
        ids: Iterable[str | int] | str | None = None,
        *,
        filter: Filter | None = None,
        replace: bool = False,
    ) -> int:
        """Set keys of the metadata of some documents; nothing is embedded, text and vector stay.

        Parameters
        ----------
        patch : dict
            The keys to set; all other keys stay, unless `replace` is true.
        ids : iterable of (str or int), optional
            Which documents; ids that are not there are skipped.
        filter : Filter, optional
            Which documents, by their metadata; with `ids`, those of them that match.
        replace : bool
            Drop the keys that `patch` does not have.

        Returns
        -------
        int
            Documents changed.
        """
        self._check_writable()
        if ids is None and filter is None:
            raise ConfigurationError("update_metadata needs ids= or filter=")
        names = None if ids is None else check_ids(ids)
        condition = read_filter(filter)
        index = self._index
        if index is None:
            check_filter(condition)
            return 0
        if condition.predicates:
            names, where = self._chosen(index, names, filter), None
        else:
            # An empty dict is for the engine to refuse.
            where = {} if names is None and condition.tree is None else condition.tree
        return int(index.update_metadata(metadata=patch, ids=names, where=where, merge=not replace))

    async def aupdate_metadata(
        self,
        patch: Mapping[str, Any],
        ids: Iterable[str | int] | str | None = None,
        *,
        filter: Filter | None = None,
        replace: bool = False,
    ) -> int:
        """As `update_metadata`, without holding up the event loop."""
        return await run_in_executor(None, self.update_metadata, patch, ids, filter=filter, replace=replace)

    # ------------------------------------------------------------------------------------------ delete

    def delete(
        self, ids: Iterable[str | int] | str | None = None, *, filter: Filter | None = None, **kwargs: Any
    ) -> bool:
        """Delete documents by id, by filter, or those of the ids that match the filter.

        Without either, everything is deleted, as `VectorStore.delete` lays down, and the number is logged.

        Parameters
        ----------
        ids : iterable of (str or int), optional
            Ids that are not there are no error; an empty list deletes nothing.
        filter : Filter, optional
            An empty dict is refused.

        Returns
        -------
        bool
            True.
        """
        refuse_unknown(kwargs, ("ids", "filter"), "delete")
        self._check_writable()
        if isinstance(filter, Mapping) and not filter:
            raise FilterError(
                "delete: an empty filter matches everything; call delete() to delete everything"
            )
        names = None if ids is None else check_ids(ids)
        index = self._index
        if index is None:
            check_filter(read_filter(filter))
            return True
        if names is None and filter is None:
            logger.warning("delete() without ids or filter: all %d documents deleted", index.clear())
            return True
        condition = read_filter(filter)
        if condition.predicates:
            index.remove_points(self._chosen(index, names, filter))
        elif names is None or names:
            index.delete(names, condition.tree)
        return True

    async def adelete(
        self, ids: Iterable[str | int] | str | None = None, *, filter: Filter | None = None, **kwargs: Any
    ) -> bool:
        """As `delete`, without holding up the event loop."""
        return await run_in_executor(None, lambda: self.delete(ids, filter=filter, **kwargs))

    # ------------------------------------------------------------------------------------------ read

    def get_by_ids(self, ids: Sequence[str | int], /) -> Documents:
        """Return documents by id, in the order of the ids; those that are not there are left out."""
        self._check_open()
        names = check_ids(ids)
        if self._index is None:
            return []
        return [as_document(record) for record in self._index.get_records(names, include=PARTS)]

    async def aget_by_ids(self, ids: Sequence[str | int], /) -> Documents:
        """As `get_by_ids`, without holding up the event loop."""
        return await run_in_executor(None, self.get_by_ids, ids)

    def get(
        self,
        ids: Iterable[str | int] | str | None = None,
        filter: Filter | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        include: Iterable[str] = ("documents", "metadatas"),
    ) -> Records:
        """Return what is stored, without searching.

        Parameters
        ----------
        ids : iterable of (str or int), optional
            Only these, in this order; ids that are not there are left out.
        filter : Filter, optional
            Only documents that match.
        limit : int, optional
            Documents wanted at most.
        offset : int
            Documents to skip.
        include : iterable of {"documents", "metadatas", "embeddings"}
            What to return beside the ids.

        Returns
        -------
        dict
            ``{"ids": [...], "documents": [...], "metadatas": [...], "embeddings": [...]}``: parallel lists, in
            the order in which documents were added if no `ids` are given.
        """
        self._check_open()
        wanted = [include] if isinstance(include, str) else list(include)
        for part in wanted:
            if part not in _GET_PARTS:
                raise ConfigurationError(f"include names {part!r}; known are {', '.join(_GET_PARTS)}")
        size = None if limit is None else check_count(limit, "limit", 0)
        skip = check_count(offset, "offset", 0)
        condition = read_filter(filter)
        found: Records = {"ids": []}
        for part in wanted:
            found[part] = []  # type: ignore[literal-required]
        index = self._index
        if index is None:
            check_filter(condition)
            return found
        if ids is None and not condition.predicates:
            page = index.list(index.count() if size is None else size, skip, filter=condition.tree)
            chosen = [id for id, _ in page]
        else:
            names = None if ids is None else list(dict.fromkeys(check_ids(ids)))
            chosen = self._chosen(index, names, filter)[skip:][:size]
        parts = (*PARTS, "vector") if "embeddings" in wanted else PARTS
        for record in index.get_records(chosen, include=parts):
            document = as_document(record)
            found["ids"].append(record["id"])
            if "documents" in wanted:
                found["documents"].append(document.page_content)
            if "metadatas" in wanted:
                found["metadatas"].append(document.metadata)
            if "embeddings" in wanted:
                found["embeddings"].append(record["vector"])
        return found

    async def aget(
        self,
        ids: Iterable[str | int] | str | None = None,
        filter: Filter | None = None,
        *,
        limit: int | None = None,
        offset: int = 0,
        include: Iterable[str] = ("documents", "metadatas"),
    ) -> Records:
        """As `get`, without holding up the event loop."""
        return await run_in_executor(None, self.get, ids, filter, limit=limit, offset=offset, include=include)

    def count(self, filter: Filter | None = None) -> int:
        """Return how many documents match a filter; all of them without one."""
        self._check_open()
        condition = read_filter(filter)
        if self._index is None:
            check_filter(condition)
            return 0
        if condition.predicates:
            return sum(1 for _ in self._matching(self._index, condition))
        return self._index.count(condition.tree)

    async def acount(self, filter: Filter | None = None) -> int:
        """As `count`, without holding up the event loop."""
        return await run_in_executor(None, self.count, filter)

    def iterate(self, filter: Filter | None = None) -> Iterator[Document]:
        """Yield the documents that match a filter, in the order they were added, as they were at the start.

        Documents deleted meanwhile are left out.
        """
        self._check_open()
        condition = read_filter(filter)
        if self._index is None:
            check_filter(condition)
            return iter(())
        return map(as_document, self._matching(self._index, condition))

    async def aiterate(self, filter: Filter | None = None) -> AsyncIterator[Document]:
        """As `iterate`, without holding up the event loop."""
        documents = self.iterate(filter)

        def next_documents() -> Documents:
            return [document for _, document in zip(range(100), documents, strict=False)]

        while page := await run_in_executor(None, next_documents):
            for document in page:
                yield document

    def __contains__(self, id: object) -> bool:
        self._check_open()
        return self._index is not None and as_id(id) in self._index

    # ------------------------------------------------------------------------------------------ retrievers

    def as_retriever(self, **kwargs: Any) -> ZeusDBRetriever:
        """Return a retriever on this store.

        Parameters
        ----------
        **kwargs
            Fields of `ZeusDBRetriever`: ``k``, ``filter``, ``score_threshold``, ``score_key``, and
            ``search_type`` and ``search_kwargs`` as for every LangChain store.
        """
        tags = kwargs.pop("tags", None) or [*self._get_retriever_tags()]
        return ZeusDBRetriever(vectorstore=self, tags=tags, **kwargs)

    def as_self_query_retriever(
        self,
        llm: BaseLanguageModel[Any],
        document_contents: str,
        metadata_field_info: Sequence[Any],
        *,
        base_filter: Filter | None = None,
        search_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Any:
        """Return a retriever for which a language model turns the question into a text and a filter.

        Parameters
        ----------
        llm : BaseLanguageModel
        document_contents : str
            What the documents are, for the model.
        metadata_field_info : sequence of AttributeInfo or dict
            The fields it may filter by.
        base_filter : Filter, optional
            Holds for every search; the model cannot drop or widen it. A filter in `search_kwargs` is added.
        search_kwargs : dict, optional
            Further arguments of the search.
        **kwargs
            For `SelfQueryRetriever.from_llm`, such as ``enable_limit=True``.

        Returns
        -------
        SelfQueryRetriever

        Raises
        ------
        ImportError
            langchain-classic (or lark, which it parses with) is not installed.
        """
        try:
            from langchain_classic.retrievers.self_query.base import SelfQueryRetriever
        except ImportError as error:
            raise ImportError("self-query needs two packages: pip install langchain-classic lark") from error
        options = dict(search_kwargs or {})
        translator = ZeusDBTranslator(both(base_filter, options.pop("filter", None)))
        return SelfQueryRetriever.from_llm(
            llm,
            self,
            document_contents,
            metadata_field_info,
            structured_query_translator=translator,
            search_kwargs=options,
            **kwargs,
        )

    # ------------------------------------------------------------------------------------------ life

    def save(self, path: Path | None = None) -> None:
        """Write the store to a directory, wholly or not at all.

        Parameters
        ----------
        path : str or path-like, optional
            Where; the store is not bound to it. Without it, the directory the store was opened from takes up its
            journal: what was added is safe there without that, opening is faster after it.
        """
        index = self._index_to_save()
        if not index.read_only:
            self._note_model(index)
        index.save(path)

    async def asave(self, path: Path | None = None) -> None:
        """As `save`, without holding up the event loop."""
        await run_in_executor(None, self.save, path)

    def close(self) -> None:
        """Force everything to disk and let go of the directory; every later call raises ClosedIndexError."""
        self._closed = True
        if self._index is not None:
            self._index.close()

    async def aclose(self) -> None:
        """As `close`, without holding up the event loop."""
        await run_in_executor(None, self.close)

    def __enter__(self) -> ZeusDBVectorStore:
        self._check_open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> ZeusDBVectorStore:
        self._check_open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        about = "closed" if self._closed else "empty" if self._index is None else self._index.info()
        return f"ZeusDBVectorStore({about})"

    # ------------------------------------------------------------------------------------------ from others

    @classmethod
    def from_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> ZeusDBVectorStore:
        """Return a store filled with texts; `kwargs` are those of the constructor."""
        return cls._filled(cls(embedding, **kwargs), lambda store: store.add_texts(texts, metadatas, ids=ids))

    @classmethod
    async def afrom_texts(
        cls,
        texts: Iterable[str],
        embedding: Embeddings,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        *,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> ZeusDBVectorStore:
        """As `from_texts`, without holding up the event loop."""
        store = await run_in_executor(None, lambda: cls(embedding, **kwargs))
        try:
            await store.aadd_texts(texts, metadatas, ids=ids)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def from_documents(
        cls, documents: Iterable[Document], embedding: Embeddings, **kwargs: Any
    ) -> ZeusDBVectorStore:
        """Return a store filled with documents; ids are taken from `ids`, or the documents, or made."""
        return cls.from_texts(
            embedding=embedding, **cls._read_documents(documents, kwargs.pop("ids", None)), **kwargs
        )

    @classmethod
    async def afrom_documents(
        cls, documents: Iterable[Document], embedding: Embeddings, **kwargs: Any
    ) -> ZeusDBVectorStore:
        """As `from_documents`, without holding up the event loop."""
        columns = cls._read_documents(documents, kwargs.pop("ids", None))
        return await cls.afrom_texts(embedding=embedding, **columns, **kwargs)

    @classmethod
    def from_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> ZeusDBVectorStore:
        """Return a store filled with pairs of a text and its embedding; `embedding` is for later queries."""
        pairs = list(text_embeddings)
        return cls._filled(
            cls(embedding, **kwargs),
            lambda store: store.add_embeddings(
                [text for text, _ in pairs], [vector for _, vector in pairs], metadatas, ids
            ),
        )

    @classmethod
    async def afrom_embeddings(
        cls,
        text_embeddings: Iterable[tuple[str, Any]],
        embedding: Embeddings | None = None,
        metadatas: Iterable[Mapping[str, Any] | None] | None = None,
        ids: Iterable[str | int | None] | None = None,
        **kwargs: Any,
    ) -> ZeusDBVectorStore:
        """As `from_embeddings`, without holding up the event loop."""
        return await run_in_executor(
            None, lambda: cls.from_embeddings(text_embeddings, embedding, metadatas, ids, **kwargs)
        )

    @classmethod
    def open(cls, path: Path, embedding: Embeddings | None = None, **kwargs: Any) -> ZeusDBVectorStore:
        """Return the store in a directory, made there if there is none; `kwargs` are the constructor's."""
        return cls(embedding, path=path, **kwargs)

    @classmethod
    async def aopen(cls, path: Path, embedding: Embeddings | None = None, **kwargs: Any) -> ZeusDBVectorStore:
        """As `open`, without holding up the event loop."""
        return await run_in_executor(None, lambda: cls(embedding, path=path, **kwargs))

    @classmethod
    def from_existing_index(
        cls, embedding: Embeddings | None, path: Path, **kwargs: Any
    ) -> ZeusDBVectorStore:
        """As `open`; other stores' name for it."""
        return cls(embedding, path=path, **kwargs)

    def save_local(self, folder_path: Path, index_name: str = "index") -> None:
        """Write the store to a directory in a folder, as FAISS's call of this name does: one for each name."""
        folder = pathlib.Path(folder_path)
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / f"{index_name}.zdb")

    @classmethod
    def load_local(
        cls,
        folder_path: Path,
        embeddings: Embeddings | None,
        index_name: str = "index",
        *,
        allow_dangerous_deserialization: bool = False,  # noqa: ARG003
        **kwargs: Any,
    ) -> ZeusDBVectorStore:
        """Return what `save_local` wrote, in memory.

        `allow_dangerous_deserialization` is taken for FAISS's sake and means nothing: nothing is unpickled.
        """
        return cls.load_index(pathlib.Path(folder_path) / f"{index_name}.zdb", embeddings, **kwargs)

    @classmethod
    def from_faiss(
        cls, store: Any, embedding: Embeddings | None = None, *, batch_size: int = 1_000, **kwargs: Any
    ) -> ZeusDBVectorStore:
        """Return a store with the documents and vectors of a LangChain FAISS store; nothing is embedded.

        Parameters
        ----------
        store : langchain_community.vectorstores.FAISS
            Left as it is. Vectors are read through ``index.reconstruct``, so quantized ones come as FAISS kept them.
        embedding : Embeddings, optional
            The store's own model by default.
        batch_size : int
            Documents moved at a time.
        **kwargs
            Of the constructor, such as ``path``. The space is FAISS's: l2, or dot for inner products.
        """
        return cls._moved(store, embedding, kwargs, migration.read_faiss(store, batch_size))

    @classmethod
    def from_chroma(
        cls, store: Any, embedding: Embeddings | None = None, *, batch_size: int = 1_000, **kwargs: Any
    ) -> ZeusDBVectorStore:
        """Return a store with the documents and vectors of a LangChain Chroma store; nothing is embedded.

        Parameters
        ----------
        store : langchain_chroma.Chroma
            Left as it is.
        embedding, batch_size
            As for `from_faiss`.
        **kwargs
            Of the constructor. ``space`` is ``"l2"`` by default, as Chroma's is; pass what the collection uses.
        """
        return cls._moved(
            store, embedding, {"space": "l2", **kwargs}, migration.read_chroma(store, batch_size)
        )

    @classmethod
    def from_inmemory(
        cls, store: Any, embedding: Embeddings | None = None, *, batch_size: int = 1_000, **kwargs: Any
    ) -> ZeusDBVectorStore:
        """Return a store with the documents and vectors of an InMemoryVectorStore; nothing is embedded."""
        return cls._moved(store, embedding, kwargs, migration.read_inmemory(store, batch_size))

    # ------------------------------------------------------------------------------------------ langchain-zeusdb

    def save_index(self, path: Path) -> bool:
        """As `save`; langchain-zeusdb's name for it."""
        self.save(path)
        return True

    @classmethod
    def load_index(cls, path: Path, embedding: Embeddings | None = None, **kwargs: Any) -> ZeusDBVectorStore:
        """Return a saved store, in memory and not bound to the path; langchain-zeusdb's name."""
        return cls(embedding, index=VectorDatabase().load(path), **kwargs)

    def get_vector_count(self) -> int:
        """As `count`; langchain-zeusdb's name for it."""
        return self.count()

    def info(self) -> str:
        """Return the engine's index in one line; langchain-zeusdb's name for `repr`."""
        return self.index.info()

    # ------------------------------------------------------------------------------------------ inside

    @staticmethod
    def _filled(store: ZeusDBVectorStore, fill: Callable[[ZeusDBVectorStore], object]) -> ZeusDBVectorStore:
        """Return a store once it is filled; one that could not be is closed, so that its directory is free."""
        try:
            fill(store)
        except BaseException:
            store.close()
            raise
        return store

    @classmethod
    def _moved(
        cls,
        source: Any,
        embedding: Embeddings | None,
        kwargs: dict[str, Any],
        source_batches: migration.Source,
    ) -> ZeusDBVectorStore:
        model = source.embeddings if embedding is None else embedding
        if source_batches.space is not None:
            kwargs = {"space": source_batches.space, **kwargs}

        def fill(store: ZeusDBVectorStore) -> None:
            for batch in source_batches.batches:
                store.add_embeddings(batch.texts, batch.vectors, batch.metadatas, batch.ids)

        return cls._filled(cls(model, **kwargs), fill)

    def _batch_of(self, batch_size: int | None) -> int:
        return self._batch_size if batch_size is None else check_count(batch_size, "batch_size")

    def _read_batch(
        self, texts: Any, metadatas: Any, ids: Any, on_error: Any, unknown: Mapping[str, Any]
    ) -> _Batch:
        """Check all of a batch but its vectors, reading each iterable once."""
        refuse_unknown(unknown, _ADD_OPTIONS, "adding")
        if on_error not in ("raise", "skip"):
            raise ConfigurationError(f"on_error is 'raise' or 'skip', got {on_error!r}")
        self._check_writable()
        if isinstance(texts, str):
            raise ArgumentTypeError("texts must be a list of str, got one str; write [text]")
        strings = [check_text(text, f"text {position}") for position, text in enumerate(texts)]
        documents = _column(metadatas, "metadatas", len(strings))
        for position, metadata in enumerate(documents):
            if metadata is not None and not isinstance(metadata, Mapping):
                raise ArgumentTypeError(
                    f"metadata of text {position} must be a dict, got {type(metadata).__name__}"
                )
        if isinstance(ids, str):
            raise ArgumentTypeError("ids must be a list, got one str; write [id]")
        names = [str(uuid.uuid4()) if id is None else as_id(id) for id in _column(ids, "ids", len(strings))]
        if "" in names:
            raise IdError(f"text {names.index('')}: an id must not be empty; pass None to have one made")
        return _Batch(strings, [metadata or {} for metadata in documents], names, on_error == "skip")

    @staticmethod
    def _read_documents(documents: Iterable[Document], ids: Any) -> dict[str, Any]:
        if isinstance(documents, Document):
            raise ArgumentTypeError("documents must be a list of Document, got one; write [document]")
        given = list(documents)
        for position, document in enumerate(given):
            if not isinstance(document, Document):
                raise ArgumentTypeError(
                    f"document {position} must be a Document, got {type(document).__name__}"
                )
        return {
            "texts": [document.page_content for document in given],
            "metadatas": [document.metadata for document in given],
            "ids": [document.id for document in given] if ids is None else ids,
        }

    @staticmethod
    def _read_update(ids: Any, documents: Any) -> tuple[StrList, Documents]:
        names = check_ids(ids)
        replacements = [documents] if isinstance(documents, Document) else list(documents)
        if len(names) != len(replacements):
            raise RecordError(f"{len(names):,} ids for {len(replacements):,} documents; nothing was changed")
        return names, replacements

    def _check_there(self, names: StrList) -> None:
        self._check_writable()
        self.index.get_records(names, include=(), strict=True)

    def _store(self, batch: _Batch, vectors: Matrix) -> StrList:
        """Hand a whole batch to the engine, which takes all of it or nothing."""
        index = self._index_of_width(vectors.shape[1])
        columns = {
            "ids": batch.ids,
            "vectors": vectors,
            "metadatas": batch.metadatas,
            "texts": batch.texts,
        }
        if not batch.skip:
            index.add(columns, on_error="raise")
            return batch.ids
        result = index.add(columns, on_error="collect")
        refused = {error.position for error in result.errors}
        for error in result.errors:
            logger.warning("left out: %s", error)
        return [id for position, id in enumerate(batch.ids) if position not in refused]

    def _chosen(self, index: HNSWIndex, names: StrList | None, filter: Filter | None) -> StrList:
        """Return the ids, of those given or of all, whose documents match; those given in their order."""
        condition = read_filter(filter)
        if names is None:
            return [record["id"] for record in self._matching(index, condition, ())]
        if condition.tree is not None:
            matching = {id for id, _ in index.list(index.count(condition.tree), filter=condition.tree)}
            names = [name for name in names if name in matching]
        records = index.get_records(names, include=PARTS if condition.predicates else ())
        return [
            record["id"]
            for record in records
            if not condition.predicates or condition.holds(as_document(record))
        ]

    def _index_to_save(self) -> HNSWIndex:
        self._check_open()
        if self._index is None and self._embedding is not None:
            # Empty so far, and still to be saved: the model knows the width.
            return self._index_of_width(len(self._embedding.embed_documents([""])[0]))
        return self.index


class _Batch:
    """Checked texts, metadata and ids on their way into the engine."""

    __slots__ = ("ids", "metadatas", "skip", "texts")

    def __init__(self, texts: StrList, metadatas: list[Mapping[str, Any]], ids: StrList, skip: bool) -> None:
        self.texts, self.metadatas, self.ids, self.skip = texts, metadatas, ids, skip


def _listed(values: Any) -> Any:
    """Return an iterable read to its end; what is none of the kind is left for the checks to name."""
    is_plain = values is None or isinstance(values, str | Mapping | Sequence)
    return list(values) if isinstance(values, Iterable) and not is_plain else values


def _column(values: Iterable[Any] | None, name: str, count: int) -> list[Any]:
    """Return one value for each text; raise where the lengths differ."""
    if values is None:
        return [None] * count
    if isinstance(values, Mapping):
        raise ArgumentTypeError(f"{name} must be a list with one entry for each text, got one dict")
    given = list(values)
    if len(given) != count:
        raise RecordError(
            f"{count:,} texts and {len(given):,} {name}: they must be as many; nothing was stored"
        )
    return given

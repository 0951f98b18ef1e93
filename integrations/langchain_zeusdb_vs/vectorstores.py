"""`ZeusDBVectorStore`, all parts in one: its retrievers, saving and closing. What it does has files of its own."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.runnables import run_in_executor

from langchain_zeusdb_vs.core import Path
from langchain_zeusdb_vs.filters import Filter, ZeusDBTranslator, both
from langchain_zeusdb_vs.making import MakingMixin
from langchain_zeusdb_vs.reading import ReadingMixin
from langchain_zeusdb_vs.retrievers import ZeusDBRetriever
from langchain_zeusdb_vs.searching import SearchMixin
from zeusdb_vs import HNSWIndex

if TYPE_CHECKING:
    from langchain_core.language_models import BaseLanguageModel


class ZeusDBVectorStore(MakingMixin, ReadingMixin, SearchMixin):
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
        quantization_config : dict, optional
            Keep small codes in place of vectors once there are enough to train on, such as ``{"type": "int8"}``; see
            `zeusdb_vs.VectorDatabase.create`. A directory remembers it.
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

    def save_local(self, folder_path: Path, index_name: str = "index") -> None:
        """Write the store to a directory in a folder, as FAISS's call of this name does: one for each name."""
        folder = pathlib.Path(folder_path)
        folder.mkdir(parents=True, exist_ok=True)
        self.save(folder / f"{index_name}.zdb")

    def save_index(self, path: Path) -> bool:
        """As `save`; langchain-zeusdb's name for it."""
        self.save(path)
        return True

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

    def get_vector_count(self) -> int:
        """As `count`; langchain-zeusdb's name for it."""
        return self.count()

    def info(self) -> str:
        """Return the engine's index in one line; langchain-zeusdb's name for `repr`."""
        return self.index.info()

    def _index_to_save(self) -> HNSWIndex:
        self._check_open()
        if self._index is None and self._embedding is not None:
            # Empty so far, and still to be saved: the model knows the width.
            return self._index_of_width(len(self._embedding.embed_documents([""])[0]))
        return self.index

"""`ZeusDBRetriever`: a retriever whose filter can be narrowed but never dropped, and whose batches are one search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForRetrieverRun,
    CallbackManager,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import LangSmithRetrieverParams
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import get_config_list
from langchain_core.vectorstores import VectorStoreRetriever
from pydantic import model_validator

from langchain_zeusdb_vs.asking import OPTIONS
from langchain_zeusdb_vs.core import refuse_unknown
from langchain_zeusdb_vs.embedders import name_of
from langchain_zeusdb_vs.filters import both, read_filter
from langchain_zeusdb_vs.searching import SearchMixin

_OWN = ("k", "filter", "score_threshold", "score_key", "search_type", "search_kwargs")
_SEARCH_KWARGS = (*OPTIONS, "score_threshold", "fetch_k", "lambda_mult")
_THRESHOLD_SEARCH = "similarity_score_threshold"


class ZeusDBRetriever(VectorStoreRetriever):
    """Retrieves documents from a `ZeusDBVectorStore`; made by its `as_retriever`.

    Parameters
    ----------
    vectorstore : ZeusDBVectorStore
    k : int
        Documents wanted.
    filter : Filter, optional
        Holds for every call. A filter given to a call is added to it and cannot replace it.
    score_threshold : float, optional
        Leave out documents less relevant than this, from 0 to 1.
    score_key : str, optional
        Put each document's relevance (with `score_threshold`) or distance into its metadata under this key.
    search_type : {"similarity", "similarity_score_threshold", "mmr"}
    search_kwargs : dict
        Further arguments of the search; they go before the fields above, arguments of a call before both.

    Examples
    --------
    >>> from langchain_core.embeddings import DeterministicFakeEmbedding
    >>> from langchain_zeusdb_vs import ZeusDBVectorStore
    >>> store = ZeusDBVectorStore.from_texts(
    ...     ["ours", "theirs"], DeterministicFakeEmbedding(size=8), [{"tenant": "a"}, {"tenant": "b"}]
    ... )
    >>> retriever = store.as_retriever(k=5, filter={"tenant": "a"})
    >>> [document.page_content for document in retriever.invoke("anything", filter={"tenant": "b"})]
    []
    """

    vectorstore: SearchMixin
    k: int = 4
    filter: Any = None
    score_threshold: float | None = None
    score_key: str | None = None

    # Annotated, or pydantic would take it for a field.
    allowed_search_types: ClassVar[Sequence[str]] = ("similarity", _THRESHOLD_SEARCH, "mmr")

    @model_validator(mode="before")
    @classmethod
    def validate_search_type(cls, values: dict[str, Any]) -> Any:
        """Check the arguments when the retriever is made, not when it is first asked."""
        # pydantic drops what it does not know: a misspelt filter would show everything.
        unknown = {name: value for name, value in values.items() if name not in cls.model_fields}
        refuse_unknown(unknown, _OWN, "a retriever")
        search_kwargs = values.get("search_kwargs") or {}
        unknown = {name: value for name, value in search_kwargs.items() if name not in _SEARCH_KWARGS}
        refuse_unknown(unknown, _SEARCH_KWARGS, "search_kwargs")
        search_type = values.get("search_type", "similarity")
        if search_type not in cls.allowed_search_types:
            raise ValueError(f"search_type is one of {cls.allowed_search_types}, got {search_type!r}")
        threshold = search_kwargs.get("score_threshold", values.get("score_threshold"))
        if search_type == _THRESHOLD_SEARCH and threshold is None:
            raise ValueError(f"search_type={_THRESHOLD_SEARCH!r} needs score_threshold, from 0 to 1")
        if threshold is not None and search_type == "mmr":
            raise ValueError("score_threshold does not go with search_type='mmr'")
        read_filter(values.get("filter"))
        return values

    def _arguments(self, given: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of one search: the call's before `search_kwargs` before the fields."""
        arguments: dict[str, Any] = {"k": self.k, "score_key": self.score_key}
        if self.score_threshold is not None:
            arguments["score_threshold"] = self.score_threshold
        arguments |= self.search_kwargs | given
        arguments["filter"] = both(both(self.filter, self.search_kwargs.get("filter")), given.get("filter"))
        return arguments

    def _get_relevant_documents(
        self,
        query: str,
        *,
        run_manager: CallbackManagerForRetrieverRun,  # noqa: ARG002 - the framework's signature
        **kwargs: Any,
    ) -> list[Document]:
        arguments = self._arguments(kwargs)
        if self.search_type == "mmr":
            return self.vectorstore.max_marginal_relevance_search(query, **arguments)
        if arguments.get("score_threshold") is None:
            arguments.pop("score_threshold", None)
            return self.vectorstore.similarity_search(query, **arguments)
        return [
            document
            for document, _ in self.vectorstore.similarity_search_with_relevance_scores(query, **arguments)
        ]

    async def _aget_relevant_documents(
        self,
        query: str,
        *,
        run_manager: AsyncCallbackManagerForRetrieverRun,  # noqa: ARG002 - the framework's signature
        **kwargs: Any,
    ) -> list[Document]:
        arguments = self._arguments(kwargs)
        if self.search_type == "mmr":
            return await self.vectorstore.amax_marginal_relevance_search(query, **arguments)
        if arguments.get("score_threshold") is None:
            arguments.pop("score_threshold", None)
            return await self.vectorstore.asimilarity_search(query, **arguments)
        found = await self.vectorstore.asimilarity_search_with_relevance_scores(query, **arguments)
        return [document for document, _ in found]

    # ------------------------------------------------------------------------------------------ batches

    def batch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """Retrieve for several texts with one search of the engine; callbacks are told of each.

        With ``return_exceptions=True``, and for MMR or a score threshold, they are retrieved one by one.
        """
        if not self._goes_at_once(inputs, kwargs, return_exceptions):
            return super().batch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        managers = [
            CallbackManager.configure(**self._callbacks(one, kwargs)).on_retriever_start(
                None, text, name=one.get("run_name") or self.get_name(), run_id=one.get("run_id")
            )
            for text, one in zip(inputs, get_config_list(config, len(inputs)), strict=True)
        ]
        try:
            answers = self.vectorstore.similarity_search_batch(inputs, **self._arguments(kwargs))
        except Exception as error:
            for manager in managers:
                manager.on_retriever_error(error)
            raise
        for manager, documents in zip(managers, answers, strict=True):
            manager.on_retriever_end(documents)
        return answers

    async def abatch(
        self,
        inputs: list[str],
        config: RunnableConfig | list[RunnableConfig] | None = None,
        *,
        return_exceptions: bool = False,
        **kwargs: Any,
    ) -> list[list[Document]]:
        """As `batch`, without holding up the event loop."""
        if not self._goes_at_once(inputs, kwargs, return_exceptions):
            return await super().abatch(inputs, config, return_exceptions=return_exceptions, **kwargs)
        managers = [
            await AsyncCallbackManager.configure(**self._callbacks(one, kwargs)).on_retriever_start(
                None, text, name=one.get("run_name") or self.get_name(), run_id=one.get("run_id")
            )
            for text, one in zip(inputs, get_config_list(config, len(inputs)), strict=True)
        ]
        try:
            answers = await self.vectorstore.asimilarity_search_batch(inputs, **self._arguments(kwargs))
        except Exception as error:
            for manager in managers:
                await manager.on_retriever_error(error)
            raise
        for manager, documents in zip(managers, answers, strict=True):
            await manager.on_retriever_end(documents)
        return answers

    def _goes_at_once(self, inputs: Sequence[str], kwargs: dict[str, Any], one_by_one: bool) -> bool:
        threshold = self._arguments(kwargs).get("score_threshold")
        return bool(inputs) and not one_by_one and self.search_type == "similarity" and threshold is None

    def _callbacks(self, config: RunnableConfig, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what `configure` of a callback manager takes, as `BaseRetriever.invoke` does."""
        return {
            "inheritable_callbacks": config.get("callbacks"),
            "inheritable_tags": config.get("tags"),
            "local_tags": self.tags,
            "inheritable_metadata": {**(config.get("metadata") or {}), **self._get_ls_params(**kwargs)},
            "local_metadata": self.metadata,
        }

    def _get_ls_params(self, **kwargs: Any) -> LangSmithRetrieverParams:
        params = super()._get_ls_params(**kwargs)
        if self.vectorstore.embeddings is not None:
            params["ls_embedding_model"] = name_of(self.vectorstore.embeddings)
        return params

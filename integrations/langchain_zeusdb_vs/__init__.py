"""LangChain on zeusdb-vs: a vector store, its retriever, a self-query translator and a record manager.

>>> from langchain_core.embeddings import DeterministicFakeEmbedding
>>> from langchain_zeusdb_vs import ZeusDBVectorStore
>>> store = ZeusDBVectorStore(DeterministicFakeEmbedding(size=8))
>>> store.add_texts(["a text"], [{"page": 1}], ids=["a"])
['a']
>>> [document.page_content for document in store.similarity_search("a text", filter={"page": 1})]
['a text']
"""

from __future__ import annotations

try:
    import langchain_core as _langchain_core  # noqa: F401  the adapter is useless without it: say so at once
except ModuleNotFoundError as error:
    raise ImportError(
        "langchain_zeusdb_vs needs langchain-core: pip install 'zeusdb-vs[langchain]'"
    ) from error

from langchain_zeusdb_vs.filters import Filter, ZeusDBTranslator
from langchain_zeusdb_vs.record_manager import ZeusDBRecordManager
from langchain_zeusdb_vs.retrievers import ZeusDBRetriever
from langchain_zeusdb_vs.vectorstores import ZeusDBVectorStore

__all__ = [
    "Filter",
    "ZeusDBRecordManager",
    "ZeusDBRetriever",
    "ZeusDBTranslator",
    "ZeusDBVectorStore",
]

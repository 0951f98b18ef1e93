"""zeusdb-vs as a vector store of LlamaIndex.

>>> from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore
>>> ZeusDBVectorStore(dim=8).class_name()
'ZeusDBVectorStore'
"""

try:
    import llama_index.core as _core  # noqa: F401
except ImportError as _error:  # pragma: no cover - the framework is there where this is tested
    raise ImportError(
        "llama_index.vector_stores.zeusdb_vs needs LlamaIndex: pip install 'zeusdb-vs[llama-index]'"
    ) from _error

from llama_index.vector_stores.zeusdb_vs.base import ZeusDBVectorStore
from llama_index.vector_stores.zeusdb_vs.nodes import register_node_type

__all__ = ["ZeusDBVectorStore", "register_node_type"]

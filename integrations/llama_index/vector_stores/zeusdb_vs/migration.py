"""Nodes out of core's SimpleVectorStore, with the embeddings it has for them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llama_index.core.schema import BaseNode, NodeRelationship, ObjectType, RelatedNodeInfo, TextNode
from llama_index.vector_stores.zeusdb_vs.filters import RESERVED


def nodes_of_simple(simple: Any, nodes: Iterable[BaseNode] | None, docstore: Any) -> list[BaseNode]:
    """Return a node for each embedding; see `ZeusDBVectorStore.from_simple`."""
    by_id = {node.node_id: node for node in nodes or ()}
    moved = []
    for node_id, embedding in simple.data.embedding_dict.items():
        node = by_id.get(node_id)
        if node is None and docstore is not None:
            node = docstore.get_node(node_id, raise_error=False)
        if node is None:
            node = _node_of_simple(simple, node_id)
        moved.append(node.model_copy(update={"embedding": list(embedding)}))
    return moved


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

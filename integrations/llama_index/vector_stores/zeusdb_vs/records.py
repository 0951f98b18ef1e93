"""Nodes as records of the engine, many at a time, and records as nodes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.schema import BaseNode
from llama_index.vector_stores.zeusdb_vs.nodes import decode_node, encode_node

from zeusdb_vs import ArgumentTypeError, RecordError, VectorError


def columns_of(nodes: Sequence[BaseNode]) -> dict[str, list[Any]]:
    """Return nodes as the columns that `add` of the engine takes; raise, naming the node, where one cannot be."""
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


def node_of(record: Mapping[str, Any]) -> BaseNode:
    """Return the node that a record or hit of the engine holds."""
    vector = record.get("vector")
    return decode_node(
        record["id"],
        record["text"],
        record["metadata"],
        record["payload"],
        None if vector is None else vector.tolist(),
    )

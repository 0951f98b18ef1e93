"""The guide's ways out of Chroma and FAISS, with the real packages where they are installed."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.vector_stores.types import VectorStoreQuery
from llama_index.core.vector_stores.utils import metadata_dict_to_node
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

pytestmark = pytest.mark.filterwarnings("ignore")  # of the other packages


def test_nodes_come_out_of_chroma_as_they_went_in(nodes) -> None:
    chromadb = pytest.importorskip("chromadb")
    chroma = pytest.importorskip("llama_index.vector_stores.chroma")
    collection = chromadb.EphemeralClient().create_collection(f"nodes-{uuid.uuid4()}")
    chroma.ChromaVectorStore(chroma_collection=collection).add(nodes)

    found = collection.get(include=["embeddings", "documents", "metadatas"])
    moved = []
    for text, metadata, embedding in zip(
        found["documents"], found["metadatas"], found["embeddings"], strict=True
    ):
        node = metadata_dict_to_node(metadata, text=text)
        moved.append(node.model_copy(update={"embedding": embedding.tolist()}))
    store = ZeusDBVectorStore.from_nodes(moved, space="l2")
    assert store.get_nodes() == [node.model_copy(update={"embedding": None}) for node in nodes]
    for node in nodes:
        query = VectorStoreQuery(query_embedding=node.embedding, similarity_top_k=1)
        assert store.query(query).ids == [node.node_id]


def test_vectors_come_out_of_faiss_beside_the_nodes_of_the_docstore(nodes, embed_model) -> None:
    library = pytest.importorskip("faiss")
    faiss = pytest.importorskip("llama_index.vector_stores.faiss")
    flat = library.IndexFlatL2(8)
    context = StorageContext.from_defaults(vector_store=faiss.FaissVectorStore(faiss_index=flat))
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)

    # The index struct says which node each position is.
    ids = [index.index_struct.nodes_dict[str(position)] for position in range(flat.ntotal)]
    vectors = flat.reconstruct_n(0, flat.ntotal)
    moved = [
        node.model_copy(update={"embedding": vector.tolist()})
        for node, vector in zip(context.docstore.get_nodes(ids), vectors, strict=True)
    ]
    store = ZeusDBVectorStore.from_nodes(moved, space="l2")
    assert [node.node_id for node in store.get_nodes()] == [node.node_id for node in nodes]
    got = store.get_nodes(include_embeddings=True)
    np.testing.assert_array_equal([node.embedding for node in got], vectors)

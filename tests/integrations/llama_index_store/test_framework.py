"""End to end through the framework: indexes, pipelines, retrievers, memory; real core, scripted language models."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from llama_index.core import DocumentSummaryIndex, StorageContext, VectorStoreIndex
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.chat_engine import ContextChatEngine
from llama_index.core.ingestion import DocstoreStrategy, IngestionPipeline
from llama_index.core.llms import CompletionResponse, CustomLLM, LLMMetadata, MockLLM
from llama_index.core.memory import ChatMemoryBuffer, VectorMemory
from llama_index.core.node_parser import TokenTextSplitter
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.response_synthesizers import get_response_synthesizer
from llama_index.core.retrievers import QueryFusionRetriever, RecursiveRetriever, VectorIndexAutoRetriever
from llama_index.core.retrievers.fusion_retriever import FUSION_MODES
from llama_index.core.schema import Document, IndexNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.storage.docstore import SimpleDocumentStore
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    MetadataInfo,
    VectorStoreInfo,
)
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

TEXTS = {"cats": "the cat and the cat", "dogs": "a dog", "cars": "a car by the sea", "books": "book and tree"}


def documents(**changed: str) -> list[Document]:
    return [
        Document(id_=name, text=changed.get(name, text), metadata={"kind": name, "length": len(text)})
        for name, text in TEXTS.items()
    ]


@pytest.fixture
def index(embed_model) -> VectorStoreIndex:
    context = StorageContext.from_defaults(vector_store=ZeusDBVectorStore())
    return VectorStoreIndex.from_documents(documents(), storage_context=context, embed_model=embed_model)


def texts_of(hits: list[NodeWithScore]) -> list[str]:
    return [hit.node.get_content() for hit in hits]


# ---------------------------------------------------------------------------------------------- VectorStoreIndex


def test_an_index_retrieves_and_answers(index) -> None:
    hits = index.as_retriever(similarity_top_k=2).retrieve("my cat")
    assert texts_of(hits)[0] == TEXTS["cats"] and len(hits) == 2
    assert hits[0].score > hits[1].score and hits[0].node.ref_doc_id == "cats"
    answer = index.as_query_engine(llm=MockLLM(), similarity_top_k=1).query("a dog?")
    assert TEXTS["dogs"] in str(answer) and answer.source_nodes[0].node.ref_doc_id == "dogs"


def test_cutoffs_see_similarities(index) -> None:
    engine = index.as_query_engine(
        llm=MockLLM(),
        similarity_top_k=4,
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=0.8)],
    )
    assert [hit.node.ref_doc_id for hit in engine.query("cat").source_nodes] == ["cats"]


def test_an_index_inserts_updates_refreshes_and_deletes(index) -> None:
    store = index.vector_store
    index.insert(Document(id_="sun", text="the sun"))
    assert len(store) == 5
    index.update_ref_doc(Document(id_="sun", text="sun sun sea"))
    assert len(store) == 5 and texts_of(index.as_retriever(similarity_top_k=1).retrieve("sun")) == [
        "sun sun sea"
    ]
    index.delete_ref_doc("sun", delete_from_docstore=True)
    assert len(store) == 4 and "sun" not in store.list_ref_docs()
    index.delete_nodes(store.list_ref_docs()["dogs"])
    assert set(store.list_ref_docs()) == {"cats", "cars", "books"}


def test_refresh_changes_what_changed(embed_model) -> None:
    context = StorageContext.from_defaults(vector_store=ZeusDBVectorStore())
    index = VectorStoreIndex.from_documents(
        documents(), storage_context=context, embed_model=embed_model, store_nodes_override=True
    )
    assert index.refresh_ref_docs(documents()) == [False] * 4
    assert index.refresh_ref_docs(documents(dogs="dog dog dog")) == [False, True, False, False]
    assert texts_of(index.as_retriever(similarity_top_k=1).retrieve("dog")) == ["dog dog dog"]
    assert len(index.vector_store) == 4


def test_an_index_stands_on_a_store_after_a_restart(tmp_path: Path, embed_model) -> None:
    with ZeusDBVectorStore(tmp_path / "store") as store:
        context = StorageContext.from_defaults(vector_store=store)
        VectorStoreIndex.from_documents(documents(), storage_context=context, embed_model=embed_model)
    with ZeusDBVectorStore(tmp_path / "store") as store:
        index = VectorStoreIndex.from_vector_store(store, embed_model=embed_model)
        assert texts_of(index.as_retriever(similarity_top_k=1).retrieve("cat")) == [TEXTS["cats"]]
        index.delete_ref_doc("cats")
        assert len(store) == 3


def test_one_index_node_does_not_hide_the_others(embed_model) -> None:
    context = StorageContext.from_defaults(vector_store=ZeusDBVectorStore())
    nodes: list[Any] = [TextNode(text=text) for text in TEXTS.values()]
    nodes.append(IndexNode(text="the sun", index_id="elsewhere"))
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)
    assert texts_of(index.as_retriever(similarity_top_k=1).retrieve("cat")) == [TEXTS["cats"]]
    assert len(index.as_retriever(similarity_top_k=10).retrieve("cat")) == 5


def test_filters_and_documents_restrict_a_retriever(index) -> None:
    filters = MetadataFilters(
        filters=[MetadataFilter(key="kind", value=["dogs", "cars"], operator=FilterOperator.IN)]
    )
    hits = index.as_retriever(similarity_top_k=4, filters=filters).retrieve("cat")
    assert {hit.node.ref_doc_id for hit in hits} == {"dogs", "cars"}
    hits = index.as_retriever(similarity_top_k=4, doc_ids=["books"]).retrieve("cat")
    assert {hit.node.ref_doc_id for hit in hits} == {"books"}
    options = {"vector_store_query_mode": "mmr", "vector_store_kwargs": {"mmr_threshold": 0.1}}
    assert len(index.as_retriever(similarity_top_k=3, **options).retrieve("cat")) == 3


def test_the_asynchronous_ways(embed_model) -> None:
    async def main() -> None:
        context = StorageContext.from_defaults(vector_store=ZeusDBVectorStore())
        index = VectorStoreIndex([], storage_context=context, embed_model=embed_model, use_async=False)
        await index.ainsert_nodes([TextNode(id_=name, text=text) for name, text in TEXTS.items()])
        retriever = index.as_retriever(similarity_top_k=1)
        found = await asyncio.gather(*[retriever.aretrieve(text) for text in TEXTS.values()])
        assert [hits[0].node_id for hits in found] == list(TEXTS)
        await index.adelete_nodes(["cats"])
        assert len(index.vector_store) == 3

    asyncio.run(main())


# ---------------------------------------------------------------------------------------------- pipelines


@pytest.mark.parametrize("is_split", [True, False])
@pytest.mark.parametrize("strategy", [DocstoreStrategy.UPSERTS, DocstoreStrategy.UPSERTS_AND_DELETE])
@pytest.mark.parametrize("is_async", [False, True])
def test_a_pipeline_upserts(embed_model, strategy, is_split: bool, is_async: bool) -> None:
    store = ZeusDBVectorStore()
    splitter = TokenTextSplitter(chunk_size=30, chunk_overlap=0, include_metadata=False)
    pipeline = IngestionPipeline(
        transformations=[*([splitter] if is_split else []), embed_model],
        docstore=SimpleDocumentStore(),
        vector_store=store,
        docstore_strategy=strategy,
        disable_cache=True,
    )

    def run(given: list[Document]) -> None:
        if is_async:
            asyncio.run(pipeline.arun(documents=given))
        else:
            pipeline.run(documents=given)

    def stored() -> set[str]:
        return {node.ref_doc_id or node.node_id for node in store.get_nodes()}

    run(documents())
    count = len(store)
    assert stored() == set(TEXTS)
    run(documents())
    assert len(store) == count
    run(documents(dogs="a sun"))
    contents = {node.get_content() for node in store.get_nodes()}
    assert "a sun" in contents and TEXTS["dogs"] not in contents and len(store) == count
    run(documents()[2:])
    expected = {"cars", "books"} if strategy == DocstoreStrategy.UPSERTS_AND_DELETE else set(TEXTS)
    assert stored() == expected


# ---------------------------------------------------------------------------------------------- retrievers


class ScriptedLLM(CustomLLM):
    """Answers every prompt with the same text."""

    answer: str = ""

    @property
    def metadata(self) -> LLMMetadata:
        return LLMMetadata(num_output=512, context_window=8192)

    def complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> CompletionResponse:
        return CompletionResponse(text=self.answer)

    def stream_complete(self, prompt: str, formatted: bool = False, **kwargs: Any) -> Any:
        text = ""
        for word in self.answer.split(" "):
            text += word + " "
            yield CompletionResponse(text=text, delta=word + " ")


def test_the_auto_retriever_writes_filters_that_work(index) -> None:
    spec = {"query": "animals", "filters": [{"key": "length", "value": 10, "operator": ">"}], "top_k": 4}
    info = VectorStoreInfo(
        content_info="texts",
        metadata_info=[MetadataInfo(name="length", type="int", description="characters")],
    )
    extra = MetadataFilters(filters=[MetadataFilter(key="kind", value="books", operator=FilterOperator.NE)])
    retriever = VectorIndexAutoRetriever(
        index,
        vector_store_info=info,
        llm=ScriptedLLM(answer=f"```json\n{json.dumps(spec)}\n```"),
        extra_filters=extra,
        similarity_top_k=4,
    )
    assert {hit.node.ref_doc_id for hit in retriever.retrieve("long animals")} == {"cats", "cars"}


@pytest.mark.parametrize("mode", list(FUSION_MODES))
@pytest.mark.parametrize("space", ["cosine", "l2", "dot", "l1"])
def test_fusion_ranks_the_nearest_first(mode, space: str, embed_model) -> None:
    context = StorageContext.from_defaults(vector_store=ZeusDBVectorStore(space=space))
    index = VectorStoreIndex.from_documents(documents(), storage_context=context, embed_model=embed_model)
    retriever = QueryFusionRetriever(
        [index.as_retriever(similarity_top_k=4), index.as_retriever(similarity_top_k=2)],
        llm=MockLLM(),
        mode=mode,
        num_queries=1,
        similarity_top_k=4,
        use_async=False,
    )
    hits = retriever.retrieve("cat")
    assert hits[0].node.ref_doc_id == "cats"
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_a_recursive_retriever_follows_index_nodes(embed_model) -> None:
    context = StorageContext.from_defaults(vector_store=ZeusDBVectorStore())
    inner = VectorStoreIndex([TextNode(text="cat inside")], embed_model=embed_model)
    nodes: list[Any] = [TextNode(text="dog"), IndexNode(text="about a cat", index_id="inner")]
    outer = VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)
    retriever = RecursiveRetriever(
        "outer",
        retriever_dict={"outer": outer.as_retriever(similarity_top_k=1), "inner": inner.as_retriever()},
    )
    assert texts_of(retriever.retrieve("cat")) == ["cat inside"]
    assert texts_of(retriever.retrieve("dog")) == ["dog"]


# ---------------------------------------------------------------------------------------------- memory, summaries, chat


def test_vector_memory_remembers_and_forgets(embed_model) -> None:
    memory = VectorMemory.from_defaults(
        vector_store=ZeusDBVectorStore(), embed_model=embed_model, retriever_kwargs={"similarity_top_k": 1}
    )
    for message in (
        ChatMessage(role="user", content="I have a cat"),
        ChatMessage(role="assistant", content="nice"),
        ChatMessage(role="user", content="I drive a car"),
        ChatMessage(role="assistant", content="fast"),
    ):
        memory.put(message)
    assert "I have a cat" in [message.content for message in memory.get("which cat?")]
    memory.reset()
    assert memory.get("which cat?") == []


def test_a_summary_index_finds_and_deletes_documents(embed_model) -> None:
    store = ZeusDBVectorStore()
    index = DocumentSummaryIndex.from_documents(
        documents(),
        llm=ScriptedLLM(answer="a summary of a cat"),
        embed_model=embed_model,
        storage_context=StorageContext.from_defaults(vector_store=store),
        response_synthesizer=get_response_synthesizer(
            llm=ScriptedLLM(answer="a summary of a cat"), use_async=False
        ),
        transformations=[TokenTextSplitter(chunk_size=200)],
    )
    assert len(store) == 4
    retriever = index.as_retriever(retriever_mode="embedding", similarity_top_k=1)
    assert len(retriever.retrieve("cat")) == 1
    index.delete_ref_doc("cats")
    assert len(store) == 3 and "cats" not in store.list_ref_docs()


def test_a_chat_engine_streams(index) -> None:
    async def main() -> str:
        engine = ContextChatEngine.from_defaults(
            retriever=index.as_retriever(similarity_top_k=1),
            llm=ScriptedLLM(answer="cats are nice"),
            memory=ChatMemoryBuffer.from_defaults(llm=MockLLM()),
        )
        response = await engine.astream_chat("tell me of a cat")
        text = ""
        async for token in response.async_response_gen():
            text += token
        assert response.source_nodes[0].node.ref_doc_id == "cats"
        return text

    assert asyncio.run(main()).strip() == "cats are nice"


def test_nothing_is_logged_as_a_problem(index, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        index.as_retriever().retrieve(QueryBundle("cat"))
    assert caplog.records == []

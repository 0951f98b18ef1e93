"""Every node type comes back equal, its hash included."""

from __future__ import annotations

import base64
from datetime import datetime, timezone
from pathlib import Path

import pytest
from llama_index.core.schema import (
    Document,
    ImageDocument,
    ImageNode,
    IndexNode,
    MediaResource,
    Node,
    NodeRelationship,
    ObjectType,
    RelatedNodeInfo,
    TextNode,
)
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore, register_node_type

from zeusdb_vs import ConfigurationError, VectorDatabase

PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
NESTED = {
    "title": "a",
    "nested": {"deep": {"er": [1, 2.5, None, {"x": True}]}, "dotted.key": "y"},
    "when": datetime(2024, 5, 1, 12, tzinfo=timezone.utc),
    "document_id": "the user's own",
    "tags": ["a", "b"],
    "unicode": "żółć 🎈",
    "empty": "",
    "none": None,
}
RELATIONS = {
    NodeRelationship.SOURCE: RelatedNodeInfo(
        node_id="doc", node_type=ObjectType.DOCUMENT, metadata={"a": {"b": 1}}, hash="h"
    ),
    NodeRelationship.PREVIOUS: RelatedNodeInfo(node_id="p"),
    NodeRelationship.CHILD: [
        RelatedNodeInfo(node_id="c1"),
        RelatedNodeInfo(node_id="c2", node_type="custom"),
    ],
}
COMMON = {
    "metadata": NESTED,
    "relationships": RELATIONS,
    "excluded_embed_metadata_keys": ["title"],
    "excluded_llm_metadata_keys": ["tags", "when"],
    "metadata_template": "{key}={value}",
    "metadata_separator": " | ",
    "text_template": "{content} / {metadata_str}",
}


class OwnNode(TextNode):
    score: float = 0.0
    _note: str = "unset"


class OwnNamedNode(TextNode):
    extra: tuple[str, ...] = ()

    @classmethod
    def class_name(cls) -> str:
        return "OwnNamedNode"


CASES = {
    "text": TextNode(id_="n", text="hello"),
    "no children": TextNode(id_="n", text="t", relationships={NodeRelationship.CHILD: []}),
    "empty text": TextNode(id_="n", text=""),
    "text with everything": TextNode(
        id_="n", text="hello", mimetype="text/html", start_char_idx=0, end_char_idx=5, **COMMON
    ),
    "index": IndexNode(id_="n", text="points", index_id="other", **COMMON),
    "index with node": IndexNode(
        id_="n", text="points", index_id="other", obj=TextNode(id_="inner", text="inside", **COMMON)
    ),
    "index with document": IndexNode(
        id_="n", text="points", index_id="o", obj=Document(id_="inner", text="in")
    ),
    "index with data": IndexNode(id_="n", text="points", index_id="o", obj={"rows": [1, 2], "name": "t"}),
    "index with text": IndexNode(id_="n", text="points", index_id="o", obj="plain"),
    "image": ImageNode(
        id_="n", text="a cat", image=base64.b64encode(PIXEL).decode(), image_mimetype="image/png", **COMMON
    ),
    "image by path": ImageNode(id_="n", image_path="/somewhere/cat.png", text_embedding=[0.5, 1.0]),
    "node": Node(id_="n", text_resource=MediaResource(text="hello"), **COMMON),
    "node without text": Node(id_="n", image_resource=MediaResource(data=PIXEL)),
    "node with empty text": Node(id_="n", text_resource=MediaResource(text="")),
    "node with a resource without text": Node(
        id_="n", text_resource=MediaResource(url="https://example.org/a")
    ),
    "node with media": Node(
        id_="n",
        text_resource=MediaResource(text="t", path=Path("/x/y.txt"), embeddings={"dense": [0.5]}),
        image_resource=MediaResource(data=PIXEL, text="alt"),
        audio_resource=MediaResource(data=b"\x00\xff" * 500, mimetype="audio/wav"),
        video_resource=MediaResource(url="https://example.org/v.mp4", mimetype="video/mp4"),
        **COMMON,
    ),
    "document": Document(id_="n", text="hello", **COMMON),
    "empty document": Document(id_="n"),
    "image document": ImageDocument(id_="n", text="cat", image=PIXEL, image_mimetype="image/png", **COMMON),
    "own type": OwnNode(id_="n", text="t", score=0.5),
    "own named type": OwnNamedNode(id_="n", text="t"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("way", ["memory", "directory", "query"])
def test_a_node_comes_back_equal(case: str, way: str, tmp_path: Path) -> None:
    original = CASES[case]
    given = original.model_copy(update={"embedding": [1.0, 2.0]}, deep=True)
    store = ZeusDBVectorStore(path=tmp_path / "store" if way == "directory" else None)
    store.add([given])
    if way == "directory":
        store.close()
        store = ZeusDBVectorStore(path=tmp_path / "store")
    (found,) = store.get_nodes(["n"])
    assert type(found) is type(original)
    assert found == original
    assert found.hash == original.hash
    assert found.model_dump() == original.model_dump()
    assert found.get_content() == original.get_content()
    assert repr(found) == repr(original)
    store.close()


def test_what_comes_back_is_a_working_model() -> None:
    store = ZeusDBVectorStore.from_nodes([CASES["own type"].model_copy(update={"embedding": [1.0]})])
    (found,) = store.get_nodes()
    assert isinstance(found, OwnNode)
    assert found._note == "unset"
    found.text = "changed"
    found.metadata["new"] = 1
    copied = found.model_copy()
    assert copied.text == "changed"
    (again,) = store.get_nodes()
    assert (again.text, again.metadata) == ("t", {}) and again.excluded_embed_metadata_keys == []
    again.excluded_embed_metadata_keys.append("x")
    assert store.get_nodes()[0].excluded_embed_metadata_keys == []


def test_embeddings_come_back_when_asked_for() -> None:
    store = ZeusDBVectorStore.from_nodes([TextNode(id_="n", embedding=[1.0, 2.5])])
    assert store.get_nodes()[0].embedding is None
    assert store.get_nodes(include_embeddings=True)[0].embedding == [1.0, 2.5]
    with_them = ZeusDBVectorStore.from_client(store.client, include_embeddings=True)
    assert with_them.get_nodes()[0].embedding == [1.0, 2.5]


def test_metadata_is_stored_as_it_is(node) -> None:
    store = ZeusDBVectorStore.from_nodes([node(1, doc="d", **NESTED)])
    ((_, metadata),) = store.client.list()
    assert metadata == {"number": 1, **NESTED}


def test_an_object_that_lives_in_memory_is_refused() -> None:
    given = IndexNode(id_="n", text="t", index_id="i", obj=object(), embedding=[1.0])
    with pytest.raises(ValueError, match=r"'n'.*obj is a object.*VectorStoreIndex\(nodes, objects"):
        ZeusDBVectorStore.from_nodes([given])


def test_records_of_others_are_text_nodes() -> None:
    index = VectorDatabase().create("hnsw", dim=2)
    index.add(
        [
            {
                "id": "a",
                "vector": [1, 0],
                "metadata": {"k": 1},
                "text": "hello",
                "payload": {"langchain": {"x": 1}},
            },
            {"id": "b", "vector": [0, 1]},
        ]
    )
    store = ZeusDBVectorStore.from_client(index)
    assert store.get_nodes() == [
        TextNode(id_="a", text="hello", metadata={"k": 1}),
        TextNode(id_="b", text=""),
    ]
    store.delete("a")
    assert [found.node_id for found in store.get_nodes()] == ["b"]


def test_an_unknown_type_says_how_to_make_it_known() -> None:
    index = VectorDatabase().create("hnsw", dim=1)
    index.add({"id": "a", "vector": [1.0], "payload": {"llama_index.type": "elsewhere.Node"}})
    with pytest.raises(ConfigurationError, match=r"'a' is of the type 'elsewhere.Node'.*register_node_type"):
        ZeusDBVectorStore.from_client(index).get_nodes()


def test_a_name_stands_for_one_type() -> None:
    with pytest.raises(ConfigurationError, match="stands for"):
        register_node_type(OwnNode, "TextNode")

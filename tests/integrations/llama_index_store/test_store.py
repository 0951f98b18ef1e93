"""Writes, deletions, reads, configuration: what the store does without a query."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from llama_index.core.schema import IndexNode, NodeRelationship, RelatedNodeInfo, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import FilterOperator, MetadataFilter, MetadataFilters
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

import zeusdb_vs
from zeusdb_vs import ConfigurationError, FilterError, VectorDatabase


def where(key: str, value: object, operator: FilterOperator = FilterOperator.EQ) -> MetadataFilters:
    return MetadataFilters(filters=[MetadataFilter(key=key, value=value, operator=operator)])


def ids_of(nodes) -> list[str]:
    return [node.node_id for node in nodes]


# ---------------------------------------------------------------------------------------------- adding


def test_add_returns_an_id_for_each_node_and_the_last_of_equal_ids_stays(node) -> None:
    store = ZeusDBVectorStore()
    assert store.add([]) == []
    given = [node(1), node(2), node(1, again=True)]
    assert store.add(given) == ["node-1", "node-2", "node-1"]
    assert len(store) == 2
    assert store.get_nodes(["node-1"])[0].metadata == {"number": 1, "again": True}


def test_adding_again_replaces(store, node) -> None:
    store.add([node(3, doc="elsewhere")])
    assert len(store) == 12
    assert store.get_nodes(["node-3"])[0].ref_doc_id == "elsewhere"


@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        (None, "has no embedding"),
        ([1.0] * 9, "9"),
        ([1.0] * 7 + [float("nan")], "finite|nan"),
        ([1.0] * 7 + [float("inf")], "finite|inf"),
        ([], "embedding|0 values|empty"),
        ([0.0] * 8, "zero|direction"),
        ("12345678", "number"),
    ],
)
@pytest.mark.parametrize("with_path", [False, True])
def test_a_bad_embedding_is_told_by_its_node_and_nothing_is_added(
    node, embedding, message, is_first, with_path, tmp_path: Path
) -> None:
    store = ZeusDBVectorStore(path=tmp_path / "store" if with_path else None)
    if not is_first:
        store.add([node(0)])
    bad = node(5).model_copy(update={"embedding": embedding})
    with pytest.raises(ValueError, match=f"(?s)node-5.*({message})"):
        store.add([node(4), bad, node(6)])
    assert len(store) == (not is_first)
    store.add([node(4), node(6)])
    assert len(store) == 3 - is_first
    store.close()


def test_metadata_that_cannot_be_stored_is_told_by_its_node(store, node) -> None:
    with pytest.raises(ValueError, match=r"(?s)node-50.*metadata\.bad"):
        store.add([node(49), node(50, bad={1, 2})])
    assert len(store) == 12
    with pytest.raises(TypeError, match="node 0 is a str"):
        store.add(["text"])  # type: ignore[list-item]


# ---------------------------------------------------------------------------------------------- deleting


def test_delete_removes_the_nodes_of_a_document(store) -> None:
    store.delete("doc-1")
    assert ids_of(store.get_nodes()) == [f"node-{i}" for i in range(12) if i // 3 != 1]
    store.delete("doc-1")
    assert len(store) == 9


def test_delete_removes_an_unsplit_document_by_its_own_id(store, node) -> None:
    store.add([node(20), node(21, doc="node-20")])
    store.delete("node-20")
    assert len(store) == 12
    # A node that comes from elsewhere is not the document of that name.
    store.delete("node-3")
    assert len(store) == 12


@pytest.mark.parametrize("value", [None, 1, ["doc-1"]])
def test_delete_of_nothing_is_refused(store, value) -> None:
    with pytest.raises(TypeError, match="nothing was removed"):
        store.delete(value)
    assert len(store) == 12


def test_delete_nodes_intersects_ids_and_filters(store) -> None:
    store.delete_nodes(["node-0", "node-1", "unknown"], where("parity", "even"))
    assert "node-0" not in ids_of(store.get_nodes()) and len(store) == 11
    store.delete_nodes(["node-1"])
    store.delete_nodes(filters=where("number", 9, FilterOperator.GTE))
    assert ids_of(store.get_nodes()) == [f"node-{i}" for i in range(2, 9)]
    store.delete_nodes([])
    store.delete_nodes([], where("parity", "even"))
    assert len(store) == 7


def test_delete_nodes_without_a_selection_is_refused(store) -> None:
    for filters in (None, MetadataFilters(filters=[])):
        with pytest.raises(ConfigurationError, match=r"clear\(\)"):
            store.delete_nodes(filters=filters)
    nested = MetadataFilters(filters=[MetadataFilters(filters=[])])
    with pytest.raises(FilterError, match="empty filter"):
        store.delete_nodes(filters=nested)
    assert len(store) == 12


def test_deletions_from_an_empty_store_do_nothing() -> None:
    store = ZeusDBVectorStore()
    store.delete("doc")
    store.delete_nodes(["a"])
    store.clear()
    assert len(store) == 0 and store and store.client is None


def test_clear_empties_and_the_store_goes_on(store, node) -> None:
    store.clear()
    assert len(store) == 0 and store.get_nodes() == []
    store.add([node(1)])
    assert len(store) == 1


# ---------------------------------------------------------------------------------------------- reading


def test_get_nodes_follows_the_request(store) -> None:
    assert ids_of(store.get_nodes(["node-5", "unknown", "node-2"])) == ["node-5", "node-2"]
    assert ids_of(store.get_nodes(["node-5", "node-2"], where("parity", "even"))) == ["node-2"]
    assert ids_of(store.get_nodes(filters=where("parity", "odd"), limit=2, offset=1)) == ["node-3", "node-5"]
    assert ids_of(store.get_nodes(["node-9", "x", "node-5", "node-2"], limit=1, offset=1)) == ["node-5"]
    assert len(store.get_nodes()) == 12 and store.get_nodes([]) == []
    for bad in ({"limit": -1}, {"offset": -1}, {"limit": "1"}):
        with pytest.raises(ConfigurationError):
            store.get_nodes(**bad)


def test_get_nodes_has_no_cap(node) -> None:
    store = ZeusDBVectorStore.from_nodes([node(i, embedding=[1.0, i]) for i in range(1500)])
    assert len(store.get_nodes()) == 1500
    assert len(store.get_nodes(filters=where("number", 0, FilterOperator.GTE))) == 1500


def test_count_and_list_ref_docs(store) -> None:
    assert store.count() == 12 and store.count(where("parity", "odd")) == 6
    assert store.list_ref_docs()["doc-1"] == ["node-3", "node-4", "node-5"]
    assert ZeusDBVectorStore().list_ref_docs() == {} and ZeusDBVectorStore().count() == 0


def test_update_metadata_leaves_the_rest(store) -> None:
    before = store.get_nodes(["node-4"], include_embeddings=True)[0]
    assert store.update_metadata({"new": 1}, ["node-4", "unknown"]) == 1
    after = store.get_nodes(["node-4"], include_embeddings=True)[0]
    assert after.metadata == {**before.metadata, "new": 1}
    assert after.embedding == before.embedding and after.ref_doc_id == "doc-1"
    assert store.update_metadata({"only": 2}, filters=where("parity", "odd"), merge=False) == 6
    assert store.get_nodes(["node-1"])[0].metadata == {"only": 2}
    assert store.update_metadata({"x": 1}, ["node-0", "node-1"], where("parity", "even")) == 1
    with pytest.raises(ConfigurationError):
        store.update_metadata({"x": 1})


# ---------------------------------------------------------------------------------------------- configuration


def test_options_come_from_the_index_and_go_round_as_a_dict() -> None:
    store = ZeusDBVectorStore(dim=4, distance="euclidean", m=8, ef_search=50, strict_filters=True)
    assert (store.dim, store.space, store.m, store.ef_search) == (4, "l2", 8, 50)
    assert ZeusDBVectorStore.class_name() == "ZeusDBVectorStore" == store.to_dict()["class_name"]
    again = ZeusDBVectorStore.from_dict(store.to_dict())
    assert again.to_dict() == store.to_dict()
    assert again.client.space == "l2" and len(again) == 0
    assert ZeusDBVectorStore.from_params(dim=3).dim == 3
    assert ZeusDBVectorStore.from_json(store.to_json()).to_dict() == store.to_dict()


@pytest.mark.parametrize(
    "options",
    [
        {"space": "cosin"},
        {"m": 1},
        {"dim": 0},
        {"unknown": 1},
        {"distance": "l2", "space": "l2"},
        {"quantization_config": {"type": "nonsense"}},
        {"durability": "sometimes", "path": "here", "dim": 2},
    ],
)
def test_wrong_options_are_refused(options, tmp_path: Path) -> None:
    if "path" in options:
        options = {**options, "path": tmp_path / "store"}
    with pytest.raises(ConfigurationError):
        ZeusDBVectorStore(**options)


def test_an_index_given_must_be_as_said() -> None:
    index = VectorDatabase().create("hnsw", dim=2, space="l1")
    assert ZeusDBVectorStore(zeusdb_index=index).space == "l1"
    assert ZeusDBVectorStore.from_client(index, space="manhattan", dim=2).client is index
    for wrong in ({"dim": 3}, {"space": "l2"}):
        with pytest.raises(ConfigurationError, match="leave it out"):
            ZeusDBVectorStore.from_client(index, **wrong)
    with pytest.raises(ConfigurationError, match="not both"):
        ZeusDBVectorStore("somewhere", index=index)


def test_a_store_in_memory_says_why_it_does_not_pickle(store) -> None:
    with pytest.raises(TypeError, match="memory"):
        pickle.dumps(store)
    with pytest.raises(TypeError, match="memory"):
        copy.deepcopy(store)
    assert copy.copy(store).client is store.client
    assert pickle.loads(pickle.dumps(ZeusDBVectorStore(space="dot"))).space == "dot"


# ---------------------------------------------------------------------------------------------- migration


def test_from_simple_embeds_nothing_again(nodes) -> None:
    simple = SimpleVectorStore()
    simple.add(nodes)
    moved = ZeusDBVectorStore.from_simple(simple, nodes[:6])
    assert len(moved) == 12
    whole, bare = moved.get_nodes(["node-2", "node-8"])
    assert whole == nodes[2].model_copy(update={"embedding": None})
    assert bare.metadata == nodes[8].metadata and bare.ref_doc_id == "doc-2" and bare.text == ""
    got = moved.get_nodes(["node-8"], include_embeddings=True)[0].embedding
    assert np.allclose(got, nodes[8].embedding, rtol=1e-6)


def test_from_simple_keeps_the_users_own_keys() -> None:
    source = {NodeRelationship.SOURCE: RelatedNodeInfo(node_id="d")}
    given = TextNode(id_="a", metadata={"k": {"n": 1}}, embedding=[1.0], relationships=source)
    simple = SimpleVectorStore()
    simple.add([given])
    (found,) = ZeusDBVectorStore.from_simple(simple).get_nodes()
    assert found.metadata == {"k": {"n": 1}}


# ---------------------------------------------------------------------------------------------- packaging


def test_the_upper_folders_are_namespaces() -> None:
    folder = Path(zeusdb_vs.__file__).parents[1] / "integrations" / "llama_index"
    assert not (folder / "__init__.py").exists()
    assert not (folder / "vector_stores" / "__init__.py").exists()
    assert (folder / "vector_stores" / "zeusdb_vs" / "py.typed").exists()


def test_without_the_framework_the_error_names_the_command() -> None:
    program = """
        import sys
        sys.modules["llama_index.core"] = None
        try:
            import llama_index.vector_stores.zeusdb_vs
        except ImportError as error:
            assert "pip install 'zeusdb-vs[llama-index]'" in str(error)
            sys.exit(7)
    """
    root = Path(zeusdb_vs.__file__).parents[1]
    paths = os.pathsep.join([str(root), str(root / "integrations")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], env={**os.environ, "PYTHONPATH": paths}, check=False
    )
    assert done.returncode == 7


def test_importing_the_adapter_compiles_nothing() -> None:
    program = "import sys, llama_index.vector_stores.zeusdb_vs; sys.exit('numba' in sys.modules)"
    root = Path(zeusdb_vs.__file__).parents[1]
    paths = os.pathsep.join([str(root), str(root / "integrations")])
    assert (
        subprocess.run(
            [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": paths}, check=False
        ).returncode
        == 0
    )


def test_index_nodes_are_stored_like_others() -> None:
    store = ZeusDBVectorStore.from_nodes([IndexNode(id_="i", index_id="x", text="t", embedding=[1.0])])
    assert store.get_nodes() == [IndexNode(id_="i", index_id="x", text="t")]

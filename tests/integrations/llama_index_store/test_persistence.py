"""Directories, copies of the store on any file system, restarts, pickles."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import fsspec
import pytest
from llama_index.core import StorageContext, VectorStoreIndex, load_index_from_storage
from llama_index.core.schema import IndexNode, TextNode
from llama_index.core.vector_stores import SimpleVectorStore
from llama_index.core.vector_stores.types import MetadataFilter, MetadataFilters, VectorStoreQuery
from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import (
    ClosedIndexError,
    ConfigurationError,
    CorruptIndexError,
    ForeignDirectoryError,
    IndexNotFoundError,
    ReadOnlyError,
    StorageError,
    VectorDatabase,
)

ROOT = Path(__file__).parents[3]


def same(first: ZeusDBVectorStore, second: ZeusDBVectorStore) -> bool:
    query = VectorStoreQuery(query_embedding=[1.0] * 8, similarity_top_k=50)
    a, b = first.query(query), second.query(query)
    return (a.ids, a.similarities, a.nodes) == (b.ids, b.similarities, b.nodes)


# ---------------------------------------------------------------------------------------------- path=


def test_a_directory_keeps_what_was_written(tmp_path: Path, nodes) -> None:
    with ZeusDBVectorStore(tmp_path / "store", space="dot") as store:
        assert store.client is None and not (tmp_path / "store").exists()
        store.add(nodes)
        store.delete("doc-0")
        store.update_metadata({"new": 1}, ["node-5"])
        memory = ZeusDBVectorStore.from_nodes(store.get_nodes(include_embeddings=True), space="dot")
    with pytest.raises(ClosedIndexError):
        store.count()
    with ZeusDBVectorStore(str(tmp_path / "store")) as again:
        assert (again.space, again.dim, len(again)) == ("dot", 8, 9)
        assert same(memory, again)
        again.flush()


def test_nodes_are_there_after_kill_9(tmp_path: Path) -> None:
    program = """
        import os, signal, sys
        from llama_index.core.schema import TextNode
        from llama_index.vector_stores.zeusdb_vs import ZeusDBVectorStore
        store = ZeusDBVectorStore(sys.argv[1])
        for i in range(5):
            store.add([TextNode(id_=str(i), text=f"text {i}", embedding=[1.0, float(i)])])
        store.delete_nodes(["3"])
        os.kill(os.getpid(), signal.SIGKILL)
    """
    paths = os.pathsep.join([str(ROOT), str(ROOT / "integrations")])
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path / "store")],
        env={**os.environ, "PYTHONPATH": paths},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    with ZeusDBVectorStore(tmp_path / "store") as store:
        assert [node.text for node in store.get_nodes()] == ["text 0", "text 1", "text 2", "text 4"]


def test_a_failed_first_add_leaves_no_directory(tmp_path: Path, node) -> None:
    store = ZeusDBVectorStore(tmp_path / "store")
    with pytest.raises(ValueError, match="node-2"):
        store.add([node(1), node(2, bad=object())])
    assert not (tmp_path / "store").exists()


def test_dim_makes_the_directory_at_once(tmp_path: Path) -> None:
    with ZeusDBVectorStore(tmp_path / "store", dim=3, space="l1"):
        pass
    for wrong in ({"dim": 4}, {"space": "cosine"}):
        with pytest.raises(ConfigurationError):
            ZeusDBVectorStore(tmp_path / "store", **wrong)
    with ZeusDBVectorStore(tmp_path / "store", dim=3, space="manhattan") as store:
        assert store.space == "l1"


def test_a_path_that_holds_something_else_is_left_alone(tmp_path: Path, nodes) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for path in (folder, tmp_path / "file"):
        for options in ({}, {"dim": 8}, {"read_only": True}):
            with pytest.raises(StorageError):
                ZeusDBVectorStore(path, **options)
        with pytest.raises(StorageError):
            ZeusDBVectorStore.from_nodes(nodes).persist(str(path))
    assert (folder / "mine.txt").read_text() == (tmp_path / "file").read_text() == "mine"
    assert len(list(folder.iterdir())) == 1


def test_readers_stand_beside_the_writer(tmp_path: Path, nodes) -> None:
    with pytest.raises(IndexNotFoundError):
        ZeusDBVectorStore(tmp_path / "store", read_only=True)
    with ZeusDBVectorStore(tmp_path / "store") as store:
        store.add(nodes)
        with ZeusDBVectorStore(tmp_path / "store", read_only=True) as reader:
            assert same(store, reader)
            with pytest.raises(ReadOnlyError):
                reader.add(nodes)
        unpickled = pickle.loads(pickle.dumps(store))
        assert unpickled.path == store.path and unpickled.read_only and same(store, unpickled)
        with pytest.raises(ReadOnlyError):
            unpickled.clear()
        unpickled.close()


# ---------------------------------------------------------------------------------------------- persist


@pytest.fixture(params=["default", "local", "memory"])
def place(request, tmp_path: Path):
    """A path to persist to, and the file system it is on."""
    if request.param == "memory":
        fs = fsspec.filesystem("memory")
        yield f"/{tmp_path.name}/deep/er/store.json", fs
        fs.rm(f"/{tmp_path.name}", recursive=True)
    else:
        yield (
            str(tmp_path / "deep/er/store.json"),
            None if request.param == "default" else fsspec.filesystem("file"),
        )


def test_persist_and_load(place, store, node) -> None:
    path, fs = place
    store.persist(path, fs)
    loaded = ZeusDBVectorStore.from_persist_path(path, fs, strict_filters=True)
    assert same(store, loaded) and loaded.strict_filters and loaded.path is None
    # The copy is its own.
    loaded.add([node(100)])
    assert len(ZeusDBVectorStore.from_persist_path(path, fs)) == 12
    loaded.persist(path, fs)
    assert len(ZeusDBVectorStore.from_persist_path(path, fs)) == 13
    for wrong in ({"dim": 3}, {"space": "l2"}):
        with pytest.raises(ConfigurationError):
            ZeusDBVectorStore.from_persist_path(path, fs, **wrong)


def test_a_store_without_nodes_persists_its_configuration(place, node) -> None:
    path, fs = place
    ZeusDBVectorStore(space="l2", ef_search=40).persist(path, fs)
    loaded = ZeusDBVectorStore.from_persist_path(path, fs)
    assert (loaded.space, loaded.ef_search, loaded.dim, len(loaded)) == ("l2", 40, None, 0)
    loaded.add([node(1)])
    loaded.persist(path, fs)
    assert len(ZeusDBVectorStore.from_persist_path(path, fs)) == 1


def test_what_is_not_there_or_not_ours_is_told(place, nodes) -> None:
    path, fs = place
    with pytest.raises(IndexNotFoundError):
        ZeusDBVectorStore.from_persist_path(path, fs)
    simple = SimpleVectorStore()
    simple.add(nodes)
    simple.persist(path, fs)
    with pytest.raises(IndexNotFoundError, match="from_simple"):
        ZeusDBVectorStore.from_persist_path(path, fs)


def test_a_damaged_archive_is_told(store, tmp_path: Path) -> None:
    fs = fsspec.filesystem("memory")
    path = f"/{tmp_path.name}/store"
    store.persist(path, fs)
    whole = fs.cat_file(path)
    for damaged in (whole[: len(whole) // 2], b"junk", b"", whole[:100] + b"\0" * 50 + whole[150:]):
        fs.pipe_file(path, damaged)
        with pytest.raises(CorruptIndexError):
            ZeusDBVectorStore.from_persist_path(path, fs)
    for name in ("../escape", "/absolute", "a/../../b", "..", ".hidden"):
        with fs.open(path, "wb") as stream, zipfile.ZipFile(stream, "w") as archive:
            archive.writestr(name, "x")
        with pytest.raises(CorruptIndexError, match="which no store has"):
            ZeusDBVectorStore.from_persist_path(path, fs)
    fs.rm(f"/{tmp_path.name}", recursive=True)


def test_an_empty_store_does_not_write_over_a_full_one(store, tmp_path: Path) -> None:
    store.persist(str(tmp_path / "store"))
    with pytest.raises(ForeignDirectoryError):
        ZeusDBVectorStore().persist(str(tmp_path / "store"))
    assert len(ZeusDBVectorStore.from_persist_path(str(tmp_path / "store"))) == 12


def test_a_bound_store_exports_a_copy(tmp_path: Path, nodes, node) -> None:
    with ZeusDBVectorStore(tmp_path / "bound") as store:
        store.add(nodes)
        store.persist(str(tmp_path / "copy"))
        store.persist(str(tmp_path / "bound"))
        store.add([node(50)])
    assert len(ZeusDBVectorStore.from_persist_path(str(tmp_path / "copy"))) == 12
    with ZeusDBVectorStore(tmp_path / "bound") as store:
        assert len(store) == 13


def test_the_old_adapters_names_work(store, tmp_path: Path) -> None:
    assert store.save_index(str(tmp_path / "x.zdb")) is True
    assert same(store, ZeusDBVectorStore.load_index(str(tmp_path / "x.zdb")))


# ---------------------------------------------------------------------------------------------- StorageContext


@pytest.mark.parametrize("on", ["local", "memory"])
def test_a_storage_context_persists_and_loads(on: str, tmp_path: Path, embed_model) -> None:
    fs = fsspec.filesystem("memory") if on == "memory" else None
    folder = f"/{tmp_path.name}-context" if on == "memory" else str(tmp_path / "context")
    store = ZeusDBVectorStore()
    context = StorageContext.from_defaults(vector_store=store)
    nodes = [
        TextNode(id_="a", text="cat"),
        TextNode(id_="b", text="sea"),
        IndexNode(id_="c", text="book", index_id="x"),
    ]
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=embed_model)
    index.storage_context.persist(folder, fs=fs)

    loaded = ZeusDBVectorStore.from_persist_dir(folder, fs=fs)
    context = StorageContext.from_defaults(vector_store=loaded, persist_dir=folder, fs=fs)
    again = load_index_from_storage(context, embed_model=embed_model)
    found = again.as_retriever(similarity_top_k=3).retrieve("a cat")
    assert [hit.node_id for hit in found] == [
        h.node_id for h in index.as_retriever(similarity_top_k=3).retrieve("a cat")
    ]
    assert found[0].node_id == "a" and len(found) == 3

    # The stock way reads the file as a SimpleVectorStore's: it must fail, never give an empty index.
    with pytest.raises((OSError, ValueError)):
        StorageContext.from_defaults(persist_dir=folder, fs=fs)
    if fs is not None:
        fs.rm(folder, recursive=True)


def test_namespaces_have_their_own_store(tmp_path: Path, store, node) -> None:
    context = StorageContext.from_defaults(
        vector_stores={"default": store, "other": ZeusDBVectorStore.from_nodes([node(1)])}
    )
    context.persist(str(tmp_path))
    assert len(ZeusDBVectorStore.from_persist_dir(str(tmp_path))) == 12
    assert len(ZeusDBVectorStore.from_persist_dir(str(tmp_path), namespace="other")) == 1


# ---------------------------------------------------------------------------------------------- other adapters


def test_a_directory_is_a_plain_index_for_others(tmp_path: Path, nodes) -> None:
    with ZeusDBVectorStore(tmp_path / "store") as store:
        store.add(nodes)
    with VectorDatabase().open(tmp_path / "store") as index:
        (record,) = index.get_records(["node-4"], include=("metadata", "text"))
        assert record == {"id": "node-4", "metadata": nodes[4].metadata, "text": "text 4"}
        # Another adapter's upsert replaces the record, our extras with it.
        index.add({"id": "node-4", "vector": [1.0] * 8, "text": "new", "payload": {"langchain": {}}})
    with ZeusDBVectorStore(tmp_path / "store") as store:
        assert store.get_nodes(["node-4"]) == [TextNode(id_="node-4", text="new")]
        filters = MetadataFilters(filters=[MetadataFilter(key="number", value=5)])
        assert [found.node_id for found in store.get_nodes(filters=filters)] == ["node-5"]

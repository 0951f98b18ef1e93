"""`index` and `aindex` in all their modes, with keys kept in the records themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.indexing import InMemoryRecordManager, RecordManager, aindex, index
from langchain_embedders import WordEmbeddings
from langchain_zeusdb_vs import ZeusDBRecordManager, ZeusDBVectorStore

from zeusdb_vs import RecordNotFoundError

MODES = [None, "incremental", "full", "scoped_full"]


def _pages(*names: str) -> list[Document]:
    return [Document(f"page {name}", metadata={"source": name[0]}) for name in names]


def _texts(store: ZeusDBVectorStore) -> list[str]:
    return sorted(document.page_content for document in store.iterate())


async def _index(asynchronous: bool, *arguments: Any, **options: Any) -> dict[str, int]:
    options = {"source_id_key": "source", "key_encoder": "sha256", **options}
    if asynchronous:
        return dict(await aindex(*arguments, **options))
    return dict(index(*arguments, **options))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("own", [True, False])
async def test_cleanup_modes_do_what_langchain_lays_down(mode: Any, asynchronous: bool, own: bool) -> None:
    store = ZeusDBVectorStore(WordEmbeddings())
    manager: RecordManager = ZeusDBRecordManager(store) if own else InMemoryRecordManager("n")
    manager.create_schema()
    first = await _index(asynchronous, _pages("a1", "a2", "b1"), manager, store, cleanup=mode)
    assert first == {"num_added": 3, "num_updated": 0, "num_skipped": 0, "num_deleted": 0}
    again = await _index(asynchronous, _pages("a1", "a2", "b1"), manager, store, cleanup=mode)
    assert again == {"num_added": 0, "num_updated": 0, "num_skipped": 3, "num_deleted": 0}
    changed = await _index(asynchronous, _pages("a1", "a3"), manager, store, cleanup=mode)
    left = {
        None: ["page a1", "page a2", "page a3", "page b1"],
        "incremental": ["page a1", "page a3", "page b1"],
        "scoped_full": ["page a1", "page a3", "page b1"],
        "full": ["page a1", "page a3"],
    }[mode]
    assert _texts(store) == left
    assert changed["num_added"] == 1 and changed["num_skipped"] == 1
    assert changed["num_deleted"] == 4 - len(left)
    assert sorted(manager.list_keys()) == sorted(store.get()["ids"])
    forced = await _index(asynchronous, _pages("a1"), manager, store, cleanup=None, force_update=True)
    assert forced["num_updated"] == 1


class FailingEmbeddings(WordEmbeddings):
    fail_on = ""

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        if self.fail_on and any(self.fail_on in text for text in texts):
            raise ConnectionError("the model is away")
        return super().embed_documents(texts)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_failing_model_leaves_store_and_keys_in_step(mode: Any, asynchronous: bool) -> None:
    model = FailingEmbeddings()
    store = ZeusDBVectorStore(model)
    manager = ZeusDBRecordManager(store)
    pages = _pages(*[f"{source}{number}" for source in "abc" for number in range(4)])
    await _index(asynchronous, pages[:3], manager, store, cleanup=mode)
    model.fail_on = "b2"
    with pytest.raises(ConnectionError):
        await _index(asynchronous, pages, manager, store, cleanup=mode, batch_size=2)
    assert sorted(manager.list_keys()) == sorted(store.get()["ids"])
    model.fail_on = ""
    await _index(asynchronous, pages, manager, store, cleanup=mode, batch_size=2)
    assert _texts(store) == sorted(page.page_content for page in pages)
    assert sorted(manager.list_keys()) == sorted(store.get()["ids"])


def test_keys_live_and_die_with_their_documents(tmp_path: Path) -> None:
    with ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "d") as store:
        index(
            _pages("a1", "a2"),
            ZeusDBRecordManager(store),
            store,
            cleanup="full",
            source_id_key="source",
            key_encoder="sha256",
        )
        keys = store.get()["ids"]
        store.delete([keys[0]])
    with ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "d") as store:
        manager = ZeusDBRecordManager(store)
        assert manager.exists(keys) == [False, True] and manager.list_keys() == [keys[1]]
        assert store.get()["metadatas"] == [{"source": "a"}], "what the manager keeps is not in the metadata"
        done = index(
            _pages("a1", "a2"), manager, store, cleanup="full", source_id_key="source", key_encoder="sha256"
        )
        assert done["num_added"] == 1 and done["num_skipped"] == 1


async def test_record_manager_answers_as_langchain_cores_does() -> None:
    store = ZeusDBVectorStore(WordEmbeddings())
    ours, theirs = ZeusDBRecordManager(store, "one"), InMemoryRecordManager("one")
    assert ours.exists(["a"]) == [False] and ours.list_keys() == []
    store.add_texts(list("abcdef"), ids=list("abcdef"))
    for manager in (ours, theirs):
        manager.update(["a", "b", "c"], group_ids=["x", "x", "y"])
    between = max(await ours.aget_time(), theirs.get_time())
    for manager in (ours, theirs):
        await manager.aupdate(["d", "e", "a"], group_ids=["y", None, "z"], time_at_least=between)
    for asked in (
        {}, {"group_ids": ["x"]}, {"group_ids": ["y", "z"]}, {"group_ids": []}, {"before": between},
        {"after": between}, {"before": between, "group_ids": ["y"]}, {"before": 1.0}, {"limit": 0},
    ):  # fmt: skip
        assert sorted(ours.list_keys(**asked)) == sorted(theirs.list_keys(**asked)), asked  # type: ignore[arg-type]
        assert sorted(await ours.alist_keys(**asked)) == sorted(theirs.list_keys(**asked))  # type: ignore[arg-type]
    assert len(ours.list_keys(limit=2)) == 2
    assert ours.exists(["a", "f", "zz"]) == theirs.exists(["a", "f", "zz"]) == [True, False, False]
    assert await ours.aexists(["e"]) == [True]
    other = ZeusDBRecordManager(store, "two")
    assert other.list_keys() == [] and other.exists(["a"]) == [False]
    other.delete_keys(["a"])
    for manager in (ours, theirs):
        await manager.adelete_keys(["a", "nope"])
        assert manager.exists(["a", "b"]) == [False, True]
    for wrong in ({"group_ids": ["x"]}, {"time_at_least": between + 1e6}):
        for manager in (ours, theirs):
            with pytest.raises(ValueError):
                manager.update(["a", "b"], **wrong)  # type: ignore[arg-type]
    with pytest.raises(RecordNotFoundError, match="nowhere"):
        ours.update(["nowhere"])
    ours.create_schema()
    await ours.acreate_schema()

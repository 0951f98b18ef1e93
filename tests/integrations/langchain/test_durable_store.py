"""A store on a path: what was added is there afterwards, whatever happens; models are told apart."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from langchain_core.documents import Document
from langchain_embedders import WordEmbeddings
from langchain_zeusdb_vs import ZeusDBVectorStore

from zeusdb_vs import (
    ConfigurationError,
    DimensionError,
    IndexLockedError,
    IndexNotFoundError,
    ReadOnlyError,
    VectorDatabase,
)


def test_documents_are_there_after_reopening_without_a_save(tmp_path: Path) -> None:
    path = tmp_path / "docs.zdb"
    with ZeusDBVectorStore(WordEmbeddings(), path=path) as store:
        store.add_texts(["bees make honey", "bread needs time"], [{"n": 1}, {"n": 2}], ids=["bees", "bread"])
        store.update_metadata({"seen": True}, ids=["bees"])
        store.delete(["bread"])
    with ZeusDBVectorStore.open(path, WordEmbeddings()) as again:
        assert again.similarity_search("honey bees") == [
            Document("bees make honey", metadata={"n": 1, "seen": True}, id="bees")
        ]
        again.save()
    with ZeusDBVectorStore.from_existing_index(WordEmbeddings(), path) as third:
        assert third.count({"seen": True}) == 1


_CHILD = """
import sys
from langchain_embedders import WordEmbeddings
from langchain_zeusdb_vs import ZeusDBVectorStore
store = ZeusDBVectorStore(WordEmbeddings(), path=sys.argv[1])
for number in range(10_000):
    store.add_texts([f"first {number}", f"second {number}"], ids=[f"{number}a", f"{number}b"])
    print(number, flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs kill -9")
def test_what_was_acknowledged_survives_kill_9_and_batches_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "docs.zdb"
    root = Path(__file__).resolve().parents[3]
    search_path = os.pathsep.join(str(root / part) for part in (".", "integrations", "tests"))
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_CHILD), str(path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": search_path},
    ) as child:
        assert child.stdout is not None
        acknowledged = -1
        for line in child.stdout:
            acknowledged = int(line)
            if acknowledged >= 25:
                child.kill()
                break
    with ZeusDBVectorStore.open(path, WordEmbeddings()) as store:
        stored = set(store.get()["ids"])
        assert {f"{number}{half}" for number in range(acknowledged + 1) for half in "ab"} <= stored
        assert {id[:-1] for id in stored if id.endswith("a")} == {
            id[:-1] for id in stored if id.endswith("b")
        }
        assert store.similarity_search("first 7", k=1)[0].id == "7a"


def test_another_model_is_refused_before_any_search(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "docs.zdb"
    ZeusDBVectorStore.from_texts(["a text"], WordEmbeddings(salt=0), path=path).close()
    with pytest.raises(ConfigurationError, match="another embedding model"):
        ZeusDBVectorStore(WordEmbeddings(salt=1), path=path)
    with pytest.raises(ConfigurationError, match="of 32 values; WordEmbeddings gives 16"):
        ZeusDBVectorStore(WordEmbeddings(16), path=path)
    with ZeusDBVectorStore(WordEmbeddings(salt=1), path=path, on_embedding_mismatch="warn") as warned:
        assert "another embedding model" in caplog.text and warned.count() == 1
    with ZeusDBVectorStore(WordEmbeddings(salt=1), path=path, on_embedding_mismatch="ignore") as ignored:
        assert ignored.count() == 1
    with ZeusDBVectorStore(None, path=path) as vectors_only:
        assert vectors_only.similarity_search_by_vector(WordEmbeddings().embed_query("a text"))[
            0
        ].page_content
    with ZeusDBVectorStore(WordEmbeddings(salt=0), path=path) as right:
        assert right.count() == 1


def test_a_saved_store_knows_its_model_too(tmp_path: Path) -> None:
    store = ZeusDBVectorStore.from_texts(["a text"], WordEmbeddings(salt=0), ids=["a"])
    store.save_local(tmp_path / "folder")
    store.save_local(tmp_path / "folder", "other")
    loaded = ZeusDBVectorStore.load_local(
        tmp_path / "folder", WordEmbeddings(salt=0), "other", allow_dangerous_deserialization=True
    )
    assert loaded.similarity_search("a text")[0].id == "a"
    with pytest.raises(ConfigurationError, match="another embedding model"):
        ZeusDBVectorStore.load_local(tmp_path / "folder", WordEmbeddings(salt=1))
    assert store.save_index(tmp_path / "again.zdb")
    assert ZeusDBVectorStore.load_index(tmp_path / "again.zdb", WordEmbeddings()).count() == 1
    # An empty store is worth saving too.
    ZeusDBVectorStore(WordEmbeddings()).save(tmp_path / "empty.zdb")
    with ZeusDBVectorStore.open(tmp_path / "empty.zdb", WordEmbeddings()) as empty:
        assert empty.count() == 0


def test_opening_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "nothing", read_only=True)
    with pytest.raises(IndexNotFoundError):
        ZeusDBVectorStore.load_local(tmp_path, WordEmbeddings())
    with pytest.raises(ConfigurationError):
        ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "new", space="angular")
    with ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "new") as fresh:
        assert fresh.similarity_search("x") == []
    assert not (tmp_path / "new").exists()


def test_another_space_than_the_directory_has_is_refused(tmp_path: Path) -> None:
    ZeusDBVectorStore.from_texts(["a"], WordEmbeddings(), path=tmp_path / "d", space="l2").close()
    with pytest.raises(ConfigurationError, match="space"):
        ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "d", space="cosine")
    with ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "d") as store:
        assert store.space == "l2"


def test_readers_beside_a_writer(tmp_path: Path) -> None:
    path = tmp_path / "d"
    with ZeusDBVectorStore.from_texts(["a"], WordEmbeddings(), ids=["a"], path=path) as writer:
        model = WordEmbeddings()
        with ZeusDBVectorStore(model, path=path, read_only=True) as reader:
            asked = model.documents_embedded
            for write in (
                lambda: reader.add_texts(["b"]),
                lambda: reader.delete(["a"]),
                lambda: reader.delete(),
                lambda: reader.update_metadata({"x": 1}, ids=["a"]),
            ):
                with pytest.raises(ReadOnlyError):
                    write()  # type: ignore[no-untyped-call]
            assert model.documents_embedded == asked, "nothing is paid for what cannot be stored"
            writer.add_texts(["b"], ids=["b"])
            assert reader.index.reload()
            assert reader.similarity_search("b", k=1)[0].id == "b"


def test_a_store_that_could_not_be_filled_lets_go_of_its_directory(tmp_path: Path) -> None:
    with pytest.raises(TypeError):
        ZeusDBVectorStore.from_texts(["a", 1], WordEmbeddings(), path=tmp_path / "d", dim=32)  # type: ignore[list-item]
    with ZeusDBVectorStore(WordEmbeddings(), path=tmp_path / "d", dim=32) as store:
        assert store.count() == 0
        with pytest.raises(DimensionError):
            store.add_embeddings(["a"], [[1.0, 2.0]])


class Away(WordEmbeddings):
    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        raise ConnectionError("the model is away")


def test_a_model_that_is_away_leaves_the_directory_free(tmp_path: Path) -> None:
    for dim in (32, None):
        with pytest.raises(ConnectionError):
            ZeusDBVectorStore(Away(), path=tmp_path / "d", dim=dim).add_texts(["a"])
    VectorDatabase().open(tmp_path / "d", lock_timeout_s=0.05).close()


def test_a_second_writer_is_told_who_has_it(tmp_path: Path) -> None:
    with (
        ZeusDBVectorStore.from_texts(["a"], WordEmbeddings(), path=tmp_path / "d"),
        pytest.raises(IndexLockedError, match=str(os.getpid())),
    ):
        VectorDatabase().open(tmp_path / "d", lock_timeout_s=0.05)

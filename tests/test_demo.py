"""The demo: its corpus, its embedder, and the whole of it on a part of the standard library."""

from __future__ import annotations

import importlib.util
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zeusdb_vs import ConfigurationError, VectorDatabase
from zeusdb_vs.demo.answers import QUESTIONS, differences
from zeusdb_vs.demo.corpus import Entry, read_compiled, read_corpus, read_source, source_files
from zeusdb_vs.demo.embedder import HashingEmbedder, embedder_from_config, words
from zeusdb_vs.demo.run import MADE_BY, question_about, recall, summary

# ------------------------------------------------------------------------------------------- corpus

_SOURCE = '''"""A module.

More of it.
"""
import sys

raise RuntimeError("this source was executed")

class Outer:
    """An outer class."""

    class Inner:
        """An inner class."""

        async def work(self):
            """Work."""
            def hidden():
                """Not listed: inside a function."""

    def silent(self):
        pass

if sys.platform == "win32":
    def both():
        """For Windows."""
else:
    def both():
        """For the others."""

def _private():
    """   """
'''


@pytest.fixture
def package(tmp_path: Path) -> Path:
    folder = tmp_path / "lib"
    (folder / "pack" / "test").mkdir(parents=True)
    (folder / "pack" / "__init__.py").write_text(_SOURCE, encoding="utf-8")
    (folder / "pack" / "test" / "test_pack.py").write_text('"""A test."""', encoding="utf-8")
    (folder / "broken.py").write_text("def (", encoding="utf-8")
    return folder


def test_read_source_lists_documented_objects_without_running_them(package: Path) -> None:
    entries = read_source(package / "pack" / "__init__.py", package)
    assert [(entry.id, entry.metadata["kind"], entry.metadata["line"]) for entry in entries] == [
        ("pack", "module", 1),
        ("pack.Outer", "class", 9),
        ("pack.Outer.Inner", "class", 12),
        ("pack.Outer.Inner.work", "method", 15),
        ("pack.both", "function", 24),
        ("pack.both", "function", 27),
    ]
    assert entries[0].text == "A module.\n\nMore of it."
    assert entries[0].metadata["file"] == "pack/__init__.py"
    assert summary(entries[0].text) == "A module."


def test_read_corpus_numbers_equal_ids_and_skips_tests_and_broken_files(package: Path) -> None:
    assert [path.name for path in source_files(package)] == ["broken.py", "__init__.py"]
    ids = [entry.id for _, entries in read_corpus(package) for entry in entries]
    assert ids[-2:] == ["pack.both", "pack.both#2"]
    assert len(set(ids)) == len(ids) == 6


def test_compiled_modules_bring_functions_that_have_no_source() -> None:
    entries = {entry.id: entry for entry in read_compiled()}
    assert entries["zlib.compress"].metadata["kind"] == "function"
    assert entries["builtins.str.split"].metadata["kind"] == "method"
    assert all(entry.text.strip() for entry in entries.values())


# ----------------------------------------------------------------------------------------- embedder


def test_words_take_names_apart_and_drop_stop_words() -> None:
    assert words("How do I parse an HTTPServer? parse_args2") == ["pars", "http", "serv", "pars", "arg", "2"]
    assert words("compress") == words("compresses") == words("compressing") == words("compression")


@given(st.lists(st.text(min_size=1, max_size=200), max_size=8), st.integers(1, 96))
def test_embeddings_are_unit_vectors_or_refused(texts: list[str], dim: int) -> None:
    embedder = HashingEmbedder(dim)
    for text in texts:
        try:
            [vector] = embedder.embed([text])
        except ConfigurationError:
            assert not any(character.isalnum() and character.isascii() for character in text)
            continue
        assert vector.dtype == np.float32
        assert vector.shape == (dim,)
        # float32 rounding of a unit vector: one ulp of each coordinate at most
        assert math.isclose(float(np.linalg.norm(vector.astype(np.float64))), 1.0, rel_tol=1e-6)


def test_embedder_survives_its_json_description_bit_for_bit() -> None:
    texts = ["compress a file", "read a csv file", "walk a directory tree", "größe 漢字 naïve"]
    embedder = HashingEmbedder(64).fit(texts)
    again = embedder_from_config(json.loads(json.dumps(embedder.to_config())))
    assert np.array_equal(embedder.embed(texts), again.embed(texts))
    assert not np.array_equal(embedder.embed(texts), HashingEmbedder(64).embed(texts)), (
        "the weights do nothing"
    )


def test_embedding_is_the_same_in_a_process_with_another_hash_seed() -> None:
    code = (
        "from zeusdb_vs.demo.embedder import HashingEmbedder\n"
        "print(HashingEmbedder(16).embed(['compress a file with gzip']).tobytes().hex())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_shared_words_and_spellings_bring_texts_near() -> None:
    texts = ["compress a file with gzip", "file compression", "send mail over smtp"]
    one, near, far = HashingEmbedder(512).embed(texts)
    assert one @ near > one @ far + 0.2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (None, "does not say how its text was embedded"),
        ([1], "damaged"),
        ({"name": "word2vec"}, "'word2vec'; known are 'hashing'"),
        ({"name": "hashing"}, "dim or idf is missing"),
        ({"name": "hashing", "dim": 8, "idf": "not base64!"}, "damaged"),
        ({"name": "hashing", "dim": 8, "idf": "eJwDAAAAAAE="}, "idf must be uint8"),
        ({"name": "sentence-transformers", "model": "all-MiniLM"}, "name it: --embedder all-MiniLM"),
    ],
)
def test_unusable_descriptions_are_refused(config: object, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        embedder_from_config(config)


def test_text_without_letters_or_digits_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no letters and no digits"):
        HashingEmbedder(8).embed(["?!"])


# Stands in for a package of half a gigabyte: the two calls that we make of it.
_SENTENCE_TRANSFORMERS = """
import numpy as np

class SentenceTransformer:
    def __init__(self, name):
        if name != "tiny":
            raise OSError(f"no model {name}")

    def encode(self, texts, normalize_embeddings=False, show_progress_bar=None):
        counts = np.array([[text.lower().count(letter) + 0.01 for letter in "aeinorst"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)
"""


@pytest.fixture
def tiny_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A sentence-transformers package with one model, "tiny", here and in processes started here."""
    (tmp_path / "sentence_transformers.py").write_text(_SENTENCE_TRANSFORMERS, encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.syspath_prepend(str(tmp_path))
    yield
    sys.modules.pop("sentence_transformers", None)


def _save_index(path: Path, metadata: dict[str, str]) -> None:
    index = VectorDatabase().create("hnsw", dim=2)
    index.add({"id": "a", "vector": [1, 2]})
    index.add_metadata(metadata)
    index.save(path)


@pytest.mark.usefixtures("tiny_model")
def test_a_model_named_by_the_user_embeds_and_is_not_loaded_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zeusdb_vs.cli import main

    path = str(tmp_path / "model.zdb")
    _save_index(Path(path), {"made_by": MADE_BY})  # as of an earlier demo, to be replaced
    assert main(["demo", "--limit", "60", "--path", path, "--embedder", "huge"]) == 1
    assert "cannot load 'huge'" in capsys.readouterr().err
    assert main(["demo", "--limit", "60", "--path", path, "--embedder", "tiny"]) == 0
    assert "the same answers" in capsys.readouterr().out
    assert main(["search", path, "read a file"]) == 1
    assert "name it: --embedder tiny" in capsys.readouterr().err
    assert main(["search", path, "read a file", "--embedder", "tiny"]) == 0


def test_a_model_without_its_package_is_an_error_that_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from zeusdb_vs.cli import main

    if importlib.util.find_spec("sentence_transformers") is not None:
        pytest.skip("sentence-transformers is installed")
    assert main(["demo", "--path", str(tmp_path / "x.zdb"), "--limit", "5", "--embedder", "tiny"]) == 1
    assert "pip install sentence-transformers" in capsys.readouterr().err


# ---------------------------------------------------------------------------------- answers, recall


def test_differences_allow_ties_and_rounding_only() -> None:
    base = [[("a", 0.1), ("b", 0.2), ("c", 0.2)]]
    assert differences(base, [[("a", 0.1 + 1e-8), ("c", 0.2), ("b", 0.2)]]) == []
    assert differences(base, [[("a", 0.1), ("b", 0.2), ("d", 0.2)]]) == []
    assert differences(base, [[("b", 0.1), ("a", 0.2), ("c", 0.2)]]) == [0]
    assert differences(base, [[("a", 0.1), ("b", 0.2), ("c", 0.201)]]) == [0]
    assert differences(base, [[("a", 0.1), ("b", 0.2)]]) == [0]


def test_recall_counts_ties_and_ignores_padding() -> None:
    inf = np.inf
    true = np.array([[0.1, 0.2, 0.3], [0.1, inf, inf]], dtype=np.float32)
    assert recall(true, true) == 1.0
    found = np.array([[0.1, 0.3, 0.4], [inf, inf, inf]], dtype=np.float32)
    assert math.isclose(recall(found, true), (2 / 3 + 0) / 2)


# ---------------------------------------------------------------------------------------- the whole


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The demo on 1,500 docstrings, run as a user runs it: its directory and what it printed."""
    path = tmp_path_factory.mktemp("demo") / "my.zdb"
    process = subprocess.run(
        [sys.executable, "-m", "zeusdb_vs", "demo", "--limit", "1500", "--path", str(path)],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=False,
    )
    assert process.returncode == 0, process.stdout + process.stderr
    return path, process.stdout


def test_demo_reports_what_it_measured(demo: tuple[Path, str]) -> None:
    path, output = demo
    for figure in (
        "docstrings",
        "1,500",
        "embedded in",
        "memory of the index",
        "one search",
        "recall@10",
        "saved",
    ):
        assert figure in output
    assert f"OK: the same answers: {len(QUESTIONS)} questions" in output
    assert (path / "manifest.json").is_file()


def test_demo_answers_keep_to_their_filters(demo: tuple[Path, str]) -> None:
    from zeusdb_vs.demo.answers import answer

    index = VectorDatabase().load(demo[0])
    embedder = embedder_from_config(index.get_all_metadata()["embedder"])
    for question, hits in zip(QUESTIONS, answer(index, embedder), strict=True):
        allowed = index.count(question.filter) if question.filter else 1500
        assert len(hits) == min(5, allowed)
        if question.filter == {"kind": "function"}:
            records = index.get_records([name for name, _ in hits])
            assert {record["metadata"]["kind"] for record in records} == {"function"}


def test_demo_leaves_alone_what_it_did_not_make(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from zeusdb_vs.cli import main

    foreign = tmp_path / "precious"
    foreign.mkdir()
    (foreign / "thesis.txt").write_text("years of work", encoding="utf-8")
    _save_index(tmp_path / "mine.zdb", {"made_by": "me"})
    for path in (foreign, tmp_path / "mine.zdb"):
        assert main(["demo", "--limit", "50", "--path", str(path)]) == 1
        assert "did not make" in capsys.readouterr().err
    assert (foreign / "thesis.txt").read_text(encoding="utf-8") == "years of work"


def test_question_about_an_entry_without_words_is_its_name() -> None:
    assert question_about(Entry("site.bogus", "¶\n\nRest.", {})) == "site.bogus"
    assert question_about(Entry("site.real", "Real\nsummary.\n\nRest.", {})) == "Real summary."


def test_entry_embeds_its_name_and_summary() -> None:
    entry = Entry("gzip.compress", "Compress data.\n\n" + "Details. " * 100, {})
    assert entry.embedded_text.startswith("gzip.compress\nCompress data.\n")
    assert len(entry.embedded_text) < 400

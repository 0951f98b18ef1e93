"""The guide, the docstrings' examples and the programs in examples/ work as shown."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import pkgutil
import runpy
import subprocess
import sys
from pathlib import Path

import langchain_zeusdb_vs
import pytest
from code_blocks import python_blocks, run_blocks
from langchain_core.vectorstores import VectorStore
from langchain_zeusdb_vs import ZeusDBVectorStore

ROOT = Path(__file__).resolve().parents[3]
MODULES = ["", *(f".{module.name}" for module in pkgutil.iter_modules(langchain_zeusdb_vs.__path__))]


def test_every_code_block_of_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("langchain_classic")
    monkeypatch.chdir(tmp_path)
    blocks = python_blocks(ROOT / "docs" / "langchain.md")
    assert len(blocks) >= 10
    run_blocks(blocks, tmp_path)


@pytest.mark.parametrize(
    "example", sorted((ROOT / "examples").glob("langchain_*.py")), ids=lambda path: path.stem
)
def test_example_runs_twice(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        runpy.run_path(str(example), run_name="__main__")


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module: str) -> None:
    assert doctest.testmod(importlib.import_module(f"langchain_zeusdb_vs{module}")).failed == 0


def test_every_method_of_the_base_class_is_our_own() -> None:
    inherited = {
        name
        for name in dir(VectorStore)
        if not name.startswith("_") and getattr(ZeusDBVectorStore, name) is getattr(VectorStore, name)
    }
    # These dispatch to methods of ours.
    assert inherited == {"search", "asearch"}


def test_every_call_has_an_async_twin() -> None:
    public = {
        name for name, member in inspect.getmembers(ZeusDBVectorStore, callable) if not name.startswith("_")
    }
    without = {
        name for name in public if f"a{name}" not in public and not (name[0] == "a" and name[1:] in public)
    }
    assert without == {
        "as_retriever", "as_self_query_retriever", "from_chroma", "from_existing_index", "from_faiss",
        "from_inmemory", "get_vector_count", "info", "load_index", "load_local", "save_index", "save_local",
    }  # fmt: skip


def test_without_langchain_the_import_names_the_command() -> None:
    code = (
        "import sys; sys.modules['langchain_core'] = None\n"
        "try: import langchain_zeusdb_vs\n"
        "except ImportError as error: print(error)"
    )
    search_path = os.pathsep.join(str(ROOT / part) for part in (".", "integrations"))
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": search_path},
    )
    assert "pip install 'zeusdb-vs[langchain]'" in run.stdout


def test_the_package_is_typed_and_documented() -> None:
    folder = Path(inspect.getfile(langchain_zeusdb_vs)).parent
    assert (folder / "py.typed").exists()
    for name, member in inspect.getmembers(ZeusDBVectorStore, inspect.isfunction):
        assert name.startswith("_") or member.__doc__, name
    sections = inspect.getdoc(ZeusDBVectorStore) or ""
    for section in ("Setup", "Key init args", "Instantiate", "Add", "Delete", "Search", "Async", "Retriever"):
        assert f"\n{section}\n" in sections, section

"""The specification page's examples run after a change of the import, and of nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest
from code_blocks import python_blocks, run_blocks

# The page imports the original product under both of its names.
_ORIGINAL_IMPORTS = ("from zeusdb_vector_database import", "from zeusdb import")


def _blocks(repository: Path) -> list[str]:
    blocks = python_blocks(repository / "tests" / "spec" / "persistence.md")
    for original in _ORIGINAL_IMPORTS:
        blocks = [block.replace(original, "from zeusdb_vs import") for block in blocks]
    return blocks


def test_save_and_load_examples_run_in_one_session(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_blocks(_blocks(repository)[:2], tmp_path)
    assert "Loaded index with 1000 vectors" in capsys.readouterr().out
    assert len(names["results"]) == 3
    assert names["loaded_index"].info() == names["index"].info()


def test_complete_workflow_runs_when_pasted(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_blocks(_blocks(repository)[2:], tmp_path)
    assert "Complete persistence workflow successful!" in capsys.readouterr().out
    # Stronger than what the page itself asserts.
    assert (
        names["loaded_meta"]
        == names["original_meta"]
        == {
            "dataset": "demo_collection",
            "created_by": "data_team",
            "version": "1.0",
        }
    )
    assert names["loaded_results"] == names["original_results"]
    assert len(names["filtered_results"]) == 5
    assert all(hit["metadata"]["category"] == "science" for hit in names["filtered_results"])
    assert all(hit["metadata"]["published"] is True for hit in names["filtered_results"])


def test_saved_directory_holds_the_specified_files(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(_blocks(repository)[2:], tmp_path)
    specified = {
        "manifest.json",
        "config.json",
        "mappings.bin",
        "metadata.json",
        "vectors.bin",
        "hnsw_index.hnsw.graph",
    }
    assert specified <= {path.name for path in (tmp_path / "demo_index.zdb").iterdir()}

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


def test_quantization_example_runs_as_it_is(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    # Its imports are those of the examples before it. Eight bytes for 1,536 dimensions are few: hence the warning.
    with pytest.warns(UserWarning, match="768 times"):
        names = run_blocks(_blocks(repository)[:3], tmp_path)
    told = capsys.readouterr().out
    for line in (
        "Added 2000 vectors",
        "Training progress: 100.0%",
        "Quantization active: True",
        "Loaded quantization state: True",
    ):
        assert line in told
    index, loaded = names["index"], names["loaded_index"]
    assert loaded.info() == index.info()
    assert "pq(subvectors=8, bits=8, trained, active, compression=768.0x)" in loaded.info()
    assert loaded.search(names["vectors"][:9]) == index.search(names["vectors"][:9])
    info = loaded.get_quantization_info()
    assert names["quantization_config"].items() <= info.items()
    assert (info["compression_ratio"], info["total_centroids"], info["is_trained"]) == (768.0, 2048, True)
    specified = {
        "manifest.json",
        "config.json",
        "mappings.bin",
        "metadata.json",
        "quantization.json",
        "pq_centroids.bin",
        "pq_codes.bin",
        "hnsw_index.hnsw.graph",
    }
    files = {path.name for path in (tmp_path / "quantized_index.zdb").iterdir()}
    assert specified <= files and "vectors.bin" not in files


def test_complete_workflow_runs_when_pasted(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = run_blocks(_blocks(repository)[3:], tmp_path)
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
    run_blocks(_blocks(repository)[3:], tmp_path)
    specified = {
        "manifest.json",
        "config.json",
        "mappings.bin",
        "metadata.json",
        "vectors.bin",
        "hnsw_index.hnsw.graph",
    }
    assert specified <= {path.name for path in (tmp_path / "demo_index.zdb").iterdir()}

"""What README.md and examples/ show works as shown."""

from __future__ import annotations

import ast
import re
import runpy
from pathlib import Path

import pytest
from code_blocks import python_blocks, run_blocks

import zeusdb_vs

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
_SHELL_BLOCK = re.compile(r"^```(?:sh|bash|console)\n(.*?)^```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", ["README.md", "docs/api.md"])
def test_every_code_block_runs_in_order(
    document: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocks = python_blocks(ROOT / document)
    assert len(blocks) >= 3
    monkeypatch.chdir(tmp_path)
    run_blocks(blocks, tmp_path)


def test_first_block_comes_on_the_first_screen_and_is_ten_lines() -> None:
    first = python_blocks(ROOT / "README.md")[0]
    code = first.strip("\n").splitlines()
    assert len(first.splitlines()) <= 45, "the first example ends below the first screen"
    assert len([line for line in code if line.strip()]) <= 12


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_example_runs(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runpy.run_path(str(example), run_name="__main__")


def test_examples_are_there() -> None:
    assert EXAMPLES


@pytest.mark.parametrize("kind", ["HNSWIndex", "VectorDatabase", "AddResult"])
def test_every_call_is_on_the_page_of_calls(kind: str) -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    public = [name for name in dir(getattr(zeusdb_vs, kind)) if not name.startswith("_")]
    assert public
    assert [name for name in public if not re.search(rf"\b{name}\b", page)] == []


def test_table_of_memory_is_what_is_estimated() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = text.partition("<!-- estimates -->")[2].partition("<!-- end of estimates -->")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.strip().splitlines()[2:]]
    assert len(rows) == 5
    for config, *figures in rows:
        for dim, given in ((384, figures[:2]), (1536, figures[2:4])):
            options = (
                None
                if config == "none"
                else ast.literal_eval(config.strip("`").replace("dim // 4", str(dim // 4)))
            )
            estimate = zeusdb_vs.estimate_memory(1_000_000, dim, quantization_config=options, id_bytes=16)
            memory = sum(estimate.memory[part] for part in ("vectors", "codes", "graph"))
            assert given == [f"{round(size / 2**20):,}" for size in (memory, estimate.disk_bytes)]


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md"])
def test_commands_in_shell_blocks_exist(document: str) -> None:
    from zeusdb_vs.cli import main

    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    shell = "\n".join(_SHELL_BLOCK.findall((ROOT / document).read_text(encoding="utf-8")))
    for target in re.findall(r"^make ([a-z]+)", shell, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for command in re.findall(r"^zeusdb-vs ([a-z]+)", shell, re.MULTILINE):
        with pytest.raises(SystemExit) as left:
            main([command, "--help"])
        assert left.value.code == 0, f"zeusdb-vs {command}"


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "docs/api.md"])
def test_files_named_in_links_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (ROOT / target).exists(), target

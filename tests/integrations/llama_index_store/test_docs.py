"""The guide runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from code_blocks import python_blocks, run_blocks

ROOT = Path(__file__).parents[3]


def test_the_guide_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run_blocks(python_blocks(ROOT / "docs" / "llama-index.md"), tmp_path)


def test_the_guide_names_files_that_exist() -> None:
    text = (ROOT / "docs" / "llama-index.md").read_text(encoding="utf-8")
    for name in re.findall(r"`(examples/[a-z_]+\.py)`", text):
        assert (ROOT / name).exists()

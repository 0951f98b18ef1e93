"""Python code blocks of Markdown files, run as a reader would paste them: in order, in one session."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_blocks(markdown: Path) -> list[str]:
    """Return the code of each ```python block, padded so that line numbers in a traceback are the file's."""
    text = markdown.read_text(encoding="utf-8")
    return ["\n" * text[: found.start(1)].count("\n") + found.group(1) for found in _BLOCK.finditer(text)]


def run_blocks(blocks: list[str], folder: Path) -> dict[str, Any]:
    """Run blocks in order, each seeing the names of those before it; return the names of the last."""
    names: dict[str, Any] = {}
    for number, code in enumerate(blocks):
        script = folder / f"block_{number}.py"
        script.write_text(code, encoding="utf-8")
        names |= runpy.run_path(str(script), init_globals=names)
    return names

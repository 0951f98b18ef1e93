"""How tables are laid out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a table: the first column to the left, figures to the right."""
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        padded = (
            f"{c:<{w}}" if i == 0 else f"{c:>{w}}" for i, (c, w) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return [
        f"== {title}",
        line(head),
        "  ".join("-" * width for width in widths),
        *(line(row) for row in rows),
    ]


def times(value: float | None) -> str:
    if value is None:
        return ""
    return " (never)" if value == 0 else " (inf)" if math.isinf(value) else f" ({value:.2f}x)"


def title_and_queries(dataset: Any) -> str:
    return f"{dataset['title']}, {dataset['queries']} queries"

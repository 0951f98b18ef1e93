"""What the demo and the command print: with rich where it is installed, plainly where it is not."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from rich.console import Console

Advance = Callable[[int], None]

_LABEL_WIDTH = 24
_WIDEST_CELL = 46
_INTERVALS = 4  # a plain progress line appears this often: at 25, 50, 75 and 100 %


class Terminal(Protocol):
    """Where results go."""

    def heading(self, text: str) -> None:
        """Begin a part."""

    def fact(self, label: str, value: str) -> None:
        """Print one figure under its name."""

    def note(self, text: str) -> None:
        """Print a remark."""

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows; the last column takes what room is left and is cut to it."""

    def verdict(self, good: bool, text: str) -> None:
        """Print how something ended."""

    def progress(self, label: str, total: int) -> AbstractContextManager[Advance]:
        """Show how far a loop is; the context gives a function to call with the steps just done."""


class PlainTerminal:
    """Lines of text, nothing else."""

    def heading(self, text: str) -> None:
        """Begin a part."""
        print(f"\n{text}\n{'-' * len(text)}")

    def fact(self, label: str, value: str) -> None:
        """Print one figure under its name."""
        print(f"  {label:<{_LABEL_WIDTH - 1}} {value}")

    def note(self, text: str) -> None:
        """Print a remark."""
        print(textwrap.fill(text, _width(), initial_indent="  ", subsequent_indent="  "))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows; the last column takes what room is left and is cut to it."""
        widths = [min(_WIDEST_CELL, max(map(len, column))) for column in zip(columns, *rows, strict=True)]
        widths[-1] = max(10, _width() - sum(widths[:-1]) - 2 * len(columns) - 2)
        for row in (columns, *rows):
            cells = [_cut(cell, width).ljust(width) for cell, width in zip(row, widths, strict=True)]
            print(("    " + "  ".join(cells)).rstrip())
        print()

    def verdict(self, good: bool, text: str) -> None:
        """Print how something ended."""
        print(f"  {'OK' if good else 'DIFFERENT'}: {text}")

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Show how far a loop is; the context gives a function to call with the steps just done."""
        done = shown = 0

        def advance(steps: int) -> None:
            nonlocal done, shown
            done += steps
            if done * _INTERVALS >= (shown + 1) * total:
                shown = done * _INTERVALS // max(1, total)
                print(f"  {label}: {done:,} of {total:,}", flush=True)

        yield advance


class RichTerminal:
    """The same with colours, bars and tables drawn by rich.

    Parameters
    ----------
    console : rich.console.Console
        Where to draw.
    """

    def __init__(self, console: Console) -> None:
        self._console = console

    def heading(self, text: str) -> None:
        """Begin a part."""
        self._console.print()
        self._console.rule(f"[bold]{text}", align="left")

    def fact(self, label: str, value: str) -> None:
        """Print one figure under its name."""
        self._console.print(f"  [dim]{label:<{_LABEL_WIDTH - 1}} [/dim]", end="")
        self._console.print(value, markup=False, highlight=True, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print a remark."""
        lines = textwrap.wrap(text, self._console.width - 4)
        self._console.print(textwrap.indent("\n".join(lines), "  "), markup=False, style="italic")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
        """Print rows; the last column takes what room is left and is cut to it."""
        from rich.padding import Padding
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim")
        for column in columns[:-1]:
            table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=_WIDEST_CELL)
        table.add_column(columns[-1], no_wrap=True, overflow="ellipsis", ratio=1)
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(Padding(table, (0, 0, 1, 4)))

    def verdict(self, good: bool, text: str) -> None:
        """Print how something ended."""
        mark = "[bold green]OK[/bold green]" if good else "[bold red]DIFFERENT[/bold red]"
        self._console.print(f"  {mark}  ", end="")
        self._console.print(text, markup=False, highlight=False)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Advance]:
        """Show how far a loop is; the context gives a function to call with the steps just done."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn(f"  {label:<{_LABEL_WIDTH - 1}}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self._console) as bar:
            task = bar.add_task(label, total=total)
            yield lambda steps: bar.update(task, advance=steps)


def open_terminal() -> Terminal:
    """Choose how to print.

    Returns
    -------
    Terminal
        Rich on a terminal where it is installed, plain lines otherwise (pipes, logs).
    """
    if sys.stdout.isatty() and importlib.util.find_spec("rich") is not None:
        from rich.console import Console

        return RichTerminal(Console())
    return PlainTerminal()


def _width() -> int:
    return min(120, shutil.get_terminal_size((100, 24)).columns)


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 3] + "..."

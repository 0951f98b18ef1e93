"""What an index says of itself: one line, a table, figures."""

from __future__ import annotations

from typing import Any

from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.reports import html_table, info_line, memory_table, performance_notes, statistics
from zeusdb_vs.results import IndexStats


class FigureCalls(Handle):
    """The calls of `HNSWIndex` that tell of the index as a whole."""

    __slots__ = ()

    def info(self) -> str:
        """Return the index in one line."""
        return info_line(self._collection)

    def __repr__(self) -> str:
        return "HNSWIndex (closed)" if self._is_closed else self.info()

    def _repr_html_(self) -> str:
        return html_table(self._collection)

    def get_stats(self) -> IndexStats:
        """Return figures of the index; sizes in bytes."""
        return statistics(self._collection)

    def memory(self) -> dict[str, int]:
        """Return the bytes each part holds, and their sum under ``"total"``."""
        return memory_table(self._collection)

    def get_performance_info(self) -> dict[str, Any]:
        """Return what limits searches and adds."""
        return performance_notes()

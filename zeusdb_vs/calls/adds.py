"""Records into the index: `add`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from zeusdb_vs.calls.handle import Handle
from zeusdb_vs.checks import check_bool
from zeusdb_vs.errors import ConfigurationError
from zeusdb_vs.inputs import CheckedRows, admit_rows, check_rows, merge_rows
from zeusdb_vs.record_forms import read_rows
from zeusdb_vs.results import AddResult


class AddCalls(Handle):
    """The call of `HNSWIndex` that stores records."""

    __slots__ = ()

    def add(
        self,
        data: Any,
        overwrite: bool = True,
        *,
        on_error: Literal["collect", "raise"] = "collect",
        progress: Callable[[int], None] | None = None,
    ) -> AddResult:
        """Store records; one with an id that is there already is replaced as a whole.

        Parameters
        ----------
        data : dict, list, ndarray or iterator
            A record ``{"id", "vector" or "values", "metadata", "text", "payload"}``, all but the vector
            optional; a list of records; a dict of arrays ``{"ids", "vectors", "metadatas", "texts",
            "payloads"}``; a 1-D or 2-D array or a list of vectors; or a generator of records or vectors,
            consumed in chunks. Numbers may have any float or integer type and any layout. Missing ids are
            generated as ``vec_1``, ``vec_2``, ...
        overwrite : bool
            With False, a record whose id is in the index is refused.
        on_error : {"collect", "raise"}
            ``"collect"``: a record that cannot be stored is listed in `AddResult.errors` and the others go
            in. ``"raise"``: the first such record raises and nothing goes in.
        progress : callable, optional
            Called now and then with the number of records stored so far.

        Returns
        -------
        AddResult

        Raises
        ------
        ArgumentTypeError
            `data` is of no known form.
        RecordError
            Columns have unequal lengths or unknown names; with ``on_error="raise"`` any record's error.
        """
        check_bool(overwrite, "overwrite")
        if on_error not in ("collect", "raise"):
            raise ConfigurationError(f"on_error must be 'collect' or 'raise', got {on_error!r}")
        self._check_writable()
        forbid_zero = self.space == "cosine"
        chunks: Iterable[CheckedRows] = (
            check_rows(rows, dim=self.dim, forbid_zero=forbid_zero) for rows in read_rows(data)
        )
        if on_error == "raise":
            chunks = _whole_input(list(chunks))
        outcome = AddResult(0, 0, [], (0, self.dim), [])
        stored: dict[str, None] = {}
        for checked in chunks:
            self._add_chunk(checked, overwrite, on_error == "raise", stored, outcome, progress)
        outcome.ids = list(stored)
        outcome.total_inserted, outcome.total_errors = len(stored), len(outcome.errors)
        return outcome

    def _add_chunk(
        self,
        checked: CheckedRows,
        overwrite: bool,
        raise_first: bool,
        stored: dict[str, None],
        outcome: AddResult,
        progress: Callable[[int], None] | None,
    ) -> None:
        def is_taken(record_id: str) -> bool:
            return record_id not in stored and self._collection.view.find(record_id) >= 0

        def report(done: int) -> None:
            assert progress is not None
            progress(before + done)

        before = len(stored)
        with self._writing():
            batch, failures = admit_rows(
                checked, new_ids=self._new_ids, is_taken=None if overwrite else is_taken
            )
            if failures and raise_first:
                raise failures[0].exception()
            if len(batch):
                self._collection.add(batch, progress=None if progress is None else report)
        for record_id in batch.ids:
            # Stored again means stored last: a later chunk may replace what an earlier one brought.
            stored.pop(record_id, None)
        stored.update(dict.fromkeys(batch.ids))
        outcome.errors.extend(failure.entry() for failure in failures)
        outcome.vector_shape = (outcome.vector_shape[0] + checked.count, self.dim)

    def _new_ids(self, count: int, given: set[str]) -> list[str]:
        """Return the next generated ids, without those that users have taken."""
        find = self._collection.view.find
        ids: list[str] = []
        while len(ids) < count:
            first = self._state.generated_ids + 1
            self._state.generated_ids += count - len(ids)
            names = [f"vec_{number}" for number in range(first, self._state.generated_ids + 1)]
            ids += [name for name in names if find(name) < 0 and name not in given]
        return ids


def _whole_input(parts: Sequence[CheckedRows]) -> Sequence[CheckedRows]:
    """Return the parts of an input as one, or raise the first record that cannot be stored."""
    for part in parts:
        if part.failures:
            raise part.failures[0].exception()
    return [merge_rows(parts)] if parts else []

"""The nearest known name, for messages about an unknown one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"``, or the list of what is known when nothing comes near."""
    names = list(known)
    near = get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(repr, names))}"

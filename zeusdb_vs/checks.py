"""Checks of options, shared by all that take options from users."""

from __future__ import annotations

import operator
from collections.abc import Iterable
from difflib import get_close_matches

from zeusdb_vs.errors import ArgumentTypeError, ConfigurationError

MAX_M = 256
MAX_EF_CONSTRUCTION = 4096
MAX_EXPECTED_SIZE = 1 << 40
"""A hint, so nothing is taken for it."""


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """Return ``"did you mean 'x'?"``, or the list of what is known when nothing comes near."""
    names = list(known)
    near = get_close_matches(str(name).lower(), names, n=1, cutoff=0.6)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(map(repr, names))}"


def check_int(value: object, name: str, low: int, high: int | None = None) -> int:
    """Return an integer option as int; NumPy integers pass, bool and float do not.

    Raises
    ------
    ArgumentTypeError
        The value is no integer.
    ConfigurationError
        It lies outside ``low..high``.
    """
    allowed = f"an integer from {low:,}" + ("" if high is None else f" to {high:,}")
    if isinstance(value, bool):
        raise ArgumentTypeError(f"{name} must be {allowed}, got {value!r}")
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        kind = type(value).__name__
        raise ArgumentTypeError(f"{name} must be {allowed}, got {value!r} of type {kind}") from None
    if number < low or (high is not None and number > high):
        raise ConfigurationError(f"{name} must be {allowed}, got {number:,}")
    return number


def check_bool(value: object, name: str) -> bool:
    """Return a switch as bool; only True and False are taken.

    Raises
    ------
    ArgumentTypeError
        The value is anything else.
    """
    if value is True or value is False:
        return value is True
    raise ArgumentTypeError(f"{name} must be True or False, got {value!r} of type {type(value).__name__}")


def check_str_list(value: object, name: str) -> list[str]:
    """Return an iterable of str as a list; a single str is refused, not taken apart.

    Raises
    ------
    ArgumentTypeError
        It is a str or no iterable, or an entry is no str.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise ArgumentTypeError(f"{name} must be a list of str, got {value!r}; write [{value!r}] for one")
    entries = list(value)
    for position, entry in enumerate(entries):
        if not isinstance(entry, str):
            raise ArgumentTypeError(f"{name}[{position}] must be a str, got {entry!r}")
    return entries


def check_build_options(
    m: int | None, ef_construction: int | None, expected_size: int | None
) -> dict[str, int]:
    """Return those of the graph's options that are given, checked."""
    options = {}
    if m is not None:
        options["m"] = check_int(m, "m", 2, MAX_M)
    if ef_construction is not None:
        options["ef_construction"] = check_int(ef_construction, "ef_construction", 1, MAX_EF_CONSTRUCTION)
    if expected_size is not None:
        options["expected_size"] = check_int(expected_size, "expected_size", 1, MAX_EXPECTED_SIZE)
    return options

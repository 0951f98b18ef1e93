"""`import zeusdb_vs` is cheap, and its face is what it says."""

from __future__ import annotations

import subprocess
import sys

import pytest

import zeusdb_vs

_REPORT = """
import sys, time
import numpy
started = time.perf_counter()
import zeusdb_vs
elapsed = time.perf_counter() - started
heavy = sorted({name.partition(".")[0] for name in sys.modules} & {"numba", "llvmlite", "rich", "hypothesis"})
print(f"{elapsed * 1000:.1f}", *heavy)
"""


def _run(code: str) -> str:
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return process.stdout


def test_import_brings_in_neither_numba_nor_extras() -> None:
    elapsed_ms, *heavy = _run(_REPORT).split()
    print(f"import zeusdb_vs: {elapsed_ms} ms on top of NumPy")  # a figure to look at, not a timed test
    assert heavy == []


def test_naming_the_public_classes_does_not_import_numba() -> None:
    code = (
        "import sys, zeusdb_vs as z; [getattr(z, name) for name in z.__all__]; print('numba' in sys.modules)"
    )
    assert _run(code).strip() == "False"


def test_star_import_gives_every_public_name() -> None:
    assert _run("from zeusdb_vs import *; print(VectorDatabase.__name__)").strip() == "VectorDatabase"


@pytest.mark.parametrize("name", zeusdb_vs.__all__)
def test_public_name_exists_and_is_listed(name: str) -> None:
    assert getattr(zeusdb_vs, name) is not None
    assert name in dir(zeusdb_vs)


def test_unknown_attribute_raises_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'VectorDatabas'"):
        _ = zeusdb_vs.VectorDatabas


def test_every_error_of_the_tree_is_public() -> None:
    from zeusdb_vs import errors

    tree = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert tree <= set(zeusdb_vs.__all__)

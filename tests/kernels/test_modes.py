"""The tests of this folder again, in processes where kernels run otherwise.

Compiled with VNNI and AVX-512 switched off, AVX2 serves, and without that the portable loops; with
NUMBA_DISABLE_JIT=1 all of it is plain Python. The latter also checks bounds wherever a kernel takes memory
as an array, which is all that NUMBA_BOUNDSCHECK=1 could add, for another compilation of everything.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

_FOLDER = Path(__file__).resolve().parent
_AVX2 = {"ZEUSDB_VS_DISABLE_CPU_FEATURES": "avx512vnni,avx512bw,avx512f"}
_PORTABLE = {"ZEUSDB_VS_DISABLE_CPU_FEATURES": "avx512vnni,avx512bw,avx512f,avx2"}
_PLAIN = {"NUMBA_DISABLE_JIT": "1"}

_ANSWERS = """
import json
import numpy as np
from zeusdb_vs import VectorDatabase
from zeusdb_vs.kernels.compile import HAS_AVX2, HAS_SAD512, HAS_VNNI512

rng = np.random.default_rng(0)
answers = {"avx512": HAS_VNNI512 or HAS_SAD512, "avx2": HAS_AVX2}
for space in ("cosine", "l2", "l1", "dot"):
    vectors = rng.standard_normal((4500, 64), dtype=np.float32)
    index = VectorDatabase().create("hnsw", dim=64, space=space)
    index.add(vectors[:4400])
    ids, distances = index.search_arrays(vectors[4400:], 10)
    answers[space] = [ids.tolist(), distances.tolist()]
print(json.dumps(answers))
"""


def _run(arguments: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NUMBA_"))}
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=_FOLDER.parent.parent,
        env={**own, **environment},
    )


@pytest.mark.parametrize("environment", [_AVX2, _PORTABLE, _PLAIN], ids=["AVX2", "portable", "plain Python"])
def test_kernels_pass_these_tests_when_run_otherwise(environment: dict[str, str]) -> None:
    process = _run(
        ["-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", f"--ignore={__file__}", str(_FOLDER)],
        **environment,
    )
    assert process.returncode == 0, process.stdout[-6000:] + process.stderr[-2000:]
    assert " passed" in process.stdout


@pytest.mark.parametrize("environment", [_AVX2, _PORTABLE], ids=["AVX2", "portable"])
def test_answers_are_the_same_on_every_code_path(environment: dict[str, str]) -> None:
    native, switched = _run(["-c", _ANSWERS]), _run(["-c", _ANSWERS], **environment)
    assert native.returncode == switched.returncode == 0, native.stderr + switched.stderr
    usual, other = json.loads(native.stdout), json.loads(switched.stdout)
    assert not other.pop("avx512")
    assert other.pop("avx2") == (usual.pop("avx2") and environment is _AVX2)
    usual.pop("avx512")
    for space, (ids, distances) in usual.items():
        # Integer sums are equal; float32 sums may be ordered otherwise, and flip what nearly ties.
        same = np.mean(np.array(ids) == np.array(other[space][0]))
        assert same >= 0.99, (space, same)
        np.testing.assert_allclose(np.array(distances), np.array(other[space][1]), rtol=1e-2, atol=1e-4)

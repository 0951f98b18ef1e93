"""What all tests share.

Compiled kernels come from the user's cache folder: compiled once per machine, not once per run.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# No deadline: the first example may compile a kernel. The blob that repeats a failure is always printed.
settings.register_profile(
    "zeusdb", deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("zeusdb")

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return ROOT


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data sets, where the machine has them: the folder named by ZEUSDB_VS_DATA."""
    folder = os.environ.get("ZEUSDB_VS_DATA")
    if not folder or not Path(folder).is_dir():
        pytest.skip("ZEUSDB_VS_DATA names no folder")
    return Path(folder)

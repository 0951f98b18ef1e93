"""What the tests of the LangChain adapter share."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("langchain_core")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            # Of LangChain's own making: its packages warn of one another.
            item.add_marker(
                pytest.mark.filterwarnings("ignore::langchain_core._api.LangChainDeprecationWarning")
            )
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:langchain_.*"))
            item.add_marker(pytest.mark.filterwarnings("ignore::DeprecationWarning:pydantic.*"))

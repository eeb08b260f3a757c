"""A plugin of pytest: tell which tests there are, deselected ones too: the same everywhere.

Meant for `-p tests.support.ids`; ci/arch compares what it prints.
"""

from __future__ import annotations

import hashlib

import pytest


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Print what stands for the tests' names."""
    ids = "\n".join(sorted(item.nodeid for item in items))
    print(f"\nids: {hashlib.sha256(ids.encode()).hexdigest()[:16]}")

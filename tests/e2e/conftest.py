"""Federations of real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedelta.demo.processes import Federation, federation
from tests.e2e.running import ENVIRONMENT


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Federation]:
    """An empty federation: nothing is started yet."""
    with federation(tmp_path, ENVIRONMENT) as found:
        yield found

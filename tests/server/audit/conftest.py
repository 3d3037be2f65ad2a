"""A finished job, made once: each test gets a copy of its own."""

import asyncio
import shutil
from pathlib import Path

import pytest

from fedelta_server.retention import Keep
from tests.server.audit.states import make


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state that keeps the updates of the last two rounds."""
    state = tmp_path_factory.mktemp("made")
    asyncio.run(make(state, Keep(updates=2)))
    return state


@pytest.fixture
def state(made: Path, tmp_path: Path) -> Path:
    return shutil.copytree(made, tmp_path / "state")

"""Fixtures of the operator's tests."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from tests.cli.fake import FakeCoordinator


@pytest.fixture
def coordinator() -> Iterator[FakeCoordinator]:
    with FakeCoordinator() as fake:
        yield fake


@pytest.fixture
def model_file(tmp_path: Path) -> Path:
    """A model as the safetensors library writes it: larger than one chunk of a transfer."""
    path = tmp_path / "start.safetensors"
    save_file({"weight": np.arange(1_000_000, dtype=np.float32), "bias": np.zeros((2, 3))}, path)
    return path


def write_job(path: Path, init: str = "first-client") -> Path:
    path.write_text(f'[job]\nname = "digits"\nseed = 7\n[model]\ninit = "{init}"\n[rounds]\nmax = 2\n')
    return path


@pytest.fixture
def job_file(tmp_path: Path) -> Path:
    return write_job(tmp_path / "digits.toml")

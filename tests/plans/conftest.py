"""What these tests share."""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_torch_thread() -> None:
    """As in trainer processes; on a busy machine two threads wait for each other at every small step."""
    torch.set_num_threads(1)

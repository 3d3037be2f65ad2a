"""Clients that send nonsense: what it does to the model is up to the job's aggregator."""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from safetensors.numpy import load_file

from fedelta.admin import AdminClient, JobState
from fedelta.demo.processes import Federation, federation
from tests.e2e.running import ENVIRONMENT, job, run, start

SITES = dict.fromkeys(["a", "b", "c", "d", "wild"], (10, 1.0))
ROUNDS = 3


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """Five clients, idle."""
    with federation(tmp_path_factory.mktemp("five"), ENVIRONMENT) as found:
        start(found, list(SITES))
        yield found


def made(running: Federation, out: Path, act: str, aggregator: str) -> npt.NDArray[np.float32]:
    """The values of the model after jobs in which one client does `act` in every round."""
    acts: Mapping[str, str] = {f"wild/{number}": act for number in range(1, ROUNDS + 1)}
    info = run(running, job(sites=SITES, acts=acts, noise=0.01, max=ROUNDS, min_updates=4) + aggregator)
    assert info.state is JobState.FINISHED, info.reason
    with AdminClient(running.server) as admin:
        admin.download_model(info.id, out)
    found: npt.NDArray[np.float32] = load_file(out)["bias"]
    return found


def learnt() -> float:
    """What `Steps` makes of a bias of 0.5 at clients that all want 1, 2 and 3 in the three rounds."""
    value = 0.5
    for number in range(1, ROUNDS + 1):
        value += 0.25 * (number - value)
    return value


@pytest.mark.parametrize(
    "aggregator",
    ['[aggregator]\nname = "median"', '[aggregator]\nname = "krum"\nbyzantine = 1'],
    ids=["median", "krum"],
)
def test_one_client_that_sends_millions_changes_nothing(five: Federation, tmp_path: Path, aggregator: str) -> None:
    np.testing.assert_allclose(made(five, tmp_path / "model", "shout", aggregator), learnt(), atol=0.1)


def test_the_mean_follows_it(five: Federation, tmp_path: Path) -> None:
    assert (made(five, tmp_path / "model", "shout", "") > 1e5).all()


def test_a_client_whose_update_is_not_a_number_never_reaches_the_model(five: Federation, tmp_path: Path) -> None:
    np.testing.assert_allclose(made(five, tmp_path / "model", "diverge", ""), learnt(), atol=0.1)

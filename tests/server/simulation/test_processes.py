"""Simulations in several processes, and their ends."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fedelta.errors import LearnerError
from fedelta_server.simulation import SimulationInterrupted, simulate
from tests.server.simulation.learners import Toward

FOUR = {name: float(index) for index, name in enumerate("abcd")}


def job(**acts: str) -> dict[str, Any]:
    return {
        "job": {"name": "processes", "seed": 3},
        "model": {"init": "first-client"},
        "rounds": {"max": 3},
        "train": {"acts": {f"{name}/2": act for name, act in acts.items()}},
        "evaluate": {"every": 0},
    }


def test_a_process_that_dies_names_the_client() -> None:
    with pytest.raises(LearnerError, match=r"client 'c' \(round 2, train\) ended with status 3"):
        simulate(job(c="leave"), Toward, data=FOUR, workers=2)


def test_a_client_that_cannot_start_ends_it() -> None:
    with pytest.raises(LearnerError, match="client 'd' cannot start"):
        simulate(job(), Toward, data=FOUR | {"d": "no number"}, workers=2)


def test_what_cannot_be_sent_to_processes_is_refused() -> None:
    class Local(Toward):
        """Pickle does not find it."""

    with pytest.raises(LearnerError, match="cannot be sent to other processes"):
        simulate(job(), Local, data=FOUR, workers=2)


def test_a_script_without_a_guard_is_told_of_it(tmp_path: Path) -> None:
    """Processes import the script, which would begin the simulation again in each of them."""
    script = tmp_path / "script.py"
    script.write_text(
        "from fedelta_server.simulation import simulate\n"
        "from tests.server.simulation.learners import Toward\n"
        f"simulate({job()!r}, Toward, data={FOUR!r}, workers=2)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert 'below `if __name__ == "__main__":`' in done.stderr.splitlines()[-1]


def test_an_interrupt_ends_it_with_what_was_reached() -> None:
    with pytest.raises(SimulationInterrupted) as caught:
        simulate(job(b="interrupt"), Toward, data=FOUR)
    assert [made.number for made in caught.value.history.versions] == [0, 1]

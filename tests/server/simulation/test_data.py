"""Where simulated clients get their names and their data."""

from pathlib import Path
from typing import Any

import pytest

from fedelta.errors import ConfigError, LearnerError
from fedelta_server.simulation import simulate
from tests.server.simulation.learners import Toward, number

NUMBER = "tests.server.simulation.learners:number"


def found(data: Any, clients: int | None = None) -> dict[str, float]:
    """The numbers that clients trained with, by name."""
    job = {
        "job": {"name": "data", "seed": 3},
        "model": {"init": "first-client"},
        "rounds": {"max": 1},
        "evaluate": {"every": 0},
    }
    history = simulate(job, Toward, data=data, clients=clients)
    return {part.client: part.metrics["target"] for part in history.rounds[0].clients}


def shards(folder: Path, **numbers: float) -> Path:
    folder.mkdir()
    for name, value in numbers.items():
        (folder / f"{name}.txt").write_text(str(value))
    return folder


def test_a_directory_has_an_entry_for_each_client(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards", b=2, a=1, c=3)
    (folder / ".hidden").touch()
    assert found(folder) == {"a": 1, "b": 2, "c": 3}
    assert found(str(folder), clients=2) == {"a": 1, "b": 2}


def test_a_template_has_each_clients_index_or_name(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards", **{"0": 5, "1": 6, "client-0": 7, "client-1": 8})
    assert found(f"{folder}/{{index}}.txt", clients=2) == {"client-0": 5, "client-1": 6}
    assert found(f"{folder}/{{client}}.txt", clients=2) == {"client-0": 7, "client-1": 8}


@pytest.mark.parametrize("data", [number, NUMBER])
def test_a_function_makes_data(data: Any) -> None:
    assert found(data, clients=2) == {"client-0": 320, "client-1": 321}


def test_values_are_data() -> None:
    assert found([4.0, 5.0]) == {"client-0": 4, "client-1": 5}
    assert found({"x": 4.0, "y": 5.0}) == {"x": 4, "y": 5}


@pytest.mark.parametrize(
    ("data", "clients", "words"),
    [
        ("{folder}", 4, "has 3 entries; 4 clients"),
        ("{folder}/{{index}}.txt", 2, "no .*0.txt"),
        ("{folder}/{{site}}.txt", 2, "{index} and {client}"),
        ("{folder}/none", 2, "no such directory"),
        (NUMBER, None, "--clients N"),
        (f"{NUMBER}s", 2, "has no attribute 'numbers'"),
        ("nowhere:number", 2, "No module named 'nowhere'"),
        ("tests.server.simulation.learners:__doc__", 2, "no function"),
        ([1.0, 2.0], 3, "has 2 entries; 3 clients"),
        ({"a b": 1.0}, None, "'a b' is not a client name"),
    ],
)
def test_wrong_data_is_refused(tmp_path: Path, data: Any, clients: int | None, words: str) -> None:
    folder = shards(tmp_path / "shards", b=2, a=1, c=3)
    with pytest.raises(ConfigError, match=words):
        found(data.format(folder=folder) if isinstance(data, str) else data, clients)


def test_names_differ_without_their_suffixes(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards", a=1)
    (folder / "a.csv").touch()
    with pytest.raises(ConfigError, match="two entries give the client name 'a'"):
        found(folder)


def test_data_that_cannot_be_read_names_the_client(tmp_path: Path) -> None:
    folder = shards(tmp_path / "shards", a=1)
    (folder / "b.txt").write_text("no number")
    with pytest.raises(LearnerError, match="client 'b' cannot start: ValueError"):
        found(folder)

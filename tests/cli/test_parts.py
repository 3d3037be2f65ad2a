"""`fedelta parts`: what is installed, in words and for programs."""

import json

import pytest

from fedelta.parts import SLOTS, known
from tests.cli.test_commands import fedelta


def test_every_part_is_listed_with_what_it_does() -> None:
    rows = [line.split(maxsplit=2) for line in fedelta("parts", "list").stdout.splitlines()[1:]]
    assert [(slot, name) for slot, name, _ in rows] == [
        (slot.name, name) for slot in SLOTS.values() for name in known(slot)
    ]
    named = {(slot, name): rest for slot, name, rest in rows}
    assert named["selector", "uniform"].startswith("(default)")
    assert "FedAvg (McMahan et al. 2017, algorithm 1)" in named["aggregator", "mean"]


def test_the_parts_for_one_slot_are_listed() -> None:
    found = json.loads(fedelta("parts", "list", "stop", "--json").stdout)
    assert {each["slot"] for each in found} == {"stop"}
    assert {each["name"] for each in found} >= {"bytes", "convergence", "patience", "target", "time"}


def test_a_part_is_shown_with_its_parameters() -> None:
    shown = fedelta("parts", "show", "selector", "poisson").stdout
    assert shown.startswith("selector poisson, from fedelta ")
    assert "Each ready client by itself" in shown
    assert "rate  number  at least 0.001, at most 1  required  The chance of each client in each round." in shown


def test_parameters_that_are_inherited_are_shown_with_their_meaning() -> None:
    (found,) = json.loads(fedelta("parts", "show", "server_optimizer", "sgd", "--json").stdout)
    parameters = {each["key"]: each for each in found["parameters"]}
    assert parameters["lr"]["meaning"] == "The learning rate."
    assert parameters["schedule"]["type"] == "table"


def test_a_name_without_a_slot_shows_all_parts_of_that_name() -> None:
    found = json.loads(fedelta("parts", "show", "uniform", "--json").stdout)
    assert [each["slot"] for each in found] == ["selector", "aggregator"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("list", "selectors"), "there is no slot 'selectors'; did you mean 'selector'?"),
        (("show", "selector", "uniforn"), "selector.name = 'uniforn' is not known; did you mean 'uniform'?"),
        (("show", "power-of-choise"), "there is no part 'power-of-choise'; did you mean 'power-of-choice'?"),
    ],
)
def test_an_unknown_name_names_the_nearest(words: tuple[str, ...], said: str) -> None:
    result = fedelta("parts", *words)
    assert (result.exit_code, result.stderr) == (2, f"error: {said}\n")

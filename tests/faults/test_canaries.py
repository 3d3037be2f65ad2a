"""The suite sees what it is there for: each wrong fold of the same updates gives another model."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.faults.learners import NAMES
from tests.faults.reference import Given, Reference

Updates = dict[str, Given]


def dropped(updates: Updates) -> Updates:
    return {name: given for name, given in updates.items() if name != "c"}


def doubled(updates: Updates) -> Updates:
    return {**updates, "c again": updates["c"]}


def reordered(updates: Updates) -> Updates:
    """The same sum with its terms in another order; the fold goes by name."""
    return dict(zip(NAMES, (updates[name] for name in ("a", "c", "b", "d")), strict=True))


def weights_swapped(updates: Updates) -> Updates:
    c, d = updates["c"], updates["d"]
    return {**updates, "c": replace(c, weight=d.weight), "d": replace(d, weight=c.weight)}


def of_another_round(updates: Updates) -> Updates:
    """A client's update of the round before once more."""
    return {**updates, "d": replace(updates["d"], update=updates["d"].update.with_name("d.1.update"))}


@pytest.mark.parametrize("wrong", [dropped, doubled, reordered, weights_swapped, of_another_round])
def test_a_wrong_fold_changes_the_digest(tmp_path: Path, wrong: Callable[[Updates], Updates]) -> None:
    assert _second_version(tmp_path / "wrong", wrong) != _second_version(tmp_path / "right", dict)


def test_the_same_fold_gives_the_same_digest(tmp_path: Path) -> None:
    assert _second_version(tmp_path / "one", dict) == _second_version(tmp_path / "other", dict)


def _second_version(folder: Path, changed: Callable[[Updates], Updates]) -> bytes:
    made = Reference(folder)
    made.fold(made.train(NAMES))
    return made.fold(changed(made.train(NAMES)))

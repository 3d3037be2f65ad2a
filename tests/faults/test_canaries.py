"""The suite sees what it is there for: a fold that is wrong by one update gives another model, and is told."""

from collections import Counter
from pathlib import Path

import pytest

from tests.faults.catalog import Fault
from tests.faults.journal import JobRecords, Version
from tests.faults.learners import NAMES
from tests.faults.plans import Hit, Plan, carry_out, lost, repeated
from tests.faults.reference import Reference, References
from tests.faults.resident import resident
from tests.faults.wrong import WRONG, Updates

UPDATES = tuple(f"job.1.1.train.{name}" for name in NAMES)


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_fold_changes_the_digest(tmp_path: Path, wrong: str) -> None:
    right = _second_version(tmp_path / "right")
    assert _second_version(tmp_path / "again") == right
    assert _second_version(tmp_path / "wrong", wrong) != right


def _second_version(folder: Path, wrong: str = "") -> bytes:
    made = Reference(folder)
    made.fold(made.train(NAMES))
    updates: Updates = made.train(NAMES)
    return made.fold(WRONG[wrong](updates) if wrong else updates)


def test_a_coordinator_that_folds_wrongly_is_found_out(tmp_path: Path) -> None:
    hits = [_sabotage(wrong, round_) for round_, wrong in enumerate(WRONG, 1)]
    with resident(tmp_path / "federation") as federation:
        for number, hit in enumerate(hits):
            result = carry_out(Plan(f"canary{number}", (hit,)), federation, References(tmp_path / str(number)))
            assert result.missed == []
            assert f"version {hit.round}" in result.different


def _sabotage(wrong: str, round_: int) -> Hit:
    fault = Fault(kind="wrong", whom="coordinator", point="before fold", act=wrong, match=("updates/{job}/{round}.",))
    return Hit(fault, round_, "a")


def test_an_update_that_is_in_no_version_is_lost() -> None:
    assert lost(_records(accepted=UPDATES, folded=UPDATES), UPDATES) == []
    assert lost(_records(accepted=UPDATES, folded=UPDATES[1:]), ()) == [UPDATES[0]]
    assert lost(_records(accepted=UPDATES[1:], folded=UPDATES[1:]), UPDATES) == [UPDATES[0]]


def test_what_happens_twice_is_repeated() -> None:
    calm, once = Plan("job", ()), Counter({(1, name): 1 for name in NAMES})
    records = _records(accepted=UPDATES, folded=UPDATES)
    assert repeated(records, calm, once) == []
    assert repeated(_records(accepted=(*UPDATES, UPDATES[0]), folded=UPDATES), calm, once) == [UPDATES[0]]
    assert repeated(_records(accepted=UPDATES, folded=(*UPDATES, UPDATES[0])), calm, once) == [UPDATES[0]]
    assert repeated(records, calm, once + Counter({(1, "b"): 1})) == ["training of (1, 'b')"]


def _records(*, accepted: tuple[str, ...], folded: tuple[str, ...]) -> JobRecords:
    return JobRecords(versions=(Version(0, 0, b"", ()),), accepted=accepted, closed=(1,), folded=folded)

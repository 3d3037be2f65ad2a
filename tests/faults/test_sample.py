"""A sample of the faults on a resident federation; `make faults` has them all."""

from collections.abc import Iterable
from pathlib import Path

import pytest

from tests.faults.plans import Plan, asynchronous, carry_out, changing, plans, sample
from tests.faults.reference import References
from tests.faults.resident import resident
from tests.faults.table import Table

FAULTS = 20
SEED = 5


@pytest.mark.timeout(240)
def test_no_fault_loses_repeats_or_changes_an_acknowledged_update(tmp_path: Path) -> None:
    table = _carried_out(tmp_path, [Plan("calm", ()), *plans(sample(FAULTS, SEED), SEED)])
    assert table.injected.total() == FAULTS


def test_whoever_is_in_a_version_it_is_the_fold_of_their_updates(tmp_path: Path) -> None:
    table = _carried_out(tmp_path, [plan for plan in changing() if plan.name == "deadline1"])
    assert table.injected["trainer hung"] == 2


def test_asynchronous_versions_are_the_folds_of_the_updates_in_their_recorded_order(tmp_path: Path) -> None:
    table = _carried_out(tmp_path, [plan for plan in asynchronous() if plan.name == "buffered2"])
    assert table.injected["coordinator killed"] == 4


def _carried_out(folder: Path, wanted: Iterable[Plan]) -> Table:
    """The table of plans of which none did harm."""
    table, references = Table(), References(folder / "references")
    with resident(folder / "federation") as federation:
        for plan in wanted:
            result = carry_out(plan, federation, references)
            assert result.good, str(result)
            table.add(result)
    return table

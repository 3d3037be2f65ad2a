"""A sample of the faults on a resident federation; `make faults` has them all."""

from pathlib import Path

import pytest

from tests.faults.plans import Plan, carry_out, plans, sample
from tests.faults.reference import References
from tests.faults.resident import resident
from tests.faults.table import Table

FAULTS = 20
SEED = 5


@pytest.mark.timeout(240)
def test_no_fault_loses_repeats_or_changes_an_acknowledged_update(tmp_path: Path) -> None:
    drawn = [Plan("calm", ()), *plans(sample(FAULTS, SEED), SEED)]
    table, references = Table(), References(tmp_path / "references")
    with resident(tmp_path / "federation") as federation:
        results = [carry_out(plan, federation, references) for plan in drawn]
    for result in results:
        table.add(result)
    assert [str(result) for result in results if not result.good] == []
    assert table.injected.total() == FAULTS

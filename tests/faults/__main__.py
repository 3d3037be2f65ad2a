"""`make faults`: a resident federation takes many faults, one after another, and a table says what came of them."""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

from fedelta.errors import FedeltaError
from tests.faults.catalog import CATALOG
from tests.faults.plans import asynchronous, carry_out, changing, drawn, plans
from tests.faults.power import cut, shoot
from tests.faults.reference import References
from tests.faults.resident import resident
from tests.faults.table import Table

FAULTS = 2 * len(CATALOG)
"""Each of them twice, besides the power cuts."""


def main() -> int:
    given = _arguments()
    folder = given.folder or Path(tempfile.mkdtemp(prefix="fedelta-faults-"))
    table = _carry_out(folder, given.count, given.seed)
    for line in table.lines():
        print(line)
    if given.json is not None:
        given.json.write_text(json.dumps({"seed": given.seed, **table.as_plain()}, indent=2) + "\n")
    if table.good and given.folder is None:
        shutil.rmtree(folder)
    else:
        print(f"logs and state are in {folder}")
    return 0 if table.good else 1


def _carry_out(folder: Path, count: int, seed: int) -> Table:
    table = Table()
    references = References(folder / "references")
    for keep_names in (False, True):
        _cut_power(folder / f"power-{keep_names}", table, keep_names=keep_names)
    with resident(folder / "federation") as federation:
        for plan in (*plans(drawn(count, seed), seed), *changing(), *asynchronous()):
            result = carry_out(plan, federation, references)
            table.add(result)
            if not result.good:
                print(f"FAILED {result}", flush=True)
    return table


def _cut_power(folder: Path, table: Table, *, keep_names: bool) -> None:
    photographer, model = shoot(folder, keep_names=keep_names)
    for photo in photographer.photos:
        try:
            cut([photo], model)
        except (AssertionError, FedeltaError) as error:
            print(f"FAILED power cut {photo.step}: {error}", flush=True)
            table.different += 1
        table.injected["power cut"] += 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make faults", description=__doc__)
    parser.add_argument("--count", type=int, default=FAULTS, help="how many faults, besides the power cuts")
    parser.add_argument("--seed", type=int, default=0, help="which order, and whom they hit")
    parser.add_argument("--folder", type=Path, help="where the federation lives; kept afterwards")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the table there, too")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())

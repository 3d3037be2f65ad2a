"""Published results, reproduced by simulation: tables and pictures.

python -m benchmarks.science                      # all of it, some minutes on two cores
python -m benchmarks.science --rounds 200         # FedProx's experiments in their published length
python -m benchmarks.science --only races         # one part
"""

import os

# Before numpy is imported: models are small, and every run has a core of its own.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import argparse
import multiprocessing
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TypeVar

from benchmarks.science import _figures, _tables, digits, fedprox, virtual_time

A = TypeVar("A")
B = TypeVar("B")


def main() -> None:
    """Computes what is wanted and writes `report.md` and its pictures."""
    wanted = _arguments()
    wanted.out.mkdir(parents=True, exist_ok=True)
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(wanted.processes, mp_context=spawn) as pool:
        chosen = PARTS if wanted.only is None else {wanted.only: PARTS[wanted.only]}
        sections = [part(pool, wanted) for part in chosen.values()]
    report = wanted.out / "report.md"
    report.write_text("\n\n".join(["# Published results, reproduced", *sections]) + "\n", encoding="utf-8")
    print(f"\n{report.read_text(encoding='utf-8')}\nwritten to {report}, with its pictures beside it")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.science", description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/science"), help="folder of the report")
    parser.add_argument("--rounds", type=int, default=100, help="rounds of FedProx's experiments")
    parser.add_argument("--seed", type=int, default=1, help="which draw of FedProx's data")
    parser.add_argument("--seeds", type=int, default=3, help="how many seeds of everything else")
    parser.add_argument("--processes", type=int, default=os.cpu_count(), help="runs at a time")
    parser.add_argument("--only", choices=list(PARTS), help="compute one part")
    return parser.parse_args()


def _fedprox(pool: ProcessPoolExecutor, wanted: argparse.Namespace) -> str:
    curves = _all(pool, fedprox.compute, fedprox.runs(wanted.rounds, wanted.seed))
    _figures.draw_fedprox(curves, wanted.out / "fedprox.png")
    return (
        "## FedAvg and FedProx with stragglers\n\n"
        f"Synthetic(alpha, beta), draw {wanted.seed}, {wanted.rounds} rounds; means of the last quarter of them.\n\n"
        f"{_tables.of_fedprox(curves)}\n\n![Training loss by round](fedprox.png)"
    )


def _races(pool: ProcessPoolExecutor, wanted: argparse.Namespace) -> str:
    finishes = _all(pool, virtual_time.compute, virtual_time.races(range(wanted.seeds)))
    _figures.draw_races(finishes, wanted.out / "races.png")
    return (
        "## Asynchronous and synchronous rounds in virtual time\n\n"
        f"Digits, {virtual_time.CLIENTS} clients, of which {virtual_time.CONCURRENCY} train at any time; delays "
        f"|N(0, 1)|. Time until the accuracy is {virtual_time.TARGET:.0%}: medians of {wanted.seeds} seeds, least and "
        f"greatest.\n\n"
        f"{_tables.of_races(finishes)}\n\n![Accuracy by virtual time](races.png)"
    )


def _digits(pool: ProcessPoolExecutor, wanted: argparse.Namespace) -> str:
    deals = list(digits.deals(range(wanted.seeds)))
    curves = dict(zip(deals, _all(pool, digits.compute, deals), strict=True))
    _figures.draw_digits(curves, wanted.out / "digits.png")
    return (
        "## Digits\n\n"
        f"FedAvg, {digits.CLIENTS} clients, 5 epochs, batches of 16, learning rate 0.1; means of {wanted.seeds} "
        f"seeds.\n\n"
        f"{_tables.of_digits(curves)}\n\n![Accuracy by round](digits.png)"
    )


PARTS = {"fedprox": _fedprox, "races": _races, "digits": _digits}


def _all(pool: ProcessPoolExecutor, compute: Callable[[A], B], each: Iterable[A]) -> list[B]:
    """All results in order, told as they come."""
    found = []
    for run, result in zip(given := list(each), pool.map(compute, given), strict=True):
        print(f"done: {run}", flush=True)
        found.append(result)
    return found


if __name__ == "__main__":
    main()

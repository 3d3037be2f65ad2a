"""The tables of the report, in Markdown."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, median

from benchmarks.science import digits, fedprox, virtual_time
from benchmarks.science._figures import TITLES
from benchmarks.science.digits import Deal


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def of_fedprox(curves: Sequence[fedprox.Curve]) -> str:
    """Loss and accuracy at the end of each pair of runs."""
    pairs: dict[tuple[str, float], dict[bool, fedprox.Curve]] = {}
    for curve in curves:
        pairs.setdefault((curve.run.variant.name, curve.run.share), {})[curve.run.mu > 0] = curve
    head = ["data", "stragglers", "FedAvg: loss", "accuracy", f"FedProx, mu = {fedprox.MU:g}: loss", "accuracy"]
    return table(
        head,
        (
            [TITLES[name], f"{share:.0%}", *_ends(pair[False]), *_ends(pair[True])]
            for (name, share), pair in pairs.items()
        ),
    )


def _ends(curve: fedprox.Curve) -> list[str]:
    return [f"{curve.late_mean(curve.losses):.3f}", f"{curve.late_mean(curve.accuracies):.3f}"]


def of_races(finishes: Sequence[virtual_time.Finish]) -> str:
    """Medians over seeds, and how many times as long each plan took as the asynchronous one."""
    by_plan = {plan: [each for each in finishes if each.race.plan == plan] for plan in virtual_time.PLANS}
    times = {plan: median(each.time for each in found) for plan, found in by_plan.items()}
    fastest = times[virtual_time.ASYNCHRONOUS]
    return table(
        ["rounds", "virtual time", "times the asynchronous", "versions", "trainings"],
        (
            [
                plan,
                f"{times[plan]:.1f} ({min(each.time for each in found):.1f} to {max(each.time for each in found):.1f})",
                f"{times[plan] / fastest:.1f}",
                f"{median(each.versions for each in found):.0f}",
                f"{median(each.trainings for each in found):.0f}",
            ]
            for plan, found in by_plan.items()
        ),
    )


def of_digits(curves: Mapping[Deal, Sequence[float]]) -> str:
    """Means over seeds beside what was expected."""
    rows = []
    for alpha in digits.ALPHAS:
        found = [accuracies for deal, accuracies in curves.items() if deal.alpha == alpha]
        means = [fmean(each[number - 1] for each in found) for number in digits.SHOWN]
        name = "IID" if alpha is None else f"Dirichlet({alpha})"
        rows.append([name, *(f"{mean:.3f}" for mean in means)])
        rows.append([f"{name}, expected", *(f"{value:.3f}" for value in digits.EXPECTED[alpha])])
    return table(["split", *(f"round {number}" for number in digits.SHOWN)], rows)

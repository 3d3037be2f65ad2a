"""The pictures of the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from benchmarks.science import fedprox, virtual_time
from benchmarks.science.digits import CLIENTS, Deal

STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.25,
}

TITLES = {"iid": "IID", "0_0": "Synthetic(0, 0)", "0.5_0.5": "Synthetic(0.5, 0.5)", "1_1": "Synthetic(1, 1)"}


def draw_fedprox(curves: Sequence[fedprox.Curve], path: Path) -> None:
    """Training loss by round: a column for each variant of the data, a row for each share of stragglers."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(11, 7), dpi=110, layout="constrained")
        grid = figure.subplots(len(fedprox.SHARES), len(TITLES), sharex=True, squeeze=False)
        for curve in curves:
            row, column = fedprox.SHARES.index(curve.run.share), list(TITLES).index(curve.run.variant.name)
            color = "tab:blue" if curve.run.mu else "tab:orange"
            grid[row][column].plot(
                range(1, len(curve.losses) + 1), curve.losses, label=curve.run.algorithm, color=color, linewidth=1.2
            )
        for row, share in enumerate(fedprox.SHARES):
            grid[row][0].set_ylabel(f"{share:.0%} stragglers\ntraining loss")
        for column, title in enumerate(TITLES.values()):
            grid[0][column].set_title(title)
            grid[-1][column].set_xlabel("round")
        for axes in grid.flat:
            axes.set_ylim(bottom=0)
        grid[0][0].legend(frameon=False)
        figure.savefig(path)


def draw_races(finishes: Sequence[virtual_time.Finish], path: Path) -> None:
    """Accuracy against virtual time, a line for each plan and seed."""
    colors = dict(zip(virtual_time.PLANS, ("tab:orange", "tab:green", "tab:blue"), strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
        axes = figure.subplots()
        for finish in finishes:
            label = finish.race.plan if finish.race.seed == 0 else None
            axes.plot(*zip(*finish.curve, strict=True), color=colors[finish.race.plan], label=label, linewidth=1.2)
        axes.axhline(virtual_time.TARGET, color="0.45", linestyle="--", linewidth=1)
        axes.set(xlabel="virtual time (mean training: 0.8)", ylabel="test accuracy")
        _as_percent(axes)
        axes.legend(frameon=False, loc="lower right")
        figure.savefig(path)


def draw_digits(curves: Mapping[Deal, Sequence[float]], path: Path) -> None:
    """Accuracy by round, a line for each split and seed."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(8, 3.6), dpi=110, layout="constrained")
        axes = figure.subplots()
        for deal, accuracies in curves.items():
            split = "IID" if deal.alpha is None else f"Dirichlet({deal.alpha})"
            color = "tab:blue" if deal.alpha is None else "tab:orange"
            label = split if deal.seed == 0 else None
            axes.plot(range(1, len(accuracies) + 1), accuracies, color=color, label=label, linewidth=1.2)
        axes.set(xlabel="round", ylabel="test accuracy", title=f"Digits, {CLIENTS} clients", ylim=(0.5, 1))
        _as_percent(axes)
        axes.legend(frameon=False, loc="lower right")
        figure.savefig(path)


def _as_percent(axes: Axes) -> None:
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))

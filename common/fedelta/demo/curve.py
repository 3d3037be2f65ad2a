"""The learning curve as a picture."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter


def draw_curve(path: Path, title: str, accuracies: Sequence[float], losses: Sequence[float], pooled: float) -> None:
    """Writes a PNG: accuracy and loss on the test data after each round, beside what pooled data gives."""
    rounds = range(1, len(accuracies) + 1)
    with mpl.rc_context({"axes.spines.top": False, "axes.spines.right": False, "font.size": 10}):
        figure = Figure(figsize=(9, 3.6), dpi=150, layout="constrained")
        left, right = figure.subplots(1, 2)
        left.axhline(pooled, color="0.45", linestyle="--", linewidth=1)
        left.annotate(f"pooled data {pooled:.1%}", (1, pooled), xytext=(0, 4), textcoords="offset points", color="0.35")
        left.plot(rounds, accuracies, marker="o", markersize=4, color="tab:blue")
        left.annotate(
            f"{accuracies[-1]:.1%}",
            (len(accuracies), accuracies[-1]),
            xytext=(0, -14),
            textcoords="offset points",
            ha="right",
            color="tab:blue",
        )
        left.set(title="Test accuracy", xlabel="round", ylim=(min(0.5, *accuracies), 1.02))
        left.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        right.plot(rounds, losses, marker="o", markersize=4, color="tab:orange")
        right.set(title="Test loss", xlabel="round", ylim=(0, None))
        for axes in (left, right):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.grid(alpha=0.25)
        figure.suptitle(title, fontsize=11)
        figure.savefig(path)

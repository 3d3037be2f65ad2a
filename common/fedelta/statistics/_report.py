"""Summaries as plain values, and as files."""

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fedelta.statistics._summary import Summary

Summaries = Mapping[str, Summary]

SUFFIXES = (".json", ".csv")


def plain(summaries: Summaries) -> dict[str, dict[str, Any]]:
    """By column what is known of it, for JSON and for a job's [train] table: what is not known is left out."""
    return {column: _plain(summary) for column, summary in summaries.items()}


def _plain(summary: Summary) -> dict[str, Any]:
    found = {key: value for key, value in asdict(summary).items() if value not in (None, {})}
    if summary.quantiles:
        found["quantiles"] = {str(level): value for level, value in summary.quantiles.items()}
    return found


def table(summaries: Summaries) -> tuple[list[str], list[list[Any]]]:
    """Titles and rows: one row for each column of the data, without histograms. None is what is not known."""
    levels = sorted({level for summary in summaries.values() for level in summary.quantiles})
    some = {key for summary in summaries.values() for key, value in asdict(summary).items() if value is not None}
    kinds = ["count", "missing", "mean", "variance", "deviation", *(k for k in ("minimum", "maximum") if k in some)]
    rows = [
        [column, *(getattr(summary, kind) for kind in kinds), *(summary.quantiles.get(level) for level in levels)]
        for column, summary in summaries.items()
    ]
    return ["column", *kinds, *(f"quantile {level}" for level in levels)], rows


def write(summaries: Summaries, path: Path, kind: str) -> None:
    """Writes a file of this kind (one of `SUFFIXES`): JSON has everything, CSV the table without histograms."""
    if kind == ".json":
        path.write_text(json.dumps(plain(summaries), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    else:
        titles, rows = table(summaries)
        _write_csv(path, [titles, *rows])


def _write_csv(path: Path, rows: Iterable[Iterable[Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)

"""`fedelta stats`: ask all sites for statistics of their data, and look at the result."""

import csv
import itertools
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fedelta.cli._complete import job_argument
from fedelta.cli._options import connect, json_option, plain_option, server_options
from fedelta.cli._output import print_json, print_table
from fedelta.cli.job import wait_for
from fedelta.errors import ConfigError

if TYPE_CHECKING:
    from fedelta.admin import AdminClient
    from fedelta.statistics import Histogram, Summary

FILE = click.Path(path_type=Path, dir_okay=False)


@click.group()
def stats() -> None:
    """Statistics over the data of all sites, of which only counts and sums leave each site.

    \b
      fedelta stats submit --min-clients 3 --out stats.json
      fedelta stats submit --min-clients 3 --columns age,bmi --histogram age=0:100:10
      fedelta stats show statistics-1
    """


def _names(_context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]) -> tuple[str, ...]:
    """Names between commas; one that holds a comma stands in double quotes."""
    return tuple(name.strip() for row in csv.reader(given, skipinitialspace=True) for name in row)


def _levels(_context: click.Context, _parameter: click.Parameter, given: str | None) -> tuple[float, ...]:
    return _numbers(given, "0.25,0.5,0.75") if given is not None else ()


def _histograms(
    _context: click.Context, _parameter: click.Parameter, given: tuple[str, ...]
) -> Mapping[str, tuple[float, ...]]:
    """The edges by column, from COLUMN=LOW:HIGH:BINS or COLUMN=EDGE,EDGE,..."""
    return dict(map(_histogram, given))


def _histogram(given: str) -> tuple[str, tuple[float, ...]]:
    column, _, bins = given.rpartition("=")
    if not column:
        raise click.BadParameter(f"{given!r} names no column; say for example age=0:100:10 or age=0,18,65,120")
    if ":" not in bins:
        return column, _numbers(bins, "age=0,18,65,120")
    try:
        low, high, count = (kind(part) for kind, part in zip((float, float, int), bins.split(":"), strict=True))
    except ValueError:
        raise click.BadParameter(f"{given!r}: say COLUMN=LOW:HIGH:BINS, for example age=0:100:10") from None
    if not 1 <= count <= 10_000:
        raise click.BadParameter(f"{given!r}: there can be 1 to 10000 bins")
    return column, (*(low + (high - low) * each / count for each in range(count)), high)


def _numbers(given: str, example: str) -> tuple[float, ...]:
    try:
        return tuple(map(float, given.split(",")))
    except ValueError:
        raise click.BadParameter(f"{given!r}: say numbers between commas, for example {example}") from None


@stats.command()
@click.option(
    "--min-clients",
    "clients",
    required=True,
    type=click.IntRange(1, 1_000_000),
    metavar="N",
    help="How many sites there are: the job waits for so many, and needs an answer of each.",
)
@click.option("--columns", multiple=True, callback=_names, metavar="NAME,...", help="Absent: all that are numeric.")
@click.option(
    "--histogram",
    "edges",
    multiple=True,
    callback=_histograms,
    metavar="COLUMN=LOW:HIGH:BINS|EDGE,...",
    help="Count the values of a column in bins.",
)
@click.option("--quantiles", callback=_levels, metavar="0.5,...", help="Find these quantiles. They are single values!")
@click.option("--range", "ends", is_flag=True, help="Find minimum and maximum. They are single values!")
@click.option("--precise", is_flag=True, help="A second round for variances without cancellation.")
@click.option("--name", default="statistics", show_default=True, help="Of the job.")
@click.option("--label", "labels", multiple=True, metavar="KEY[=VALUE]", help="Only clients with this label.")
@click.option("--print-job", is_flag=True, help="Print the job file, and do nothing else.")
@click.option("--wait/--no-wait", default=True, help="Wait for the result, or print the job's id alone.")
@click.option("--out", type=FILE, help="Write the result: .json with everything, or .csv.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@plain_option
@server_options
def submit(server: str, print_job: bool, wait: bool, out: Path | None, force: bool, plain: bool, **asked: Any) -> None:
    """Ask the sites that offer the learner "statistics", and print what all of them say together.

    Counts, means and deviations take one round; quantiles and range take eight, and tell values of single rows.
    A site with fewer than 5 rows refuses. The job is an ordinary one: see --print-job.

    \b
    What training needs of it, for example to standardize:
      fedelta job submit hospitals.toml --set train.statistics=@stats.json
    """
    text = _job_file(**asked)
    if print_job:
        click.echo(text, nl=False)
        return
    if out is not None:
        if not wait:
            raise click.UsageError("--out needs the result; wait for it, or say `fedelta stats show ID --out` later")
        _check_out(out, force)
    with connect(server) as admin:
        job_id = admin.submit_text(text, source=f"{asked['name']}.toml")
        if not wait:
            click.echo(f"submitted {job_id}")
            return
        code = wait_for(admin, job_id, plain)
        if code:
            click.get_current_context().exit(code)
        found = _result(admin, job_id)
    _print(found)
    _save(found, out, force)


def _job_file(
    name: str, clients: int, labels: tuple[str, ...], edges: Mapping[str, tuple[float, ...]], ends: bool, **asked: Any
) -> str:
    from fedelta.config import parse_job
    from fedelta.statistics import Request, job_file

    request = Request.of({**asked, "edges": edges, "range": ends})
    text = job_file(request, name=name, clients=clients, labels=labels)
    parse_job(text, "the job")
    return text


def _check_out(out: Path, force: bool) -> None:
    """Before the sites work for nothing."""
    from fedelta.statistics import SUFFIXES

    if out.suffix not in SUFFIXES:
        raise ConfigError(f"--out {out}: the name must end in {' or '.join(SUFFIXES)}")
    if out.exists() and not force:
        raise ConfigError(f"{out} exists already; it is overwritten only with --force")
    if not out.absolute().parent.is_dir():
        raise ConfigError(f"--out {out}: there is no directory {out.absolute().parent}")


@stats.command()
@job_argument
@click.option("--out", type=FILE, help="Write the result: .json with everything, or .csv.")
@click.option("--force", is_flag=True, help="Overwrite the file.")
@json_option
@server_options
def show(job_id: str, server: str, as_json: bool, out: Path | None, force: bool) -> None:
    """Show what a statistics job found, from its newest model."""
    from fedelta.statistics import plain

    if out is not None:
        _check_out(out, force)
    with connect(server) as admin:
        found = _result(admin, job_id)
    if as_json:
        print_json(plain(found))
    else:
        _print(found)
    _save(found, out, force)


def _result(admin: "AdminClient", job_id: str) -> "Mapping[str, Summary]":
    from fedelta.statistics import summarize

    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "model.safetensors")
        admin.download_model(job_id, model)
        return summarize(model)


def _save(found: "Mapping[str, Summary]", out: Path | None, force: bool) -> None:
    from fedelta._files import replaced
    from fedelta.statistics import write

    if out is not None:
        with replaced(out, overwrite=force) as part:
            write(found, part, out.suffix)
        click.echo(f"written to {out}", err=True)


def _print(found: "Mapping[str, Summary]") -> None:
    from fedelta.statistics import table

    titles, rows = table(found)
    print_table(titles, (list(map(_cell, row)) for row in rows), "nothing was summed up")
    for column, summary in found.items():
        if summary.histogram is not None:
            click.echo()
            print_table((column, "count"), _bins(summary.histogram), "")
    inexact = [column for column, summary in found.items() if not summary.exact]
    if inexact:
        click.echo(f"deviations far smaller than the mean have lost digits; ask with --precise: {', '.join(inexact)}")


def _cell(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _bins(histogram: "Histogram") -> Iterator[tuple[str, str]]:
    edges = [f"{edge:.6g}" for edge in histogram.edges]
    yield f"below {edges[0]}", str(histogram.below)
    for (low, high), count in zip(itertools.pairwise(edges), histogram.counts, strict=True):
        yield f"{low} to {high}", str(count)
    yield f"above {edges[-1]}", str(histogram.above)

"""`fedelta job`: submit, list, show, watch, stop, pause, resume, extend and evaluate jobs."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from fedelta._words import plural
from fedelta.cli._complete import job_argument
from fedelta.cli._config import print_layers, print_options
from fedelta.cli._exit import ExitCode
from fedelta.cli._options import connect, json_option, plain_option, server_options
from fedelta.cli._output import print_json, print_table
from fedelta.cli._submission import submission
from fedelta.cli._version_name import VersionName

if TYPE_CHECKING:
    from fedelta.admin import AdminClient, JobInfo, JobState
    from fedelta.config import Version


@click.group()
def job() -> None:
    """Submit jobs, look at them, steer them.

    \b
      fedelta job submit digits.toml --wait
      fedelta job show digits-1
    """


@job.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--wait", is_flag=True, help="Follow the job until it ends.")
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change a value of the file; may be given several times. @FILE: what a .json or .toml file holds.",
)
@print_options
@plain_option
@server_options
def submit(
    file: Path,
    server: str,
    wait: bool,
    plain: bool,
    assignments: tuple[str, ...],
    print_config: bool,
    as_json: bool,
) -> None:
    """Submit the job file FILE; the last word printed is the job's id.

    The file is checked here first, and an initial model that it names is uploaded. Variables change values of the
    file, too (FEDELTA_JOB_ROUNDS_MAX=5), and --set is stronger.

    \b
    Examples:
      fedelta job submit digits.toml --wait
      fedelta job submit digits.toml --set rounds.max=5 --set train.lr=0.05

    \b
    With --wait the exit code says how it ended:
      0 finished, 1 stopped or failed, 3 paused.
    A terminal shows it live; elsewhere, or with --plain, it is one line for each event.
    Ctrl-C ends the waiting, not the job.
    """
    found = submission(file, assignments, os.environ)
    if print_config:
        print_layers(found.layers, found.spec, as_json=as_json)
        return
    with connect(server) as admin:
        job_id = admin.submit_text(found.text, source=str(file), directory=file.parent)
        click.echo(f"submitted {job_id}")
        if wait:
            click.get_current_context().exit(wait_for(admin, job_id, plain))


@job.command()
def schema() -> None:
    """Print the JSON schema of job files, for editors that complete and check them.

    \b
      fedelta job schema > job.schema.json
    and, as the first line of a job file:
      #:schema ./job.schema.json
    """
    from fedelta.parts import job_schema

    print_json(job_schema())


def wait_for(admin: "AdminClient", job_id: str, plain: bool) -> int:
    """Follows a job until it ends or pauses, and says how; returns the exit code that says it, too."""
    from fedelta.cli._follow import follow

    try:
        state = follow(admin, job_id, until_paused=True, plain=plain)
    except KeyboardInterrupt:
        click.echo(
            f"\nthe job goes on; to follow it: fedelta job watch {job_id} --server {admin.server}\n"
            f"to end it: fedelta job stop {job_id} --server {admin.server}",
            err=True,
        )
        raise
    click.echo(_ending(admin.get(job_id)))
    return _exit_code(state)


def _ending(info: "JobInfo") -> str:
    """How a job ended; its id is the last word."""
    from fedelta.cli._show import results

    why = f" ({info.reason})" if info.reason else ""
    last = next(filter(None, (results(info, closed.number) for closed in reversed(info.rounds))), "")
    return f"{info.state} after {plural(info.rounds_done, 'round')}{f', {last}' if last else ''}{why}: {info.id}"


def _exit_code(state: "JobState") -> int:
    from fedelta.admin import JobState

    return {JobState.FINISHED: ExitCode.DONE, JobState.PAUSED: ExitCode.PAUSED}.get(state, ExitCode.FAILED)


@job.command("list")
@json_option
@server_options
def list_jobs(server: str, as_json: bool) -> None:
    """List all jobs, oldest first."""
    from fedelta.cli._show import LIST_COLUMNS, list_row

    with connect(server) as admin:
        found = admin.list()
    if as_json:
        print_json([_plain(info) for info in found])
        return
    print_table(LIST_COLUMNS, map(list_row, found), "there are no jobs")


def _plain(info: "JobInfo") -> dict[str, object]:
    """What `--json` shows of a job: all but the job file."""
    found: dict[str, object] = msgspec.to_builtins(info)
    del found["toml"]
    return found


@job.command()
@job_argument
@json_option
@server_options
def show(job_id: str, server: str, as_json: bool) -> None:
    """Show a job and its rounds."""
    from fedelta.cli._show import job_lines

    with connect(server) as admin:
        info = admin.get(job_id)
    if as_json:
        print_json(_plain(info))
        return
    for line in job_lines(info):
        click.echo(line)


@job.command()
@job_argument
@json_option
@plain_option
@server_options
def watch(job_id: str, server: str, as_json: bool, plain: bool) -> None:
    """Follow a job from its beginning until it ends. With --json: one event a line.

    It waits out a restart of the coordinator. The exit code says how the job ended: 0 finished, else 1.
    """
    from fedelta.cli._follow import follow

    with connect(server) as admin:
        if as_json:
            for event in admin.watch(job_id):
                kind = type(event.what).__name__
                click.echo(msgspec.json.encode({"kind": kind} | msgspec.to_builtins(event)).decode())
            state = admin.get(job_id).state
        else:
            state = follow(admin, job_id, until_paused=False, plain=plain)
    click.get_current_context().exit(_exit_code(state))


@job.command()
@job_argument
@click.option("--reason", default="", help="Why, for the record.")
@server_options
def stop(job_id: str, server: str, reason: str) -> None:
    """End a job now. The model versions it made are kept."""
    with connect(server) as admin:
        admin.stop(job_id, reason)
    click.echo(f"stopped {job_id}")


@job.command()
@job_argument
@click.option("--reason", default="", help="Why, for the record.")
@server_options
def pause(job_id: str, server: str, reason: str) -> None:
    """Let the open round finish and open no further one."""
    with connect(server) as admin:
        admin.pause(job_id, reason)
    click.echo(f"paused {job_id}")


@job.command()
@job_argument
@server_options
def resume(job_id: str, server: str) -> None:
    """Go on with a paused job."""
    with connect(server) as admin:
        admin.resume(job_id)
    click.echo(f"resumed {job_id}")


@job.command()
@job_argument
@click.option("--rounds", type=click.IntRange(min=1), metavar="N", help="So many rounds more than it has now.")
@click.option("--to", type=click.IntRange(min=1), metavar="N", help="So many rounds in all.")
@server_options
def extend(job_id: str, rounds: int | None, to: int | None, server: str) -> None:
    """Give a job another number of rounds; a finished one goes on.

    \b
    Examples:
      fedelta job extend digits-1 --rounds 10
      fedelta job extend digits-1 --to 30

    A job that was stopped stays stopped; start another one from its model with init = "job:ID@latest".
    """
    if (rounds is None) == (to is None):
        raise click.UsageError("say either --rounds N, for so many more, or --to N, for so many in all")
    with connect(server) as admin:
        wanted = to if to is not None else admin.get(job_id).rounds_max + (rounds or 0)
        admin.extend(job_id, wanted)
    click.echo(f"{job_id} runs {plural(wanted, 'round')} in all")


@job.command()
@job_argument
@click.option(
    "--version",
    "versions",
    type=VersionName(),
    multiple=True,
    default=("latest",),
    show_default="latest",
    help="A version: a number (0: the initial one), best or latest; may be given several times.",
)
@click.option("--metric", metavar="NAME", help="What to show.  [default: accuracy, or loss, or what there is]")
@click.option("--wait/--no-wait", default=True, help="Wait for the results and show them.  [default: wait]")
@json_option
@server_options
def evaluate(
    job_id: str, versions: "tuple[Version, ...]", metric: str | None, wait: bool, as_json: bool, server: str
) -> None:
    """Have every client evaluate versions of a job on its own data, and show who measured what.

    \b
    Examples:
      fedelta job evaluate digits-1 --version best --version latest
      fedelta job evaluate digits-1 --version 1 --version 5 --version 10 --metric loss

    The job may have ended. The results take the place of earlier ones of the same versions in `fedelta job show`.
    """
    from fedelta.cli._cross_site import chosen_metric, columns, rows

    with connect(server) as admin:
        begun = admin.evaluate(job_id, versions)
        which = ("version " if len(begun.versions) == 1 else "versions ") + ", ".join(map(str, begun.versions))
        click.echo(f"evaluating {which} of {job_id}", err=as_json)
        found = sorted(admin.evaluated(job_id, begun), key=lambda each: each.version) if wait else []
    if not wait:
        return
    if as_json:
        print_json(found)
        return
    shown = chosen_metric(found, metric)
    print_table(columns(found, shown), rows(found, shown), "")

"""`fedelta verify` and `fedelta disk`: what can be said of a coordinator's state without asking the coordinator."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from fedelta._words import plural, size
from fedelta.cli._exit import ExitCode
from fedelta.cli._options import json_option
from fedelta.cli._output import print_json, print_table

if TYPE_CHECKING:
    from fedelta_server.audit import Absence, JobReport, VersionReport

_state = click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    envvar="FEDELTA_SERVER_STATE",
    required=True,
    show_envvar=True,
    help="The coordinator's directory. It may be running.",
)


@click.command()
@click.argument("job_id", metavar="JOB")
@_state
@click.option("--without", "site", metavar="SITE", help="Also: what the model would be without this site's updates.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --without: write that model to this file.",
)
@json_option
@click.pass_context
def verify(context: click.Context, job_id: str, state: Path, site: str | None, out: Path | None, as_json: bool) -> None:
    """Check a job's versions against what was recorded of them, and recompute those whose updates are kept.

    \b
    Examples:
      fedelta verify digits-1 --state ./coordinator
      fedelta verify digits-1 --state ./coordinator --without site-3 --out without.safetensors

    Exit code 1: something differs from what was recorded.
    """
    if out is not None and site is None:
        raise click.UsageError("--out goes with --without")
    from fedelta_server.audit import Audit, JobReport, Verdict, Without

    with Audit.of(state, job_id) as audit:
        versions = []
        for version in audit.versions():
            versions.append(version)
            if not as_json:
                _tell_version(version)
        report = JobReport(job=job_id, journal=audit.chain.findings, versions=tuple(versions))
        absence = None
        if site is not None:
            recomputed = [each.version for each in versions if each.verdict is Verdict.RECOMPUTED]
            absence = Without(audit, recomputed, site).compute(out)
    if as_json:
        print_json({"job": job_id, "journal": report.journal, "versions": report.versions, "without": absence})
    else:
        _tell(report, absence, out)
    context.exit(ExitCode.FAILED if report.findings else ExitCode.DONE)


def _tell_version(version: "VersionReport") -> None:
    details = [*map(str, version.findings), *version.unchecked]
    click.echo(f"version {version.version}  {version.verdict}" + (f"  {'; '.join(details)}" if details else ""))


def _tell(report: "JobReport", absence: "Absence | None", out: Path | None) -> None:
    for finding in report.journal:
        click.echo(f"broken: {finding}")
    if report.findings:
        click.echo(f"{report.job}: the first link that breaks is {report.findings[0]}")
    else:
        click.echo(f"{report.job}: {_summary(report)}")
    if absence is not None:
        _tell_absence(absence, out)


def _summary(report: "JobReport") -> str:
    from fedelta_server.audit import Verdict

    recomputed = sum(each.verdict is Verdict.RECOMPUTED for each in report.versions)
    return (
        f"{recomputed} of {plural(len(report.versions), 'version')} recomputed; "
        f"of the other {len(report.versions) - recomputed} all digests and links that are there fit"
    )


def _tell_absence(absence: "Absence", out: Path | None) -> None:
    click.echo()
    rows = [
        (
            str(each.round),
            f"{each.weight} of {each.total_weight}",
            f"{each.change:.1%}" if each.others else f"{each.change:.1%}, nobody else took part",
        )
        for each in absence.rounds
    ]
    print_table(("round", f"examples of {absence.site}", "the round's step changes by"), rows, "no rounds")
    newest = absence.rounds[-1].round
    click.echo(
        f"version {newest} from the others' updates alone, from version {absence.base} on: {absence.digest}; "
        f"{absence.change:.1%} of the way from version {absence.base} to version {newest} changes"
    )
    if absence.base or len(absence.rounds) > 1:
        click.echo(
            f"The others trained from models that {absence.site} had a part in: "
            "this is not what training without it would have given."
        )
    if out is not None:
        click.echo(f"written to {out}")


@click.command()
@_state
@json_option
def disk(state: Path, as_json: bool) -> None:
    """Show what a coordinator's directory takes of the disk.

    \b
    Example:
      fedelta disk --state ./coordinator
    """
    from fedelta_server.store.usage import usage

    found = usage(state)
    if as_json:
        print_json(found)
        return
    rows = [(each.kind, str(each.files), size(each.bytes)) for each in found]
    total = sum(each.bytes for each in found)
    print_table(("kind", "files", "size"), [*rows, ("all", str(sum(each.files for each in found)), size(total))], "")

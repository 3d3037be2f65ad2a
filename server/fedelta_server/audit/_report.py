"""What an audit says."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """What is known of a version."""

    RECOMPUTED = "recomputed"
    """Every digest and link fits, and its updates, folded again, give the same bytes."""
    CHECKED = "checked"
    """Every digest and link that is there fits; it was not recomputed, for the reasons that are given."""
    BROKEN = "broken"
    """Something differs from what was recorded."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """A link of the chain that does not hold."""

    link: str
    """What it is, for example "update of site-2 in round 3"."""
    what: str
    """What differs."""

    def __str__(self) -> str:
        return f"{self.link}: {self.what}"


@dataclass(frozen=True, kw_only=True)
class VersionReport:
    """What was found of one version."""

    version: int
    digest: str
    verdict: Verdict
    findings: tuple[Finding, ...] = ()
    unchecked: tuple[str, ...] = ()
    """What could not be checked, and why."""


@dataclass(frozen=True, kw_only=True)
class JobReport:
    """What was found of a job."""

    job: str
    journal: tuple[Finding, ...]
    """Records that were changed or removed."""
    versions: tuple[VersionReport, ...]

    @property
    def findings(self) -> list[Finding]:
        """All links that do not hold, from the first to the last."""
        return [*self.journal, *(finding for version in self.versions for finding in version.findings)]

"""Checking what a coordinator made, and recomputing it, from its state directory alone."""

from fedelta_server.audit._report import Finding, JobReport, Verdict, VersionReport
from fedelta_server.audit._verify import Audit
from fedelta_server.audit._without import Absence, RoundWithout, Without

__all__ = ["Absence", "Audit", "Finding", "JobReport", "RoundWithout", "Verdict", "VersionReport", "Without"]

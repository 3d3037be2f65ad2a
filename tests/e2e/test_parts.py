"""A part of somebody else's package works by name; what cannot work is refused, or pauses its job and nothing else."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from fedelta.admin import AdminClient, JobState, StateChanged
from fedelta.demo.processes import Federation, federation
from fedelta.errors import ConfigError
from tests.e2e.running import ENVIRONMENT, SITES, fedelta, finish, job, start

ONE = {"b": SITES["b"]}
TWO = {"a": SITES["a"], **ONE}

PACKAGE = '''\
"""Rules of one."""

from dataclasses import dataclass
from typing import ClassVar

from fedelta.parts import Needs, Weighted


@dataclass(frozen=True, kw_only=True)
class Dictator:
    """The update of one client, whatever the others send."""

    client: str
    """Whose."""
    needs: ClassVar[Needs] = Needs.SUM
    measures: ClassVar[frozenset] = frozenset()
    facts: ClassVar[frozenset] = frozenset()
    least: ClassVar[int] = 1

    def rule(self, updates, measured):
        return Weighted(factors=tuple(float(name == self.client) for name in updates.clients))
'''

METADATA = "Metadata-Version: 2.1\nName: outsider\nVersion: 1.2.3\n"

ENTRY_POINTS = "[fedelta.aggregators]\ndictator = outsider:Dictator\nbroken = outsider:Nobody\n"

DICTATED = '\n[aggregator]\nname = "dictator"\nclient = "b"\n'


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """What `pip install --target` of such a package leaves."""
    site = tmp_path / "site-packages"
    info = site / "outsider-1.2.3.dist-info"
    info.mkdir(parents=True)
    (site / "outsider.py").write_text(PACKAGE)
    (info / "METADATA").write_text(METADATA)
    (info / "entry_points.txt").write_text(ENTRY_POINTS)
    return site


@pytest.fixture
def equipped(package: Path, tmp_path: Path) -> Iterator[Federation]:
    """A federation whose coordinator has the package."""
    with federation(tmp_path, {"PYTHONPATH": os.pathsep.join((ENVIRONMENT["PYTHONPATH"], str(package)))}) as found:
        yield found


def test_its_aggregator_works_by_name(equipped: Federation, tmp_path: Path) -> None:
    start(equipped, tuple(TWO))
    with AdminClient(equipped.server) as admin:
        info = finish(admin, admin.submit_text(job(sites=TWO, max=1) + DICTATED))
        assert info.state is JobState.FINISHED, info.reason
        models = [tmp_path / f"{version}.safetensors" for version in (0, 1)]
        for version, path in enumerate(models):
            admin.download_model(info.id, path, version=version)
    before, after = map(load_file, models)
    # `learners:Steps` goes a quarter of the way to the target of its site.
    dictated = before["weight"] + 0.25 * (SITES["b"][1] - before["weight"])
    np.testing.assert_allclose(after["weight"], dictated, atol=1e-6)


def test_it_is_described_like_any_other(package: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENVIRONMENT, "PYTHONPATH", os.pathsep.join((ENVIRONMENT["PYTHONPATH"], str(package))))
    listed = {(each["slot"], each["name"]): each for each in json.loads(fedelta("parts", "list", "--json").stdout)}
    found = listed["aggregator", "dictator"]
    assert found["package"] == "outsider 1.2.3"
    assert found["summary"] == "The update of one client, whatever the others send."
    assert found["parameters"] == [
        {"key": "client", "type": "text", "range": "", "default": "required", "meaning": "Whose."}
    ]
    shown = fedelta("parts", "show", "dictator").stdout
    assert "aggregator dictator, from outsider 1.2.3 (outsider:Dictator)" in shown
    # One that does not load takes nothing else with it.
    assert "cannot be loaded" in listed["aggregator", "broken"]["summary"]
    assert ("aggregator", "mean") in listed


def test_a_plan_that_cannot_work_is_refused_when_it_is_submitted(running: Federation, tmp_path: Path) -> None:
    running.start_coordinator()
    file = tmp_path / "job.toml"
    file.write_text(job(sites=TWO) + '\n[aggregator]\nname = "krum"\nbyzantine = 1\n')
    refused = fedelta("job", "submit", file, "--server", running.server)
    assert refused.returncode == 2
    assert "aggregator 'krum' needs 5 updates" in refused.stderr
    assert "rounds.clients = 2; set it to 5 or more" in refused.stderr
    assert json.loads(fedelta("job", "list", "--server", running.server, "--json").stdout) == []


def test_without_its_package_a_job_pauses_and_the_daemon_starts(equipped: Federation, tmp_path: Path) -> None:
    equipped.start_coordinator()
    with AdminClient(equipped.server) as admin:
        job_id = admin.submit_text(job(sites=ONE, max=1) + DICTATED)
    assert equipped.coordinator is not None
    equipped.coordinator.stop()
    with federation(tmp_path, ENVIRONMENT) as bare:
        bare.start_coordinator()
        with AdminClient(bare.server) as admin:
            paused = admin.get(job_id)
            assert paused.state is JobState.PAUSED
            assert "aggregator.name = 'dictator' is not known" in paused.reason
            with pytest.raises(ConfigError, match=r"aggregator.name = 'dictator' is not known"):
                admin.resume(job_id)
    equipped.start_coordinator()
    start(equipped, tuple(ONE))
    with AdminClient(equipped.server) as admin:
        admin.resume(job_id)
        states = [event.what.state for event in admin.watch(job_id) if isinstance(event.what, StateChanged)]
        assert states[-1] is JobState.FINISHED

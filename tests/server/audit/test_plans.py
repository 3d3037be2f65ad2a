"""`fedelta verify` recomputes versions of every plan, with the state of its parts; older manifests as well."""

import asyncio
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from fedelta.cli._exit import ExitCode
from fedelta.tensors import UPDATE_METADATA
from fedelta.v1 import admin_pb2 as admin
from fedelta_server import folding
from fedelta_server.aggregate import fold
from fedelta_server.manifest import Manifest, encode
from fedelta_server.retention import Keep
from tests.server.audit.states import JOB, execute, flip, links, make, row, verdicts, verified, verify
from tests.server.rpc.harness import BIAS, WEIGHT, job_toml, running, tensor_file

ADAM = '[server_optimizer]\nname = "adam"\nlr = 0.1\nschedule = { name = "cosine", warm_up = 2 }\n'
SCAFFOLD = '[local]\nname = "scaffold"\n[server_optimizer]\nname = "sgd"\nmomentum = 0.5\n'
NOVA = '[aggregator]\nname = "fednova"\n'
MEDIAN = '[aggregator]\nname = "geometric-median"\n[server_optimizer]\nname = "yogi"\n'
KRUM = '[aggregator]\nname = "krum"\nbyzantine = 0\n'
PLANS = [ADAM, SCAFFOLD, NOVA, MEDIAN, KRUM]
ROUNDS = 4
SHORT = "max = 2\nclients = 1"
BUFFERED = "max = 3\nclients = 2\nbuffer = 2"


async def _run(state: Path, tables: str) -> None:
    """A job of three clients, whose updates differ in every tensor, in every round."""
    async with running(state, keep=Keep(updates=2)) as system:
        clients = [await system.joined(name) for name in "abc"]
        job_id = await system.submit(f"{job_toml(f'max = {ROUNDS}{chr(10)}clients = 3')}{tables}")
        for number in range(ROUNDS):
            for k, client in enumerate(clients):
                assignment = (await client.work()).id
                facts = {"steps": float(k + 2), "loss": 1.0 / (k + 1)}
                await client.push(assignment, _update(number, k, "scaffold" in tables), examples=k + 1, facts=facts)
        await system.watch(job_id)
        await system.settle()


def _update(number: int, client: int, shared: bool) -> bytes:
    rng = np.random.default_rng([number, client])
    prefixes = ("", "shared.control/") if shared else ("",)
    shapes = {"weight": WEIGHT.shape, "bias": BIAS.shape}
    tensors: dict[str, Any] = {
        f"{prefix}{name}": rng.standard_normal(shape).astype("f4")
        for prefix in prefixes
        for name, shape in shapes.items()
    }
    return tensor_file(UPDATE_METADATA, **tensors)


@pytest.fixture(scope="session", params=PLANS, ids=["adam", "scaffold", "fednova", "geometric-median", "krum"])
def planned(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    state = tmp_path_factory.mktemp("planned")
    asyncio.run(_run(state, request.param))
    return state, request.param


@pytest.fixture(scope="session")
def with_adam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("adam")
    asyncio.run(_run(state, ADAM))
    return state


@pytest.fixture
def adam(with_adam: Path, tmp_path: Path) -> Path:
    return shutil.copytree(with_adam, tmp_path / "state")


def _state(state: Path, version: int) -> Path:
    return state / "states" / JOB / f"{version}.safetensors"


def test_versions_of_every_plan_are_recomputed(planned: tuple[Path, str]) -> None:
    state, tables = planned
    code, report = verified(state)
    assert (code, links(report)) == (0, [])
    assert verdicts(report) == ["checked", "checked", "checked", "recomputed", "recomputed"]
    # The newest state, to go on from, and those that the two versions with kept updates start from.
    kept = sorted(int(path.stem) for path in (state / "states").rglob("*.safetensors"))
    assert kept == ([2, 3, 4] if "server_optimizer" in tables else [])


def test_a_manifest_says_what_the_plan_computed_with(planned: tuple[Path, str]) -> None:
    state, tables = planned
    found = json.loads((state / "manifests" / JOB / "4.json").read_bytes())
    before = json.loads((state / "manifests" / JOB / "3.json").read_bytes())
    assert (found["format"], found["rounds"], found["population"]) == (2, ROUNDS, 3)
    assert found["parent"]["state"] == (before["state"]["digest"] if before["state"] else "")
    assert (found["state"] is None) == ("server_optimizer" not in tables)
    assert [each["facts"] for each in found["updates"]] == (
        [{"steps": 2.0}, {"steps": 3.0}, {"steps": 4.0}] if "fednova" in tables else [{}] * 3
    )
    assert found["norm"] > 0


def test_a_job_without_a_site_is_computed_with_the_state_of_its_parts(planned: tuple[Path, str]) -> None:
    state, tables = planned
    if tables == KRUM:
        refused = verify(state, "--without", "c")
        assert refused.exit_code == ExitCode.REFUSED
        assert "without 'c' round 3 has 2 updates, and the job's aggregator needs 3" in refused.stderr
        return
    code, report = verified(state, "--without", "c")
    assert code == 0
    assert [(each["round"], each["others"]) for each in report["without"]["rounds"]] == [(3, 2), (4, 2)]
    assert all(each["change"] > 0 for each in report["without"]["rounds"])


def test_one_flipped_bit_in_a_state_file_names_that_file(adam: Path) -> None:
    flip(_state(adam, 3))
    code, report = verified(adam)
    assert (code, links(report)) == (1, ["state file of version 3"])
    # Version 3 was recomputed, and with it its state: those that come after it do not need the file.
    assert verdicts(report)[3:] == ["broken", "recomputed"]


def test_a_version_whose_parents_state_is_gone_is_not_called_recomputed(adam: Path) -> None:
    _state(adam, 2).unlink()
    code, report = verified(adam)
    assert (code, links(report)) == (0, [])
    assert verdicts(report)[3:] == ["checked", "recomputed"]
    assert report["versions"][3]["unchecked"] == ["not recomputed: the state of version 2 is not kept, or broken"]


def test_the_newest_state_must_be_there(adam: Path) -> None:
    _state(adam, 4).unlink()
    code, report = verified(adam)
    assert (code, links(report)) == (1, ["state file of version 4"])


def test_facts_that_were_changed_in_the_journal_do_not_fit_the_manifest(tmp_path: Path) -> None:
    asyncio.run(_run(tmp_path, NOVA))
    sequence, body = row(tmp_path, "ParticipationEnded", 3)
    assert b'"steps":2.0' in body
    execute(
        tmp_path,
        "UPDATE journal SET body = ? WHERE sequence = ?",
        body.replace(b'"steps":2.0', b'"steps":7.0'),
        sequence,
    )
    code, report = verified(tmp_path)
    assert code == 1
    assert "manifest of version 2, update of a" in links(report)


def _first_format(manifest: Manifest) -> bytes:
    """As fedelta wrote them before there were plans."""
    found = json.loads(encode(manifest))
    for new in ("state", "norm", "rounds", "population"):
        del found[new]
    del found["parent"]["state"]
    for update in found["updates"]:
        for new in ("facts", "staleness", "round", "attempt"):
            del update[new]
    return msgspec.json.encode({**found, "format": 1}, order="sorted") + b"\n"


def test_manifests_of_the_first_format_are_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "encode", _first_format)
    monkeypatch.setattr(folding, "fold", lambda *args, **named: replace(fold(*args, **named), norm=0.0))
    asyncio.run(make(tmp_path, Keep(updates=2)))
    assert re.search(rb'"format":1', (tmp_path / "manifests" / JOB / "3.json").read_bytes())
    code, report = verified(tmp_path)
    assert (code, links(report)) == (0, [])
    assert verdicts(report) == ["checked", "checked", "recomputed", "recomputed"]


async def _run_buffered(state: Path) -> None:
    """Two clients, of which one is so slow that its update is stale; the other is twice in a version."""
    async with running(state, keep=Keep(updates=9)) as system:
        fast, slow = [await system.joined(name) for name in ("z-fast", "a-slow")]
        job_id = await system.submit(f"{job_toml(BUFFERED)}{ADAM}")
        held = (await slow.work()).id
        for number in range(3):
            await fast.push((await fast.work()).id, _update(number, 0, False), examples=3)
        await slow.push(held, _update(3, 0, False), examples=5)
        for number, client in enumerate((fast, slow)):
            await client.push((await client.work()).id, _update(4, number, False), examples=2)
        await system.watch(job_id)
        await system.settle()


@pytest.fixture(scope="session")
def with_buffer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    state = tmp_path_factory.mktemp("buffered")
    asyncio.run(_run_buffered(state))
    return state


def test_versions_of_asynchronous_rounds_are_recomputed(with_buffer: Path, tmp_path: Path) -> None:
    state = shutil.copytree(with_buffer, tmp_path / "state")
    code, report = verified(state)
    assert (code, links(report)) == (0, [])
    assert verdicts(report) == ["checked", "recomputed", "recomputed", "recomputed"]
    folded = [
        json.loads((state / "manifests" / JOB / f"{number}.json").read_bytes())["updates"] for number in (1, 2, 3)
    ]
    assert [[(each["client"], each["staleness"]) for each in updates] for updates in folded][:2] == [
        [("z-fast", 0), ("z-fast", 0)],
        [("z-fast", 0), ("a-slow", 1)],
    ]
    # A stale update is named by the round that it was trained in.
    stale = folded[1][1]
    assert stale["round"] == 1
    flip(state / "updates" / JOB / f"{stale['round']}.{stale['attempt']}" / "a-slow.safetensors")
    code, report = verified(state)
    assert (code, links(report)) == (1, ["update of a-slow in round 1"])


def test_an_asynchronous_job_without_a_site(with_buffer: Path) -> None:
    code, report = verified(with_buffer, "--without", "a-slow")
    assert code == 0
    rounds = report["without"]["rounds"]
    assert [(each["round"], each["others"], each["weight"]) for each in rounds][:2] == [(1, 2, 0), (2, 1, 5)]
    assert rounds[0]["change"] == 0
    assert rounds[1]["change"] > 0


def test_the_schedule_of_an_extended_job_is_that_of_its_rounds_then(tmp_path: Path) -> None:
    """The job file says 2 rounds; versions 3 and 4 were made along the longer cosine."""

    async def scenario() -> None:
        async with running(tmp_path, keep=Keep(updates=4)) as system:
            client = await system.joined("a")
            job_id = await system.submit(f"{job_toml(SHORT)}{ADAM}")
            for number in range(4):
                if number == 2:
                    await system.watch(job_id)
                    await system.operator.ExtendJob(admin.ExtendJobRequest(job_id=job_id, rounds_max=4))
                await client.push((await client.work()).id, _update(number, 0, False))
            await system.watch(job_id)
            await system.settle()

    asyncio.run(scenario())
    code, report = verified(tmp_path)
    assert (code, links(report)) == (0, [])
    assert verdicts(report) == ["checked", *["recomputed"] * 4]

"""`fedelta client log`: what a client notes of what leaves the site, and how it is shown."""

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from blake3 import blake3
from click.testing import CliRunner, Result

from fedelta.errors import NotFiniteError
from fedelta.v1 import coordinator_pb2 as pb
from fedelta_client.cli import client as command
from fedelta_client.history import COLUMNS, follow_lines
from fedelta_client.ledger import Ledger, Parcel, Reader, Sending
from tests.client.fake import FakeCoordinator
from tests.client.jobs import model_file, train, update_file
from tests.client.process import started

UPDATE = Parcel(
    kind="update", job="digits-1", round=3, bytes=1000, digest="ab" * 32, norm=0.5, examples=10, metrics={"loss": 0.25}
)


def log(where: Path, *words: str) -> Result:
    return CliRunner().invoke(command, ["log", "--spool", str(where), *words])


def in_json(where: Path, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(log(where, "--json", *words).stdout)
    return found


def left(where: Path) -> list[dict[str, Any]]:
    return list(in_json(where)["left"])


def test_everything_that_leaves_a_site_is_in_its_log(tmp_path: Path) -> None:
    spool, update = tmp_path / "spool", update_file(0.5)

    async def scenario() -> None:
        options = ("--spool", str(spool), "--label", "site=north", "--label", "gpu")
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *options) as client:
            fake.assign(pb.ASSIGNMENT_KIND_INITIALIZE, round=0)
            await fake.update()
            fake.cut_push_at = [1]
            fake.keep_at_cut = 100_000
            train(fake, add=0.5, examples=11)
            trained, _ = await fake.update()
            fake.assign(pb.ASSIGNMENT_KIND_EVALUATE, model_file(), round=4)
            evaluated = await fake.next("ReportEvaluation")
            train(fake, do="raise")
            await fake.next("ReportFailure")
            client.signal(signal.SIGTERM)
            assert await client.exits() == 0

        shown = left(spool)
        assert [(each["kind"], each["round"], each["fate"]) for each in shown] == [
            ("registration", 0, "acknowledged"),
            ("model", 0, "acknowledged"),
            ("update", 2, "acknowledged"),
            ("evaluation", 4, "acknowledged"),
            ("failure", 4, "acknowledged"),
        ]
        assert {each["coordinator"] for each in shown} == {fake.address}
        registered, model, sent, evaluation, failure = shown
        assert registered["labels"] == {"site": "north", "gpu": ""}
        assert "client site-1, learners learners:Scripted" in registered["message"]
        assert (model["digest"], model["norm"]) == (blake3(model_file()).hexdigest(), None)
        assert (sent["digest"], sent["bytes"]) == (blake3(update).hexdigest(), len(update))
        assert sent["bytes_sent"] == fake.uploads[1].received + fake.uploads[2].received
        assert sent["norm"] == pytest.approx((0.5**2 * (300 * 400 + 4)) ** 0.5, rel=1e-3)
        assert (sent["examples"], sent["metrics"]) == (11, dict(trained.metrics))
        assert (evaluation["examples"], evaluation["metrics"]) == (9, dict(evaluated.metrics))
        assert failure["message"] == "ValueError: lr must be positive"
        fetched = in_json(spool)["fetched"]
        assert [(each["version"], each["bytes"]) for each in fetched] == [(0, len(model_file()))]

    asyncio.run(scenario())


def test_a_refused_update_is_in_the_log_and_so_is_one_whose_fate_nobody_knows(tmp_path: Path) -> None:
    spool = tmp_path / "spool"

    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, "--spool", str(spool)) as client:
            fake.refusals["PushUpdate"] = [NotFiniteError("tensor 'w' holds NaN")]
            train(fake)
            assert await client.says("refused the result")
            # The coordinator hears of this one, and the client never hears that it did.
            fake.hang_push = True
            train(fake)
            await fake.update()
            client.signal(signal.SIGKILL)
            await client.exits()
        _, refused, unknown = left(spool)
        assert (refused["fate"], refused["reason"]) == ("refused", "tensor 'w' holds NaN")
        assert (unknown["kind"], unknown["fate"], unknown["bytes_sent"]) == ("update", "unknown", unknown["bytes"])

    asyncio.run(scenario())


def test_the_numbers_of_a_learner_at_work_leave_the_site_too(tmp_path: Path) -> None:
    spool = tmp_path / "spool"

    async def scenario() -> None:
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, "--spool", str(spool)):
            assignment = train(fake, do="hang")
            renewal = await fake.next("RenewAssignment")
            while not renewal.progress.metrics:
                renewal = await fake.next("RenewAssignment")
            for _ in range(3):
                await fake.next("RenewAssignment")
            fake.cancel[assignment.id] = "enough"
            train(fake)
            await fake.update()

    asyncio.run(scenario())
    told = [each for each in left(spool) if each["kind"] == "progress"]
    # Told often, noted when it was new.
    assert [each["metrics"] for each in told] == [{"loss": 1.5}]
    assert "loss" not in log(spool).stdout
    assert "loss 1.5" in log(spool, "--all").stdout


def test_a_client_whose_ledger_cannot_be_written_does_not_begin(tmp_path: Path) -> None:
    (tmp_path / "spool" / "ledger.jsonl").mkdir(parents=True)

    async def scenario() -> None:
        options = ("--spool", str(tmp_path / "spool"))
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *options) as client:
            assert await client.exits() == 1
            assert "ledger.jsonl, which says what leaves this site, cannot be written" in client.said[-1]
            assert not fake.registered

    asyncio.run(scenario())


def test_a_ledger_that_cannot_be_written_any_more_ends_the_client_and_nothing_leaves(tmp_path: Path) -> None:
    async def scenario() -> None:
        options = ("--spool", str(tmp_path / "spool"))
        async with FakeCoordinator() as fake, started(fake.address, tmp_path, *options) as client:
            await client.says("connected")
            most = (tmp_path / "spool" / "ledger.jsonl").stat().st_size
            psutil.Process(client.process.pid).rlimit(psutil.RLIMIT_FSIZE, (most, most))
            fake.assign(pb.ASSIGNMENT_KIND_INITIALIZE)
            assert await client.exits() == 1
            assert "cannot be written: File too large. Nothing leaves without it" in client.said[-1]
            assert not fake.uploads

    asyncio.run(scenario())


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A ledger of two jobs."""
    with Ledger(tmp_path / "ledger.jsonl", "localhost:8470") as ledger:
        with ledger.sending(Parcel(kind="registration", bytes=50, message="client a", labels={"gpu": ""})):
            pass
        ledger.receive(job="digits-1", round=3, version=2, digest="cd" * 32, bytes=4_000_000)
        with ledger.sending(UPDATE):
            pass
        ledger.begin(Parcel(kind="update", job="faces-1", round=1, bytes=2000, digest="ef" * 32, norm=1.0, examples=7))
    return tmp_path


def test_the_log_is_a_table_with_sums(spool: Path) -> None:
    result = log(spool)
    assert result.exit_code == 0
    header, registration, fetched, update, other, total, total_fetched = result.stdout.splitlines()
    assert tuple(header.split()) == COLUMNS
    assert "registration" in registration
    assert "client a  gpu" in registration
    assert "digits-1  3      fetched model 2  4 MB   cdcdcdcdcdcd" in fetched
    assert "update           1 kB   abababababab  0.5   10        loss 0.25" in update
    assert update.endswith("acknowledged")
    assert other.endswith("unknown")
    assert total == "left the site: 1 registration, 2 updates; 3.05 kB"
    assert total_fetched == "fetched: 1 model; 4 MB"


def test_what_comes_of_a_plan_is_in_the_log(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.jsonl", "localhost:8470") as ledger:
        for shared in (False, True):
            ledger.receive(job="digits-1", round=3, version=2, digest="cd" * 32, bytes=4_000_000, shared=shared)
        with ledger.sending(msgspec.structs.replace(UPDATE, facts={"steps": 12.5})):
            pass
    _, model, state, update, _, fetched = log(tmp_path).stdout.splitlines()
    assert "fetched model 2" in model
    assert "fetched state 2" in state
    assert "loss 0.25" in update
    assert "steps 12.5" in update
    assert fetched == "fetched: 1 model, 1 state; 8 MB"


def test_the_log_of_one_job(spool: Path) -> None:
    lines = log(spool, "--job", "digits-1").stdout.splitlines()
    assert len(lines) == 5
    assert lines[-2:] == ["left the site: 1 update; 1 kB", "fetched: 1 model; 4 MB"]
    assert in_json(spool, "--job", "faces-1")["totals"] == {
        "left": {"update": 1},
        "bytes_sent": 2000,
        "fetched": 0,
        "bytes_fetched": 0,
    }
    assert log(spool, "--job", "none").stdout == "nothing has left this site, and nothing was fetched\n"


def test_lines_that_cannot_be_read_are_told(spool: Path) -> None:
    with (spool / "ledger.jsonl").open("ab") as file:
        file.write(b"junk\n")
    result = log(spool)
    assert result.stderr == "1 line of the ledger could not be read\n"
    assert "2 updates" in result.stdout


def test_followed_lines_say_what_leaves_and_what_became_of_it(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = follow_lines("digits-1", everything=False, as_json=False)
    for line in Reader(spool / "ledger.jsonl").lines():
        show(line)
    fetched, sent, fate = capsys.readouterr().out.splitlines()
    assert "fetched model 2" in fetched
    assert "digits-1  3  update  1 kB  abababababab  0.5  10  loss 0.25" in sent
    assert fate.endswith("digits-1  3  update  acknowledged")


def test_followed_json_is_the_ledger_itself(spool: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show = follow_lines(None, everything=False, as_json=True)
    for line in Reader(spool / "ledger.jsonl").lines():
        show(line)
    assert capsys.readouterr().out == (spool / "ledger.jsonl").read_text()


def test_hostile_text_does_not_reach_the_terminal(tmp_path: Path) -> None:
    with Ledger(tmp_path / "ledger.jsonl", "localhost:8470") as ledger:
        ledger.begin(Parcel(kind="failure", job="\x1b[2J", bytes=5, message="\x1b]0;x\x07"))
    assert all(line.isprintable() for line in log(tmp_path).stdout.splitlines())
    (line,) = Reader(tmp_path / "ledger.jsonl").lines()
    assert isinstance(line, Sending)
    assert line.job == "\x1b[2J"


def test_a_spool_that_is_not_there_is_told_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    result = CliRunner().invoke(command, ["log", "--name", "nobody"])
    assert result.exit_code == 2
    assert f"there is no spool of a client at {tmp_path}/fedelta/clients/nobody" in result.stderr
    assert "say --name or --spool, as client 'nobody' was started with" in result.stderr


def test_the_client_itself_still_needs_a_learner_and_sub_commands_do_not(spool: Path) -> None:
    result = CliRunner().invoke(command, [])
    assert result.exit_code == 2
    assert "learner" in result.stderr
    assert log(spool).exit_code == 0

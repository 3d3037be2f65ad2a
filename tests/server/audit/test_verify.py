"""`fedelta verify`: what was recorded is what is there, and whatever is not is named."""

import asyncio
import json
import shutil
import sqlite3
from base64 import b64encode
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from blake3 import blake3

from fedelta_server.aggregate import file_digest
from fedelta_server.audit import Audit, Verdict, _links
from fedelta_server.engine import records
from fedelta_server.retention import Keep
from fedelta_server.store._schema import link_of
from fedelta_server.store.journal import Journal
from tests.server.audit.states import (
    JOB,
    execute,
    flip,
    links,
    make,
    model_at,
    push,
    row,
    verdicts,
    verified,
    verify,
)
from tests.server.rpc.harness import digest_of, job_toml, run, running
from tests.server.store.test_migrations import SCHEMA_1


def model(state: Path, version: int) -> Path:
    return state / "models" / f"{digest_of(model_at(rounds=version)).hex()}.safetensors"


def manifest(state: Path, version: int) -> Path:
    return state / "manifests" / JOB / f"{version}.json"


def update(state: Path, round_: int, client: str) -> Path:
    return state / "updates" / JOB / f"{round_}.1" / f"{client}.safetensors"


def test_versions_with_kept_updates_are_recomputed_and_the_others_are_not_called_so(state: Path) -> None:
    code, report = verified(state)
    assert (code, links(report)) == (0, [])
    assert verdicts(report) == ["checked", "checked", "recomputed", "recomputed"]
    assert [version["unchecked"] for version in report["versions"]] == [
        ["nothing to recompute: the job starts from it"],
        ["not recomputed: its updates are not kept"],
        [],
        [],
    ]
    assert [version["digest"] for version in report["versions"]] == [
        digest_of(model_at(rounds=number)).hex() for number in range(4)
    ]


def test_the_words_say_what_was_not_recomputed(state: Path) -> None:
    result = verify(state)
    assert result.exit_code == 0
    assert "version 1  checked  not recomputed: its updates are not kept" in result.stdout
    assert "version 3  recomputed\n" in result.stdout
    assert "2 of 4 versions recomputed; of the other 2 all digests and links that are there fit" in result.stdout
    assert "ok" not in result.stdout.split()


def test_a_manifest_says_what_was_folded_and_names_the_one_before(state: Path) -> None:
    data = manifest(state, 2).read_bytes()
    found = json.loads(data)
    assert data == json.dumps(found, sort_keys=True, separators=(",", ":")).encode() + b"\n"
    assert found["parent"] == {
        "manifest": blake3(manifest(state, 1).read_bytes()).hexdigest(),
        "model": digest_of(model_at(rounds=1)).hex(),
        "state": "",
    }
    assert [(each["client"], each["weight"]) for each in found["updates"]] == [("a", 10), ("b", 30)]
    assert [each["digest"] for each in found["updates"]] == [
        blake3(update(state, 2, client).read_bytes()).hexdigest() for client in "ab"
    ]
    assert found["plan"] == blake3(job_toml("max = 3\nclients = 2").encode()).hexdigest()
    assert json.loads(manifest(state, 1).read_bytes())["parent"]["manifest"] == ""


def test_the_same_job_makes_the_same_manifests_elsewhere(state: Path, tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, Keep()))
    for version in (1, 2, 3):
        assert manifest(state, version).read_bytes() == manifest(tmp_path, version).read_bytes()


@pytest.mark.parametrize(
    ("which", "link"),
    [
        (lambda state: model(state, 0), "model file of version 0"),
        (lambda state: model(state, 1), "model file of version 1"),
        (lambda state: model(state, 3), "model file of version 3"),
        (lambda state: manifest(state, 1), "manifest of version 1"),
        (lambda state: manifest(state, 3), "manifest of version 3"),
        (lambda state: update(state, 2, "b"), "update of b in round 2"),
        (lambda state: update(state, 3, "a"), "update of a in round 3"),
    ],
)
def test_one_flipped_bit_in_a_file_names_that_file(state: Path, which: Callable[[Path], Path], link: str) -> None:
    flip(which(state))
    code, report = verified(state)
    assert (code, links(report)) == (1, [link])
    assert f"the first link that breaks is {link}: digest is " in verify(state).stdout


@pytest.mark.parametrize(
    ("which", "link"),
    [
        (lambda state: model(state, 2), "model file of version 2"),
        (lambda state: manifest(state, 2), "manifest of version 2"),
    ],
)
def test_a_file_that_is_missing_is_named(state: Path, which: Callable[[Path], Path], link: str) -> None:
    which(state).unlink()
    code, report = verified(state)
    assert (code, links(report)) == (1, [link])


def test_a_version_whose_file_is_broken_is_recomputed_for_those_after_it(state: Path) -> None:
    flip(model(state, 2))
    _, report = verified(state)
    assert verdicts(report) == ["checked", "checked", "broken", "recomputed"]


def test_a_version_whose_parent_is_broken_is_not_called_recomputed(state: Path) -> None:
    flip(model(state, 1))
    _, report = verified(state)
    assert verdicts(report) == ["checked", "broken", "checked", "recomputed"]
    assert report["versions"][2]["unchecked"] == [
        "not recomputed: the model of version 1 is not there or broken",
    ]


KINDS = ["JobSubmitted", "JobStateChanged", "PhaseOpened", "ParticipationEnded", "VersionMade", "RoundClosed"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [1, -8, -1])
def test_one_flipped_bit_in_a_record_names_that_record(state: Path, kind: str, at: int) -> None:
    sequence, body = row(state, kind)
    changed = bytearray(body)
    changed[at] ^= 1
    execute(state, "UPDATE journal SET body = ? WHERE sequence = ?", bytes(changed), sequence)
    code, report = verified(state)
    assert (code, links(report)[0]) == (1, f"journal record {sequence} ({kind})")


def test_a_journal_file_whose_table_and_index_disagree_is_named(state: Path) -> None:
    path = state / "journal.db"
    data = path.read_bytes()
    at = data.rindex(b'RoundClosed{"type"')
    flip(path, at)
    code, report = verified(state)
    assert (code, links(report)[0]) == (1, "journal file")


@pytest.mark.parametrize("column", ["body", "link", "unix_time"])
@pytest.mark.parametrize("value", [b"\xff\xfe", "text", 7])
def test_a_record_that_holds_anything_else_is_named(state: Path, column: str, value: object) -> None:
    sequence, _ = row(state, "PhaseOpened", 1)
    execute(state, f"UPDATE journal SET {column} = ? WHERE sequence = ?", value, sequence)
    code, report = verified(state)
    assert (code, links(report)[0]) == (1, f"journal record {sequence} (PhaseOpened)")


def test_a_record_that_was_removed_breaks_the_link_of_the_next(state: Path) -> None:
    sequence, _ = row(state, "PhaseOpened", 1)
    execute(state, "DELETE FROM journal WHERE sequence = ?", sequence)
    code, report = verified(state)
    assert (code, links(report)) == (1, [f"journal record {sequence + 1} (ParticipationEnded)"])


def test_a_record_that_was_filed_elsewhere_is_named(state: Path) -> None:
    sequence, _ = row(state, "PhaseOpened", 1)
    execute(state, "UPDATE journal SET kind = 'RoundFailed' WHERE sequence = ?", sequence)
    code, report = verified(state)
    assert (code, links(report)) == (1, [f"journal record {sequence} (RoundFailed)"])
    assert "is filed as RoundFailed of digits-1, but is PhaseOpened" in report["journal"][0]["what"]


def rewrite(state: Path, kind: str, number: int, old: bytes, new: bytes) -> None:
    """Changes a record, and all links after it so that they fit: somebody knows what they do."""
    sequence, body = row(state, kind, number)
    assert old in body
    execute(state, "UPDATE journal SET body = ? WHERE sequence = ?", body.replace(old, new), sequence)
    with closing(sqlite3.connect(state / "journal.db")) as db, db:
        before = bytes(32)
        rows = db.execute("SELECT sequence, unix_time, body FROM journal ORDER BY sequence").fetchall()
        for number, time, body in rows:
            before = link_of(before, time, body)
            db.execute("UPDATE journal SET link = ? WHERE sequence = ?", (before, number))


@pytest.mark.parametrize(
    ("kind", "number", "old", "new", "link", "what"),
    [
        (
            "ParticipationEnded",
            2,
            b'"examples":10',
            b'"examples":11',
            "manifest of version 2, update of a",
            "weight is 10, the journal says 11",
        ),
        ("VersionMade", 1, b'"attempt":1', b'"attempt":2', "journal of round 2", "folded clients is a, b, the journal"),
        ("JobSubmitted", 0, b"epochs = 2", b"epochs = 3", "manifest of version 1", "digest of the job file is "),
        ("RoundClosed", 1, b'"digest":"', b'"digest":"AAAA', "journal of round 2", "digest of the model is 000000"),
        ("VersionMade", 0, b'"version":1', b'"version":4', "journal of round 2", "there is no version 1 before it"),
    ],
)
def test_a_journal_that_was_rewritten_does_not_fit_the_manifests(
    state: Path, kind: str, number: int, old: bytes, new: bytes, link: str, what: str
) -> None:
    rewrite(state, kind, number, old, new)
    code, report = verified(state)
    found = [each for version in report["versions"] for each in version["findings"]]
    assert (code, report["journal"]) == (1, [])
    assert any(each["link"] == link and each["what"].startswith(what) for each in found)


def test_updates_that_give_another_model_are_found(state: Path) -> None:
    """Everything fits but what the updates make: the weights were changed wherever they are recorded."""
    rewrite(state, "ParticipationEnded", 4, b'"examples":10', b'"examples":11')
    data = manifest(state, 3).read_bytes()
    old = blake3(data).digest()
    manifest(state, 3).write_bytes(data.replace(b'"weight":10', b'"weight":11'))
    new = blake3(manifest(state, 3).read_bytes()).digest()
    rewrite(state, "VersionMade", 2, b64encode(old), b64encode(new))
    code, report = verified(state)
    assert (code, links(report)) == (1, ["version 3, recomputed from its updates"])


def test_pruned_versions_are_told_and_later_ones_recomputed_through_them(tmp_path: Path) -> None:
    asyncio.run(make(tmp_path, Keep(updates=3, versions=1)))
    code, report = verified(tmp_path)
    assert (code, links(report)) == (0, [])
    assert verdicts(report) == ["checked", "recomputed", "recomputed", "recomputed"]
    assert report["versions"][1]["unchecked"] == ["its model file was pruned"]
    assert not model(tmp_path, 1).exists()


def test_a_state_is_verified_beside_its_running_coordinator(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running(tmp_path, keep=Keep(updates=1)) as system:
            client = await system.joined("a")
            await system.submit(job_toml("max = 3\nclients = 1"))
            await push(client, 1.0, 10)
            await client.work()
            await system.settle()
            code, report = await asyncio.to_thread(verified, tmp_path)
            assert (code, verdicts(report)) == (0, ["checked", "recomputed"])

    run(scenario)


def test_a_version_that_is_pruned_under_the_readers_eyes_is_not_broken(state: Path) -> None:
    with Audit.of(state, JOB) as audit:
        with closing(Journal(f"sqlite:///{state / 'journal.db'}")) as journal:
            journal.append([records.VersionsPruned(job=JOB, versions=[1])]).result(10)
        model(state, 1).unlink()
        found = [(version.verdict, version.unchecked[:1]) for version in audit.versions()]
    assert found[1] == (Verdict.CHECKED, ("its model file was pruned",))


def test_an_update_that_is_overwritten_under_the_readers_eyes_is_not_broken(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overwritten(path: Path) -> bytes:
        digest = file_digest(path)
        if path == update(state, 3, "b"):
            path.unlink()
            return bytes(32)
        return digest

    monkeypatch.setattr(_links, "file_digest", overwritten)
    code, report = verified(state)
    assert (code, verdicts(report)[-1]) == (0, "checked")
    assert report["versions"][3]["unchecked"] == ["not recomputed: its updates are not kept"]


def test_a_state_whose_coordinator_was_killed_is_verified(made: Path, tmp_path: Path) -> None:
    """What was written last is in the write-ahead log only."""
    journal = Journal(f"sqlite:///{shutil.copytree(made, tmp_path / 'live') / 'journal.db'}")
    journal.append(list(journal.committed())[:1]).result(10)
    killed = shutil.copytree(tmp_path / "live", tmp_path / "killed")
    journal.close()
    assert (killed / "journal.db-wal").stat().st_size
    assert verified(killed)[0] == 0


def test_versions_without_a_manifest_are_checked_by_the_journal(state: Path) -> None:
    data = b64encode(blake3(manifest(state, 1).read_bytes()).digest())
    rewrite(state, "VersionMade", 0, b'"manifest":"' + data, b'"manifest":"')
    _, report = verified(state)
    assert "it has no manifest: an older fedelta made it" in report["versions"][1]["unchecked"]


@pytest.mark.parametrize("name", ["--out", "JOB"])
def test_a_wrong_command_line_says_what_helps(state: Path, name: str) -> None:
    if name == "--out":
        result = verify(state, "--out", state / "x")
        assert (result.exit_code, "--out goes with --without" in result.stderr) == (2, True)
    else:
        with closing(sqlite3.connect(state / "journal.db")) as db, db:
            db.execute("UPDATE journal SET job = 'other-1'")
        result = verify(state)
        assert result.exit_code == 5
        assert "there is no job 'digits-1' in this state; there are: other-1" in result.stderr


def test_a_directory_without_a_journal_is_refused(tmp_path: Path) -> None:
    result = verify(tmp_path)
    assert (result.exit_code, "there is no journal" in result.stderr) == (5, True)


def test_an_older_journal_is_left_alone(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db, db:
        db.executescript(SCHEMA_1)
        db.execute("INSERT INTO meta VALUES (1)")
    before = (tmp_path / "journal.db").read_bytes()
    result = verify(tmp_path)
    assert (result.exit_code, "its journal is of an older fedelta (schema 0001" in result.stderr) == (1, True)
    assert (tmp_path / "journal.db").read_bytes() == before


def test_a_newer_journal_is_refused(state: Path) -> None:
    execute(state, "UPDATE alembic_version SET version_num = '0099'")
    assert "newer version of fedelta (schema 0099" in verify(state).stderr

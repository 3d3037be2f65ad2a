"""The journal: what is told to be committed is on disk, in order, and enough to go on."""

import json
import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fedelta.errors import StorageError
from fedelta_server.engine import Engine, records
from fedelta_server.engine.words import JobState, Outcome, PhaseKind
from fedelta_server.store.journal import Journal

TOML = '[job]\nname = "digits"\nseed = 7\n[model]\ninit = "m.safetensors"\n[rounds]\nmax = 100\nclients = 1\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def journal(path: Path) -> Iterator[Journal]:
    with closing(_open(path)) as opened:
        yield opened


def _open(path: Path) -> Journal:
    return Journal(f"sqlite:///{path}")


def _submitted(job: str) -> records.Record:
    return records.JobSubmitted(job=job, toml=TOML, submitted_unix=1.5, digest=bytes(32), length=10)


def _state(job: str, reason: str, state: JobState = JobState.RUNNING) -> records.Record:
    return records.JobStateChanged(job=job, state=state, reason=reason)


def _round(job: str, number: int) -> list[records.Record]:
    """The records of a round of one client."""
    part = records.Participation(client="a", phase=PhaseKind.TRAIN, outcome=Outcome.ACCEPTED, examples=3)
    return [
        records.PhaseOpened(job=job, round=number, attempt=1, phase=PhaseKind.TRAIN, clients=["a"]),
        records.ParticipationEnded(job=job, round=number, attempt=1, participation=part, digest=b"u" * 32, length=5),
        records.VersionMade(job=job, version=number, digest=bytes([number]) * 32, length=10, attempt=1, clients=["a"]),
        records.RoundClosed(
            job=job,
            number=number,
            attempts=1,
            seconds=0.5,
            bytes_up=5,
            bytes_down=10,
            clients=[part],
            metrics={"accuracy": number / 100},
            train_metrics={},
            digest=bytes([number]) * 32,
        ),
    ]


def _gate(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> tuple[threading.Event, list[int]]:
    """Holds the writer until the event is set; the list gets the size of every transaction."""
    go, sizes, insert = threading.Event(), [], journal._insert

    def held(batch: list[records.Record]) -> StorageError | None:
        assert go.wait(10)
        sizes.append(len(batch))
        return insert(batch)

    monkeypatch.setattr(journal, "_insert", held)
    return go, sizes


def _fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Until `monkeypatch.undo` no record can be written."""

    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("database or disk is full")

    monkeypatch.setattr("fedelta_server.store.journal._row", fail)


def test_what_is_appended_is_there_after_a_restart(path: Path) -> None:
    written = [_submitted("digits-1"), _state("digits-1", "ünïcode"), *_round("digits-1", 1)]
    with closing(_open(path)) as journal:
        journal.append(written).result(10)
    with closing(_open(path)) as journal:
        entries = journal.entries("digits-1")
        assert [entry.record for entry in entries] == written
        assert [entry.sequence for entry in entries] == sorted({entry.sequence for entry in entries})
        assert all(entry.unix_time > 1_700_000_000 for entry in entries)


def test_committed_means_synced(journal: Journal) -> None:
    with journal._db.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "wal"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2  # FULL


def test_what_gathers_is_committed_together_and_in_order(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    go, sizes = _gate(journal, monkeypatch)
    done = [journal.append([_state("j", str(number))]) for number in range(100)]
    ended: list[Future[None]] = []
    for future in done:
        future.add_done_callback(ended.append)
    assert not any(future.done() for future in done)
    go.set()
    for future in done:
        future.result(10)
    journal.append([]).result(10)
    assert ended == done
    assert sum(sizes) == 100
    assert len(sizes) <= 4
    assert [entry.record for entry in journal.entries("j")] == [_state("j", str(number)) for number in range(100)]


def test_an_empty_append_is_done_after_those_before_it(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    go, _ = _gate(journal, monkeypatch)
    first, empty = journal.append([_state("j", "first")]), journal.append([])
    assert not empty.done()
    go.set()
    empty.result(10)
    assert first.done()
    assert len(journal.entries("j")) == 1


def test_after_a_failure_nothing_is_committed_until_recovery(journal: Journal, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append([_state("j", "before")]).result(10)
    _fill_disk(monkeypatch)
    _assert_failed(journal.append([_state("j", "failed")]))
    monkeypatch.undo()
    _assert_failed(journal.append([_state("j", "rests on what failed")]))
    _assert_failed(journal.append([]))
    journal.recover()
    journal.append([_state("j", "after")]).result(10)
    assert [entry.record for entry in journal.entries("j")] == [_state("j", "before"), _state("j", "after")]


def _assert_failed(done: "Future[None]") -> None:
    with pytest.raises(StorageError, match="disk is full"):
        done.result(10)


def test_entries_after_a_sequence_number(journal: Journal) -> None:
    journal.append([_submitted("digits-1"), _submitted("other-1"), *_round("digits-1", 1)]).result(10)
    entries = journal.entries("digits-1")
    assert journal.entries("digits-1", after=entries[1].sequence) == entries[2:]
    assert journal.entries("digits-1", after=entries[-1].sequence) == []
    assert journal.entries("nothing-1") == []


def test_rounds_and_evaluations_of_a_job(journal: Journal) -> None:
    one, two = _round("digits-1", 1), _round("digits-1", 2)
    evaluated = records.EvaluationClosed(job="digits-1", version=1, attempt=1, seconds=1.0, clients=[], metrics={})
    journal.append([_submitted("digits-1"), *one, *two, evaluated]).result(10)
    journal.append([_submitted("other-1"), *_round("other-1", 1)]).result(10)
    (first, _), *_, (last, _) = found = journal.closed("digits-1")
    assert [closed for _, closed in found] == [one[-1], two[-1], evaluated]
    assert [closed for _, closed in journal.closed("digits-1", after=first)] == [two[-1], evaluated]
    assert journal.closed("digits-1", after=last) == []
    assert [closed.job for _, closed in journal.closed("other-1")] == ["other-1"]


def test_the_last_sequence_number_of_a_job(journal: Journal) -> None:
    journal.append([_submitted("digits-1"), *_round("digits-1", 1), _submitted("other-1")]).result(10)
    assert journal.last_sequence("digits-1") == journal.entries("digits-1")[-1].sequence
    assert journal.last_sequence("nothing-1") == 0


def test_a_long_job_is_rebuilt_from_its_outline_and_its_open_round(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "ENDINGS_KEPT", 12)
    finished = [record for number in range(1, 41) for record in _round("digits-1", number)]
    opened = records.PhaseOpened(job="digits-1", round=41, attempt=1, phase=PhaseKind.TRAIN, clients=["a", "b"])
    journal.append([_submitted("digits-1"), _state("digits-1", ""), *finished]).result(10)
    journal.append([_submitted("other-1"), *_round("other-1", 1)[:2]]).result(10)
    journal.append([opened]).result(10)

    committed = list(journal.committed())
    kinds = [type(record) for record in committed if record.job == "digits-1"]
    assert kinds.count(records.PhaseOpened) == 1
    assert kinds.count(records.ParticipationEnded) == 2, "of the last 12 records of all jobs"
    assert [record for record in committed if isinstance(record, records.PhaseOpened)][-1] == opened

    rebuilt, whole = Engine(committed), Engine([*_all(journal, "digits-1"), *_all(journal, "other-1")])
    job, same = rebuilt.book.job("digits-1"), whole.book.job("digits-1")
    assert (job.rounds_done, job.attempts, job.state, job.model) == (40, 1, JobState.RUNNING, same.model)
    assert [each.id for each in job.open_assignments()] == [each.id for each in same.open_assignments()]
    assert rebuilt.book.job("other-1").round == whole.book.job("other-1").round


@pytest.mark.parametrize("reach", [1, 3, 40])
def test_what_was_opened_before_the_last_closed_round_and_is_still_open_is_there(journal: Journal, reach: int) -> None:
    since = 40 - reach
    opened = records.PhaseOpened(
        job="digits-1", round=since, attempt=1, phase=PhaseKind.EVALUATE, clients=["a", "b"], requested=True
    )
    done = records.Participation(client="a", phase=PhaseKind.EVALUATE, outcome=Outcome.ACCEPTED, examples=3)
    ended = records.ParticipationEnded(job="digits-1", round=since, attempt=1, participation=done)
    rounds = [_round("digits-1", number) for number in range(1, 41)]
    rounds[-1][-1] = msgspec.structs.replace(rounds[-1][-1], reach=reach)
    before, after = rounds[:since], rounds[since:]
    journal.append([_submitted("digits-1"), *(record for each in before for record in each), opened]).result(10)
    journal.append([*after[0], ended, *(record for each in after[1:] for record in each)]).result(10)
    journal.append([_submitted("other-1"), *_round("other-1", 1), *_round("other-1", 2)]).result(10)

    committed = list(journal.committed())
    job, whole = Engine(committed).book.job("digits-1"), Engine(_all(journal, "digits-1")).book.job("digits-1")
    assert job == whole
    assert [(each.version, list(each.phase.open)) for each in job.evaluations.values()] == [(since, ["b"])]
    trained = [each for each in committed if isinstance(each, records.PhaseOpened) and each.phase is PhaseKind.TRAIN]
    assert [each.round for each in trained if each.job == "digits-1"] == list(range(since + 1, 41))
    assert not [each for each in trained if each.job == "other-1"]


def _all(journal: Journal, job: str) -> list[records.Record]:
    return [entry.record for entry in journal.entries(job)]


def test_extensions_and_turns_outlive_the_rounds_before_them(journal: Journal) -> None:
    first, last = _round("digits-1", 1), _round("digits-1", 2)
    counted = [msgspec.structs.replace(last[-1], turns=8.0, level=4.0)]
    journal.append([_submitted("digits-1"), *first]).result(10)
    journal.append([records.JobExtended(job="digits-1", rounds_max=500), *last[:-1], *counted]).result(10)
    job = Engine(journal.committed()).book.job("digits-1")
    assert (job.rounds_max, job.turns, job.level) == (500, 8.0, 4.0)


def test_a_journal_that_was_written_before_some_fields_were_added_is_read(path: Path) -> None:
    part = '{"client":"a","phase":"train","outcome":"accepted"}'
    round_ = '"seconds":1.5,"bytes_up":1,"bytes_down":1,"clients":[],"metrics":{},"train_metrics":{},"digest":"AQ=="'
    before = {
        "JobSubmitted": f'"toml":{json.dumps(TOML)},"submitted_unix":1.5,"digest":"AA==","length":10',
        "JobStateChanged": '"state":"running"',
        "PhaseOpened": '"round":1,"attempt":1,"phase":"train","clients":["a"]',
        "ParticipationEnded": f'"round":1,"attempt":1,"participation":{part},"digest":"AQ==","length":5',
        "VersionMade": '"version":1,"digest":"AQ==","length":10',
        "RoundClosed": f'"number":1,"attempts":1,{round_}',
        "RoundFailed": '"round":2,"attempt":1,"reason":"nobody came"',
    }
    opened = '"round":2,"attempt":1,"phase":"train","clients":["a","b"]'
    rows = [*list(before.items())[:-1], ("PhaseOpened", opened), ("RoundFailed", before["RoundFailed"])]
    _open(path).close()
    with closing(sqlite3.connect(path)) as db, db:
        for kind, fields in rows:
            body = f'{{"type":"{kind}","job":"digits-1",{fields}}}'
            db.execute("INSERT INTO journal (unix_time, job, kind, body) VALUES (1, 'digits-1', ?, ?)", (kind, body))
    with closing(_open(path)) as journal:
        job = Engine(journal.committed()).book.job("digits-1")
    assert (job.rounds_done, job.rounds_max, job.failed_attempts, job.origin) == (1, 100, 1, "")
    assert job.state is JobState.RUNNING


def test_a_file_that_is_no_journal_is_refused(path: Path) -> None:
    path.write_bytes(b"this is not a database at all" * 100)
    with pytest.raises(StorageError, match=r"journal\.db cannot be opened: .*not a database"):
        _open(path)

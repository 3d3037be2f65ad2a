"""Records are tied to one another, whatever happens between them."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from fedelta.errors import StorageError
from fedelta_server.engine import records
from fedelta_server.store.history import History
from fedelta_server.store.journal import Journal


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with closing(Journal(f"sqlite:///{tmp_path / 'journal.db'}")) as opened:
        yield opened


def record(job: str, number: int) -> records.Record:
    return records.JobExtended(job=job, rounds_max=number)


def test_each_job_has_a_chain_of_its_own(journal: Journal, tmp_path: Path) -> None:
    journal.append([record("a", 1), record("b", 1), record("a", 2)]).result(10)
    journal.append([record("b", 2)]).result(10)
    with closing(sqlite3.connect(tmp_path / "journal.db")) as db, db:
        db.execute("DELETE FROM journal WHERE job = 'a' AND sequence = 1")
    history = History(tmp_path)
    assert history.jobs() == ["b", "a"]
    assert [row.tied for row in history.rows("a")] == [False]
    assert [row.tied for row in history.rows("b")] == [True, True]


def test_what_was_not_committed_is_not_in_the_chain(journal: Journal, tmp_path: Path) -> None:
    def fail(*_: Any) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    journal.append([record("a", 1)]).result(10)
    sa.event.listen(journal._db, "before_cursor_execute", fail)
    with pytest.raises(StorageError, match="disk I/O error"):
        journal.append([record("a", 2)]).result(10)
    sa.event.remove(journal._db, "before_cursor_execute", fail)
    journal.recover()
    journal.append([record("a", 3)]).result(10)
    assert [row.tied for row in History(tmp_path).rows("a")] == [True, True]


def test_many_records_are_read_in_order(journal: Journal, tmp_path: Path) -> None:
    journal.append([record("a", number) for number in range(1, 2501)]).result(10)
    rows = list(History(tmp_path).rows("a"))
    assert [row.sequence for row in rows] == list(range(1, 2501))
    assert all(row.tied for row in rows)

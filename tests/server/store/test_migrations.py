"""The journal of any older fedelta is taken over, whatever happens meanwhile; that of a newer one is left alone."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from blake3 import blake3

from fedelta.errors import StorageError
from fedelta_server.engine import Engine
from fedelta_server.engine.words import JobState
from fedelta_server.store import _migrate, _schema
from fedelta_server.store.journal import Journal

SCHEMA_1 = """
CREATE TABLE meta (schema_version INTEGER NOT NULL);
CREATE TABLE journal (
    sequence INTEGER NOT NULL,
    unix_time FLOAT NOT NULL,
    job VARCHAR(128) NOT NULL,
    kind VARCHAR(64) NOT NULL,
    body BLOB NOT NULL,
    PRIMARY KEY (sequence)
);
CREATE INDEX journal_by_job ON journal (job, kind, sequence);
"""
"""Literally what fedelta made before there were migrations."""

TOML = '[job]\nname = "digits"\n[model]\ninit = "first-client"\n[rounds]\nmax = 100\nclients = 2\n'

PART = '{"client":"a","phase":"train","outcome":"accepted","reason":"","examples":3,"metrics":{},"seconds":0.5}'

ROWS = [
    ("JobSubmitted", f'"toml":{json.dumps(TOML)},"submitted_unix":1.5,"digest":"AA==","length":10'),
    ("JobStateChanged", '"state":"running"'),
    ("PhaseOpened", '"round":1,"attempt":1,"phase":"train","clients":["a"]'),
    ("ParticipationEnded", f'"round":1,"attempt":1,"participation":{PART},"digest":"AQ==","length":5'),
    ("VersionMade", '"version":1,"digest":"Ag==","length":10'),
    (
        "RoundClosed",
        '"number":1,"attempts":1,"seconds":1.5,"bytes_up":1,"bytes_down":1,"clients":[],"metrics":{},'
        '"train_metrics":{},"digest":"Ag=="',
    ),
    ("PhaseOpened", '"round":2,"attempt":1,"phase":"train","clients":["a","b"]'),
    ("ParticipationEnded", f'"round":2,"attempt":1,"participation":{PART},"digest":"Aw==","length":5'),
]
"""A journal in the middle of round 2."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "journal.db"


@pytest.fixture
def old(path: Path) -> Path:
    """A journal of schema 1."""
    with closing(sqlite3.connect(path)) as db, db:
        db.executescript(SCHEMA_1)
        db.execute("INSERT INTO meta VALUES (1)")
        for time, (kind, fields) in enumerate(ROWS):
            body = f'{{"type":"{kind}","job":"digits-1",{fields}}}'.encode()
            db.execute(
                "INSERT INTO journal (unix_time, job, kind, body) VALUES (?, 'digits-1', ?, ?)", (time, kind, body)
            )
    return path


def url(path: Path) -> str:
    return f"sqlite:///{path}"


def query(path: Path, sql: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as db:
        return db.execute(sql).fetchall()


def contents(path: Path) -> list[object]:
    """All that is in a database."""
    tables = query(path, "SELECT name, sql FROM sqlite_master ORDER BY name")
    return [tables, *(query(path, f"SELECT * FROM {name}") for name in ("meta", "journal"))]


def assert_taken_over(path: Path) -> None:
    """The engine goes on in the middle of round 2, and every record is tied to the one before it."""
    with closing(Journal(url(path))) as journal:
        engine = Engine(journal.committed())
    job = engine.book.job("digits-1")
    assert (job.state, job.rounds_done, job.toml) == (JobState.RUNNING, 1, TOML)
    assert job.round is not None
    assert (job.round.number, sorted(job.round.phase.open), [part.client for part in job.round.parts]) == (
        2,
        ["b"],
        ["a"],
    )
    assert len(query(path, "SELECT * FROM journal")) == len(ROWS)
    assert_tied(path)


def assert_tied(path: Path) -> None:
    before = bytes(32)
    for time, body, link in query(path, "SELECT unix_time, body, link FROM journal ORDER BY sequence"):
        assert isinstance(time, float)
        assert isinstance(body, bytes)
        assert link == _schema.link_of(before, time, body)
        assert isinstance(link, bytes)
        before = link


def test_a_journal_from_before_migrations_is_taken_over(old: Path) -> None:
    assert_taken_over(old)
    assert query(old, "SELECT version_num FROM alembic_version") == [(_migrate.HEAD,)]


def test_what_is_written_after_an_upgrade_is_tied_to_what_was_there(old: Path) -> None:
    with closing(Journal(url(old))) as journal:
        journal.append(list(journal.committed())[:1]).result(10)
    with closing(Journal(url(old))) as journal:
        journal.append(list(journal.committed())[:1]).result(10)
    assert len(query(old, "SELECT * FROM journal")) == len(ROWS) + 2
    assert_tied(old)


def test_an_upgrade_of_many_rows_goes_in_batches(old: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scripts = ScriptDirectory(str(_migrate.SCRIPTS))
    monkeypatch.setattr(scripts.get_revision("0002").module, "_BATCH", 3)
    monkeypatch.setattr(ScriptDirectory, "from_config", lambda _: scripts)
    assert_taken_over(old)


def test_an_upgrade_that_fails_changes_nothing(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db, db:
        db.execute("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)")
        db.execute("INSERT INTO alembic_version VALUES ('0001')")
        db.execute("CREATE TRIGGER broken BEFORE UPDATE ON meta BEGIN SELECT RAISE(ABORT, 'no room'); END")
    before = contents(old)
    with pytest.raises(StorageError, match="cannot be opened: no room"):
        Journal(url(old))
    assert contents(old) == before
    with closing(sqlite3.connect(old)) as db, db:
        db.execute("DROP TRIGGER broken")
    assert_taken_over(old)


KILLED = """
import os, signal, sys
import sqlalchemy as sa
from fedelta_server.store.journal import Journal

def kill(*_):
    os.kill(os.getpid(), signal.SIGKILL)

sa.event.listen(sa.Engine, "commit", kill)
Journal(sys.argv[1])
"""


def test_an_upgrade_that_is_killed_before_its_commit_is_done_again(old: Path) -> None:
    before = contents(old)
    killed = subprocess.run([sys.executable, "-c", KILLED, url(old)], check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    assert contents(old) == before
    assert_taken_over(old)


def test_a_journal_whose_making_was_cut_short_is_made(path: Path) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        db.execute("CREATE TABLE meta (schema_version INTEGER NOT NULL)")
    with closing(Journal(url(path))) as journal:
        assert list(journal.committed()) == []
    assert query(path, "SELECT version_num FROM alembic_version") == [(_migrate.HEAD,)]


@pytest.fixture
def made(path: Path) -> Path:
    """A journal that was made today."""
    Journal(url(path)).close()
    return path


def test_a_newer_journal_is_refused_by_name_and_left_alone(made: Path) -> None:
    with closing(sqlite3.connect(made)) as db, db:
        db.execute("UPDATE alembic_version SET version_num = '0099'")
    before = contents(made)
    with pytest.raises(StorageError, match=r"newer version of fedelta \(schema 0099, this one knows up to 0002\)"):
        Journal(url(made))
    assert contents(made) == before


def test_a_fedelta_without_migrations_would_refuse_it(made: Path) -> None:
    assert query(made, "SELECT schema_version FROM meta") == [(2,)]


def test_a_number_that_no_fedelta_without_migrations_wrote_is_refused(old: Path) -> None:
    with closing(sqlite3.connect(old)) as db, db:
        db.execute("UPDATE meta SET schema_version = 7")
    with pytest.raises(StorageError, match="schema 7"):
        Journal(url(old))


@pytest.fixture
def upgraded(old: Path) -> Iterator[sa.Engine]:
    """The database of a journal that was upgraded."""
    Journal(url(old)).close()
    engine = sa.create_engine(url(old))
    yield engine
    engine.dispose()


def test_the_scripts_make_the_tables_that_the_code_knows(upgraded: sa.Engine, tmp_path: Path) -> None:
    with upgraded.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), _schema.TABLES) == []
    Journal(url(tmp_path / "new.db")).close()
    assert columns(tmp_path / "new.db") == columns(Path(upgraded.url.database or ""))


def columns(path: Path) -> dict[str, object]:
    """What SQLite says of each table and index."""
    names = [name for (name,) in query(path, "SELECT name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%'")]
    return {
        str(name): (query(path, f"PRAGMA table_info({name})"), query(path, f"PRAGMA index_info({name})"))
        for name in names
    }


def test_the_head_is_that_of_the_scripts() -> None:
    assert ScriptDirectory(str(_migrate.SCRIPTS)).get_heads() == [_migrate.HEAD]


LOADS_ALEMBIC = """
import sys
from fedelta_server.store.journal import Journal

Journal(sys.argv[1]).close()
print("alembic" in sys.modules)
"""


def test_a_start_without_an_upgrade_does_not_load_alembic(made: Path) -> None:
    for which in (made, made.with_name("new.db")):
        found = subprocess.run(
            [sys.executable, "-c", LOADS_ALEMBIC, url(which)], check=True, timeout=60, capture_output=True, text=True
        )
        assert found.stdout.strip() == "False"


def test_a_link_is_a_digest_over_the_link_before_the_time_and_the_body() -> None:
    assert _schema.link_of(b"x" * 32, 1.0, b"body") == blake3(b"x" * 32 + b"\x3f\xf0" + bytes(6) + b"body").digest()

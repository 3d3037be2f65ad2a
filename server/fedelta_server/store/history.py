"""The journal as it lies there, for those who check it. Read-only: a running coordinator is not disturbed."""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from fedelta.errors import NotFoundError, StorageError
from fedelta_server.store._migrate import HEAD, refuse, revision_of
from fedelta_server.store._schema import FIRST_LINK, JOURNAL, link_of

_AT_A_TIME = 1000

# In a file that was tampered with a column may hold anything.
_TIME = sa.cast(JOURNAL.c.unix_time, sa.Float).label("unix_time")
_BODY = sa.cast(JOURNAL.c.body, sa.LargeBinary).label("body")
_LINK = sa.cast(JOURNAL.c.link, sa.LargeBinary).label("link")


@dataclass(frozen=True)
class Row:
    """A record as it is stored."""

    sequence: int
    kind: str
    body: bytes
    tied: bool
    """Whether the link fits: neither this record was changed, nor is one gone that was before it."""


class History:
    """The rows of a journal. Raises `StorageError` where there is none that can be read."""

    def __init__(self, state: Path) -> None:
        path = state / "journal.db"
        if not path.is_file():
            raise NotFoundError(f"--state {state}: there is no journal; name the directory of a coordinator")
        self._path = path
        self._db = sa.create_engine("sqlite://", creator=_reader(path), poolclass=sa.NullPool)
        with self._readable(), self._db.connect() as connection:
            _check(state, revision_of(connection))

    def damage(self) -> list[str]:
        """What the database itself finds wrong with its file, the first few things: tables against indexes, pages."""
        return [row[0] for row in self._select(sa.text("PRAGMA integrity_check(10)")) if row[0] != "ok"]

    def jobs(self) -> list[str]:
        """All jobs, in the order in which they were submitted."""
        query = sa.select(JOURNAL.c.job).group_by(JOURNAL.c.job).order_by(sa.func.min(JOURNAL.c.sequence))
        return [row.job for row in self._select(query)]

    def rows(self, job: str) -> Iterator[Row]:
        """The records of a job, in order, read as they are asked for."""
        query = sa.select(JOURNAL.c.sequence, JOURNAL.c.kind, _TIME, _BODY, _LINK)
        before = FIRST_LINK
        for row in self._select(query.where(JOURNAL.c.job == job).order_by(JOURNAL.c.sequence)):
            yield Row(row.sequence, row.kind, row.body or b"", _tied(before, row))
            before = row.link or b""

    def bodies(self, job: str, kind: str) -> list[bytes]:
        """The records of one kind of a job, in order."""
        query = sa.select(_BODY).where(JOURNAL.c.job == job, JOURNAL.c.kind == kind).order_by(JOURNAL.c.sequence)
        return [row.body for row in self._select(query)]

    def _select(self, query: sa.Executable) -> Iterator[sa.Row[Any]]:
        with self._readable(), self._db.connect() as connection:
            yield from connection.execution_options(yield_per=_AT_A_TIME).execute(query)

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except (sa.exc.SQLAlchemyError, UnicodeDecodeError) as error:
            raise StorageError(f"the journal {self._path} cannot be read: {error.__cause__ or error}") from None


def _tied(before: bytes, row: sa.Row[Any]) -> bool:
    if row.unix_time is None or row.body is None:
        return False
    return bool(row.link == link_of(before, row.unix_time, row.body))


def _reader(path: Path) -> Callable[[], sqlite3.Connection]:
    uri = f"{path.absolute().as_uri()}?mode=ro"
    return lambda: sqlite3.connect(uri, uri=True, timeout=10)


def _check(state: Path, found: str | None) -> None:
    if found is None or found < HEAD:
        raise StorageError(
            f"--state {state}: its journal is of an older fedelta (schema {found}, here it is {HEAD}); "
            "start the coordinator of this version once, which brings it up to date"
        )
    if found != HEAD:
        raise refuse(found)

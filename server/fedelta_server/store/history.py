"""The journal as it lies there, for those who check it. Read-only: a running coordinator is not disturbed."""

import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import sqlalchemy as sa

from fedelta.errors import NotFoundError, StorageError
from fedelta_server.store._migrate import HEAD, refuse, revision_of
from fedelta_server.store._schema import FIRST_LINK, JOURNAL, link_of
from fedelta_server.store.io import storage_errors

_AT_A_TIME = 1000


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
        with storage_errors(path), self._connected() as connection:
            _check(state, revision_of(connection))

    def jobs(self) -> list[str]:
        """All jobs, in the order in which they were submitted."""
        query = sa.select(JOURNAL.c.job).group_by(JOURNAL.c.job).order_by(sa.func.min(JOURNAL.c.sequence))
        with self._connected() as connection:
            return list(connection.execute(query).scalars())

    def rows(self, job: str) -> Iterator[Row]:
        """The records of a job, in order, read as they are asked for."""
        query = sa.select(JOURNAL).where(JOURNAL.c.job == job).order_by(JOURNAL.c.sequence)
        before = FIRST_LINK
        with self._connected() as connection:
            for row in connection.execution_options(yield_per=_AT_A_TIME).execute(query):
                tied = row.link == link_of(before, row.unix_time, row.body)
                yield Row(row.sequence, row.kind, row.body, tied)
                before = row.link

    def bodies(self, job: str, kind: str) -> list[bytes]:
        """The records of one kind of a job, in order."""
        where = (JOURNAL.c.job == job, JOURNAL.c.kind == kind)
        query = sa.select(JOURNAL.c.body).where(*where).order_by(JOURNAL.c.sequence)
        with self._connected() as connection:
            return list(connection.execute(query).scalars())

    def _connected(self) -> sa.Connection:
        try:
            return self._db.connect()
        except sa.exc.SQLAlchemyError as error:
            raise StorageError(f"the journal {self._path} cannot be opened: {error.__cause__ or error}") from None


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

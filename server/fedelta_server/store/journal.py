"""The journal: every record the engine made, in order, in a SQL database.

It is the coordinator's only durable state besides payload files. Writing goes through one thread, which commits
whatever has gathered in one transaction, so that a hundred acknowledgements share one sync of the disk.
"""

import queue
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import msgspec
import sqlalchemy as sa

from fedelta.errors import StorageError
from fedelta_server.engine import records

SCHEMA_VERSION = 1

_tables = sa.MetaData()

_meta = sa.Table("meta", _tables, sa.Column("schema_version", sa.Integer, nullable=False))

_journal = sa.Table(
    "journal",
    _tables,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("unix_time", sa.Float, nullable=False),
    sa.Column("job", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Index("journal_by_job", "job", "kind", "sequence"),
)

_decoder = msgspec.json.Decoder(records.AnyRecord)


@dataclass(frozen=True)
class Entry:
    """A committed record."""

    sequence: int
    unix_time: float
    record: records.Record


@dataclass(frozen=True)
class _Write:
    records: Sequence[records.Record]
    done: "Future[None]"


class _Recover:
    """Marks the place in the queue from which writing is tried again after a failure."""


class _Close:
    """Marks the end of the queue."""


class Journal:
    """Appends and reads records. Reads may come from any thread."""

    def __init__(self, url: str) -> None:
        self._db = _connect(url)
        self._queue: queue.SimpleQueue[_Write | _Recover | _Close] = queue.SimpleQueue()
        self._failure: StorageError | None = None
        self._writer = threading.Thread(target=self._write_forever, name="journal", daemon=True)
        self._writer.start()

    def append(self, batch: Sequence[records.Record]) -> "Future[None]":
        """Queues records; the future is done when they, and all before them, are on disk.

        It raises `StorageError` where they could not be committed. Then nothing that was queued after them is
        committed either, until `recover`: it was decided by an engine that believed them.
        """
        done: Future[None] = Future()
        self._queue.put(_Write(batch, done))
        return done

    def recover(self) -> None:
        """Takes up writing again after a failure, for what is queued from now on."""
        self._queue.put(_Recover())

    def entries(self, job: str, after: int = 0) -> list[Entry]:
        """The records of a job after a sequence number."""
        where = (_journal.c.job == job, _journal.c.sequence > after)
        return list(self._select(*where))

    def rounds(self, job: str) -> list[records.RoundClosed]:
        """The closed rounds of a job, in order."""
        where = (_journal.c.job == job, _journal.c.kind == records.RoundClosed.__name__)
        return [entry.record for entry in self._select(*where) if isinstance(entry.record, records.RoundClosed)]

    def versions(self, job: str) -> list[records.VersionMade]:
        """The model versions of a job that rounds or a first client made, in order."""
        where = (_journal.c.job == job, _journal.c.kind == records.VersionMade.__name__)
        return [entry.record for entry in self._select(*where) if isinstance(entry.record, records.VersionMade)]

    def committed(self) -> list[records.Record]:
        """The records from which the engine is rebuilt.

        Of what lies before a job's last closed round only the outline is needed. Reading stays fast however long the
        job has run.
        """
        closed = (
            sa.select(_journal.c.job, sa.func.max(_journal.c.sequence).label("sequence"))
            .where(_journal.c.kind == records.RoundClosed.__name__)
            .group_by(_journal.c.job)
            .subquery()
        )
        query = (
            sa.select(_journal)
            .select_from(_journal.outerjoin(closed, _journal.c.job == closed.c.job))
            .where(
                closed.c.sequence.is_(None)
                | (_journal.c.sequence >= closed.c.sequence)
                | _journal.c.kind.in_([each.__name__ for each in records.OUTLINE])
            )
            .order_by(_journal.c.sequence)
        )
        with self._db.connect() as connection:
            return [_decoder.decode(row.body) for row in connection.execute(query)]

    def close(self) -> None:
        """Commits what is queued and closes the database."""
        self._queue.put(_Close())
        self._writer.join()
        self._db.dispose()

    def _select(self, *where: Any) -> Iterator[Entry]:
        query = sa.select(_journal).where(*where).order_by(_journal.c.sequence)
        with self._db.connect() as connection:
            rows = connection.execute(query).all()
        return (Entry(row.sequence, row.unix_time, _decoder.decode(row.body)) for row in rows)

    def _write_forever(self) -> None:
        while True:
            batch, mark = self._gather()
            self._commit(batch)
            if isinstance(mark, _Close):
                return
            if isinstance(mark, _Recover):
                self._failure = None

    def _gather(self) -> tuple[list[_Write], _Recover | _Close | None]:
        """Waits for something to write and takes all there is, up to the next mark."""
        batch: list[_Write] = []
        while not batch or not self._queue.empty():
            item = self._queue.get()
            if not isinstance(item, _Write):
                return batch, item
            batch.append(item)
        return batch, None

    def _commit(self, batch: list[_Write]) -> None:
        if self._failure is None:
            self._failure = self._insert([record for write in batch for record in write.records])
        for write in batch:
            if self._failure is None:
                write.done.set_result(None)
            else:
                write.done.set_exception(self._failure)

    def _insert(self, batch: list[records.Record]) -> StorageError | None:
        now = time.time()
        try:
            if batch:
                with self._db.begin() as connection:
                    connection.execute(sa.insert(_journal), [_row(record, now) for record in batch])
        except Exception as error:  # whatever it is, those who wait must hear of it
            return StorageError(f"the journal could not be written: {error.__cause__ or error}")
        return None


def _row(record: records.Record, now: float) -> dict[str, object]:
    body = msgspec.json.encode(record)
    return {"unix_time": now, "job": record.job, "kind": type(record).__name__, "body": body}


def _connect(url: str) -> sa.Engine:
    db = sa.create_engine(url)
    if db.dialect.name == "sqlite":
        sa.event.listen(db, "connect", _set_pragmas)
    try:
        _check_schema(db)
    except StorageError:
        db.dispose()
        raise
    except sa.exc.SQLAlchemyError as error:
        db.dispose()
        raise StorageError(f"the journal {db.url.database} cannot be opened: {error.__cause__ or error}") from None
    return db


def _check_schema(db: sa.Engine) -> None:
    """Makes the tables, if they are not there. Raises `StorageError` where they are another version's."""
    _tables.create_all(db)
    with db.begin() as connection:
        found = connection.execute(sa.select(_meta.c.schema_version)).scalar()
        if found is None:
            connection.execute(sa.insert(_meta), {"schema_version": SCHEMA_VERSION})
        elif found != SCHEMA_VERSION:
            raise StorageError(
                f"the state was written by another version of fedelta (schema {found}, this one needs {SCHEMA_VERSION})"
            )


def _set_pragmas(connection: Any, _: Any) -> None:
    """Committed means on disk: a write-ahead log, synced at every commit."""
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000"):
        connection.execute(f"PRAGMA {pragma}")

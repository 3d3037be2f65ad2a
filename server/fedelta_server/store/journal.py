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
from fedelta_server.store._migrate import migrate
from fedelta_server.store._schema import FIRST_LINK, JOURNAL, link_of
from fedelta_server.store._sqlite import set_pragmas

_decoder = msgspec.json.Decoder(records.AnyRecord)

_ROWS = 100
"""So many rows are fetched at a time where there may be many."""


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
        self._links: dict[str, bytes] = {}
        """Of the jobs that were written of: the link of the last record. The writer's own."""
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
        where = (JOURNAL.c.job == job, JOURNAL.c.sequence > after)
        return list(self._select(*where))

    def closed(self, job: str, after: int = 0) -> list[tuple[int, records.RoundClosed | records.EvaluationClosed]]:
        """The rounds and evaluations of a job that were closed after a sequence number, each with its own, in order."""
        kinds = (records.RoundClosed, records.EvaluationClosed)
        names = [kind.__name__ for kind in kinds]
        where = (JOURNAL.c.job == job, JOURNAL.c.kind.in_(names), JOURNAL.c.sequence > after)
        entries = ((entry.sequence, entry.record) for entry in self._select(*where))
        return [(number, record) for number, record in entries if isinstance(record, kinds)]

    def last_sequence(self, job: str) -> int:
        """The sequence number of a job's last record; 0: there is none."""
        query = sa.select(sa.func.max(JOURNAL.c.sequence)).where(JOURNAL.c.job == job)
        with self._db.connect() as connection:
            found: int | None = connection.execute(query).scalar()
        return found or 0

    def committed(self) -> Iterator[records.Record]:
        """The records from which the engine is rebuilt, read one after the other: together they may be large.

        Of what lies before all that is open of a job only the outline is needed, and how the latest assignments ended.
        """
        recent = sa.select(sa.func.max(JOURNAL.c.sequence)).scalar_subquery() - records.ENDINGS_KEPT
        closed = (
            sa.select(JOURNAL.c.job, sa.func.max(JOURNAL.c.sequence).label("sequence"))
            .where(JOURNAL.c.kind == records.RoundClosed.__name__)
            .group_by(JOURNAL.c.job)
            .subquery()
        )
        query = sa.select(JOURNAL).select_from(JOURNAL.outerjoin(closed, JOURNAL.c.job == closed.c.job))
        needed = (
            closed.c.sequence.is_(None)
            | (JOURNAL.c.sequence >= closed.c.sequence)
            | JOURNAL.c.kind.in_([each.__name__ for each in records.OUTLINE])
            | ((JOURNAL.c.kind == records.ParticipationEnded.__name__) & (JOURNAL.c.sequence > recent))
        )
        with self._db.connect() as connection:
            further = [_from(connection, *last) for last in connection.execute(sa.select(closed)).all()]
            found = query.where(sa.or_(needed, *further)).order_by(JOURNAL.c.sequence)
            for row in connection.execution_options(yield_per=_ROWS).execute(found):
                yield _decoder.decode(row.body)

    def close(self) -> None:
        """Commits what is queued and closes the database."""
        self._queue.put(_Close())
        self._writer.join()
        self._db.dispose()

    def _select(self, *where: Any) -> Iterator[Entry]:
        query = sa.select(JOURNAL).where(*where).order_by(JOURNAL.c.sequence)
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
                    rows = [_row(record, now) for record in batch]
                    connection.execute(sa.insert(JOURNAL), [self._tied(row, connection) for row in rows])
        except Exception as error:  # whatever it is, those who wait must hear of it
            self._links.clear()
            return StorageError(f"the journal could not be written: {error.__cause__ or error}")
        return None

    def _tied(self, row: dict[str, Any], connection: sa.Connection) -> dict[str, Any]:
        job = row["job"]
        before = self._links.get(job) or _last_link(connection, job)
        self._links[job] = link = link_of(before, row["unix_time"], row["body"])
        return {**row, "link": link}


def _from(connection: sa.Connection, job: str, last: int) -> sa.ColumnElement[bool]:
    """What is needed of a job beyond what follows its last closed round: all that follows another one before that."""
    body = sa.select(JOURNAL.c.body).where(JOURNAL.c.sequence == last)
    closed = _decoder.decode(connection.execute(body).scalar_one())
    if not (isinstance(closed, records.RoundClosed) and closed.reach):
        return sa.false()
    rounds = sa.select(JOURNAL.c.sequence).where(JOURNAL.c.job == job, JOURNAL.c.kind == records.RoundClosed.__name__)
    first = connection.execute(rounds.order_by(JOURNAL.c.sequence.desc()).offset(closed.reach).limit(1)).scalar()
    return (JOURNAL.c.job == job) & (JOURNAL.c.sequence >= (first or 0))


def _last_link(connection: sa.Connection, job: str) -> bytes:
    last = sa.select(sa.func.max(JOURNAL.c.sequence)).where(JOURNAL.c.job == job).scalar_subquery()
    found: bytes | None = connection.execute(sa.select(JOURNAL.c.link).where(JOURNAL.c.sequence == last)).scalar()
    return found or FIRST_LINK


def _row(record: records.Record, now: float) -> dict[str, Any]:
    body = msgspec.json.encode(record)
    return {"unix_time": now, "job": record.job, "kind": type(record).__name__, "body": body}


def _connect(url: str) -> sa.Engine:
    db = sa.create_engine(url)
    if db.dialect.name == "sqlite":
        sa.event.listen(db, "connect", set_pragmas)
    try:
        migrate(db)
    except StorageError:
        db.dispose()
        raise
    except sa.exc.SQLAlchemyError as error:
        db.dispose()
        raise StorageError(f"the journal {db.url.database} cannot be opened: {error.__cause__ or error}") from None
    return db

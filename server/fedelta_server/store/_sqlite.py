"""How the store uses SQLite."""

from typing import Any

import sqlalchemy as sa

_PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", "busy_timeout=10000")


def set_pragmas(connection: Any, _: Any) -> None:
    """Committed means on disk: a write-ahead log, synced at every commit. For SQLAlchemy's event "connect"."""
    for pragma in _PRAGMAS:
        connection.execute(f"PRAGMA {pragma}")


def take_over_transactions(db: sa.Engine) -> None:
    """Makes `begin` of an engine the beginning of a transaction that holds all statements.

    Left to itself, Python's driver begins one only before rows are changed: changes of the schema would not be undone.
    """
    sa.event.listen(db, "connect", _leave_transactions_to_us)
    sa.event.listen(db, "begin", _begin_writing)


def _leave_transactions_to_us(connection: Any, _: Any) -> None:
    connection.isolation_level = None


def _begin_writing(connection: sa.Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")

"""Makes the journal's tables, and brings those of an older fedelta up to date.

The steps are Alembic scripts in `migrations`. All that are needed run in one transaction: killed at any instant, the
database is as it was before, and the next start begins anew. Importing Alembic takes as long as the rest of a start, so
it is left alone where there is nothing to upgrade: tables that are up to date are only looked at, and in an empty
database they are made as they are today, which is what all scripts together make.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import sqlalchemy as sa

from fedelta.errors import StorageError
from fedelta_server.store._schema import META, TABLES
from fedelta_server.store._sqlite import set_pragmas, take_over_transactions

if TYPE_CHECKING:
    from alembic.config import Config

_log = logging.getLogger(__name__)

HEAD = "0002"
"""The newest revision; a test holds it equal to the scripts."""

_BEFORE_MIGRATIONS = "0001"
"""The revision of a journal from before Alembic kept count, when a number in `meta` said 1."""

SCRIPTS = Path(__file__).with_name("migrations")

_VERSIONS = sa.Table(
    "alembic_version", sa.MetaData(), sa.Column("version_num", sa.String(32), primary_key=True, nullable=False)
)
"""As Alembic makes it."""


def migrate(db: sa.Engine) -> None:
    """Brings the tables to `HEAD`. Raises `StorageError` where a newer fedelta wrote them."""
    with db.connect() as connection:
        found = revision_of(connection)
    if found != HEAD:
        with _one_transaction(db) as connection:
            # Looked at again, now that nobody else can change it.
            if sa.inspect(connection).get_table_names():
                _upgrade(connection, revision_of(connection))
            else:
                _make(connection)


def revision_of(connection: sa.Connection) -> str | None:
    """The revision of the tables; None: there are none, or making them was never completed."""
    inspector = sa.inspect(connection)
    if inspector.has_table(_VERSIONS.name):
        return connection.execute(sa.select(_VERSIONS.c.version_num)).scalar()
    if not inspector.has_table(META.name):
        return None
    number = connection.execute(sa.select(META.c.schema_version)).scalar()
    return {None: None, 1: _BEFORE_MIGRATIONS}.get(number, f"{number}")


def refuse(found: str | None) -> StorageError:
    """The error for tables of a revision that is not known here."""
    return StorageError(
        f"the state was written by a newer version of fedelta (schema {found}, this one knows up to {HEAD}); "
        "use that version, or another --state"
    )


def _make(connection: sa.Connection) -> None:
    TABLES.create_all(connection)
    connection.execute(sa.insert(META), {"schema_version": int(HEAD)})
    _VERSIONS.create(connection)
    connection.execute(sa.insert(_VERSIONS), {"version_num": HEAD})


def _upgrade(connection: sa.Connection, found: str | None) -> None:
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config(connection)
    if found not in {None, *(script.revision for script in ScriptDirectory.from_config(config).walk_revisions())}:
        raise refuse(found)
    if found == _BEFORE_MIGRATIONS and not sa.inspect(connection).has_table(_VERSIONS.name):
        command.stamp(config, found)
    command.upgrade(config, HEAD)
    if found is not None:
        _log.info("the journal was brought from schema %s to %s", found, HEAD)


def _config(connection: sa.Connection) -> "Config":
    from alembic.config import Config

    config = Config()
    # As in any .ini file a percent sign is written twice.
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


@contextmanager
def _one_transaction(db: sa.Engine) -> Iterator[sa.Connection]:
    """A connection on which changes of the schema are undone with all the rest, if it comes to that."""
    own = sa.create_engine(db.url, poolclass=sa.NullPool)
    if own.dialect.name == "sqlite":
        take_over_transactions(own)
        sa.event.listen(own, "connect", set_pragmas)
    try:
        with own.begin() as connection:
            yield connection
    finally:
        own.dispose()

"""Each record of a job is tied to the one before it, so that `fedelta verify` finds any that was changed or removed."""

import struct

import sqlalchemy as sa
from alembic import op
from blake3 import blake3

revision = "0002"
down_revision = "0001"

_BATCH = 10_000

_meta = sa.table("meta", sa.column("schema_version"))
_journal = sa.table(
    "journal",
    sa.column("sequence", sa.Integer),
    sa.column("unix_time", sa.Float),
    sa.column("job", sa.String),
    sa.column("body", sa.LargeBinary),
    sa.column("link", sa.LargeBinary),
)


def upgrade() -> None:
    """Adds the links, also to what is there, and has older versions refuse the journal."""
    op.add_column("journal", sa.Column("link", sa.LargeBinary, nullable=False, server_default=""))
    heads: dict[str, bytes] = {}
    last = 0
    while rows := _after(last):
        _tie(rows, heads)
        last = rows[-1].sequence
    op.execute(sa.update(_meta).values(schema_version=2))


def _after(sequence: int) -> list[sa.Row[tuple[int, float, str, bytes]]]:
    columns = (_journal.c.sequence, _journal.c.unix_time, _journal.c.job, _journal.c.body)
    query = sa.select(*columns).where(_journal.c.sequence > sequence).order_by(_journal.c.sequence).limit(_BATCH)
    return list(op.get_bind().execute(query))


def _tie(rows: list[sa.Row[tuple[int, float, str, bytes]]], heads: dict[str, bytes]) -> None:
    tied = []
    for row in rows:
        before = heads.get(row.job, bytes(32))
        heads[row.job] = link = blake3(before + struct.pack(">d", row.unix_time) + row.body).digest()
        tied.append({"which": row.sequence, "tied": link})
    op.get_bind().execute(
        sa.update(_journal).where(_journal.c.sequence == sa.bindparam("which")).values(link=sa.bindparam("tied")), tied
    )

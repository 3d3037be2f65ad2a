"""The journal's tables as they are today. How they became that way is in `migrations`, one script for each step."""

import struct

import sqlalchemy as sa
from blake3 import blake3

TABLES = sa.MetaData()

META = sa.Table("meta", TABLES, sa.Column("schema_version", sa.Integer, nullable=False))
"""Read by nothing but the fedelta that had no migrations yet: it finds a number it does not know, and refuses."""

JOURNAL = sa.Table(
    "journal",
    TABLES,
    sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("unix_time", sa.Float, nullable=False),
    sa.Column("job", sa.String(128), nullable=False),
    sa.Column("kind", sa.String(64), nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("link", sa.LargeBinary, nullable=False, server_default=""),
    sa.Index("journal_by_job", "job", "kind", "sequence"),
)
"""Every record, in order. `link` ties it to the one before it of the same job; see `link_of`."""

FIRST_LINK = bytes(32)
"""What the first record of a job is tied to."""


def link_of(previous: bytes, unix_time: float, body: bytes) -> bytes:
    """A record's link: BLAKE3-256 of the link before it, its time and its body."""
    return blake3(previous + struct.pack(">d", unix_time) + body).digest()

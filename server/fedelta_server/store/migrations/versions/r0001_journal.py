"""The journal: every record of the engine, in order."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Makes the tables. What made them before there were migrations may have been killed in the middle."""
    meta = op.create_table("meta", sa.Column("schema_version", sa.Integer, nullable=False), if_not_exists=True)
    op.create_table(
        "journal",
        sa.Column("sequence", sa.Integer, primary_key=True, autoincrement=True),
        sa.Column("unix_time", sa.Float, nullable=False),
        sa.Column("job", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("body", sa.LargeBinary, nullable=False),
        if_not_exists=True,
    )
    op.create_index("journal_by_job", "journal", ["job", "kind", "sequence"], if_not_exists=True)
    op.execute(sa.insert(meta).values(schema_version=1))

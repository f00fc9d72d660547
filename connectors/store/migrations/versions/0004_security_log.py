"""What matters for security is logged, and what the operator opened ends with the operator's password."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "security_event",
        sa.Column("seq", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("last_at", sa.BigInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=True),
        sa.Column("address", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_security_event")),
    )
    op.create_index("ix_security_event_owner", "security_event", ["owner", "seq"], unique=False)
    op.create_index("ix_security_event_kind", "security_event", ["owner", "kind", "seq"], unique=False)
    op.create_index("ix_security_event_same", "security_event", ["owner", "kind", "address", "at"], unique=False)
    op.create_index("ix_security_event_at", "security_event", ["at"], unique=False)
    for table in ("console_session", "console_link"):
        op.add_column(table, sa.Column("by_operator", sa.Integer(), server_default="0", nullable=False))
        # only the operator opened anything without a key until now
        op.execute(sa.text(f"UPDATE {table} SET by_operator = 1 WHERE key_hash IS NULL"))  # noqa: S608 - our names

"""What the hosts and workers of a cluster share: turns to call tills, and what somebody has begun in the console."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "call_rate",
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("given_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_call_rate"),
    )
    op.create_table(
        "console_item",
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("subject", sa.Text, nullable=False),
        sa.Column("content", sa.Text, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("kind", "name", name="pk_console_item"),
    )
    op.create_index("ix_console_item_kind", "console_item", ["kind", "created_at"])

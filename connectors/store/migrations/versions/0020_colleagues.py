"""Colleagues with roles; receipts given by hand, refunded or removed as lists; and when a cafe is told of its week."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_table(
        "colleague",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("business_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("role", sa.Text, nullable=False),
        sa.Column("invited_by", sa.Text, nullable=False),
        sa.Column("invited_by_session", sa.Text),
        sa.Column("invited_by_colleague", sa.Text),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("joined_at", sa.BigInteger),
        sa.Column("token_hash", sa.Text),
        sa.Column("invited_until", sa.BigInteger),
        sa.Column("business_name", sa.Text),
        sa.Column("zone", sa.Text),
        sa.Column("key", sa.Text),
        sa.Column("key_hash", sa.Text),
        sa.PrimaryKeyConstraint("id", name="pk_colleague"),
    )
    op.create_index("ix_colleague_business", "colleague", ["business_id"])
    op.create_index("ix_colleague_token", "colleague", ["token_hash"], unique=True)
    op.create_index("ix_colleague_key", "colleague", ["key_hash"])
    op.add_column("console_session", sa.Column("colleague_id", sa.Text))
    op.create_index("ix_console_session_colleague", "console_session", ["colleague_id"])
    lists = {"by_hand": "claimed = 1", "refunded": "refunded > 0", "voided": "status = 'voided'"}
    for name, condition in lists.items():
        op.create_index(
            f"ix_sale_{name}",
            "sale",
            ["connection_id", "closed_at"],
            sqlite_where=sa.text(condition),
            postgresql_where=sa.text(condition),
        )
    op.add_column("watch", sa.Column("week_told_next", sa.BigInteger))
    told = sa.text("week_told_next IS NOT NULL")
    op.create_index("ix_watch_week", "watch", ["week_told_next"], sqlite_where=told, postgresql_where=told)

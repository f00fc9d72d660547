"""Tills taught by a request of theirs: what drafts collect, addresses renewed, and where what was kept is from."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "captured",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_captured")),
    )
    op.create_index("ix_captured_owner", "captured", ["owner", "at"], unique=False)
    op.add_column("draft", sa.Column("hook_token_hash", sa.Text(), nullable=True))
    op.create_index("ix_draft_hook_token", "draft", ["hook_token_hash"], unique=True)
    op.add_column("connection", sa.Column("former_hook_token_hash", sa.Text(), nullable=True))
    op.add_column("connection", sa.Column("former_hook_until", sa.BigInteger(), nullable=True))
    op.add_column("connection", sa.Column("refused_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_connection_former_hook", "connection", ["former_hook_token_hash"], unique=False)
    op.create_table(
        "kept_body",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_kept_body")),
    )
    op.create_index("ix_kept_body_connection", "kept_body", ["connection_id"], unique=False)
    op.add_column("kept", sa.Column("source", sa.Text(), server_default="read", nullable=False))
    op.add_column("kept", sa.Column("content", sa.Text(), nullable=True))
    op.create_index("ix_kept_content", "kept", ["content"], unique=False)
    # whole hooks that could not be read named no receipt; what was read of a till always tried to. A till that is only
    # pushed kept whole bodies with receipts, too: those are read as hooks because nothing else can be done with them.
    op.execute(sa.text("UPDATE kept SET source = 'hook' WHERE receipt_id IS NULL"))
    op.execute(sa.text("UPDATE kept SET source = 'sale' WHERE place = 'sale'"))

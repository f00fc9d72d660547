"""Loyalty events: what 7stamp tells of cards, where it posts that, and what it said of vouchers last."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.add_column("identify", sa.Column("woken_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_known_card_card", "known_card", ["business_id", "card_id"])
    op.create_table(
        "loyalty_source",
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("token", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("former_secret", sa.Text(), nullable=True),
        sa.Column("former_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("webhook_id", sa.Text(), nullable=True),
        sa.Column("origin", sa.Text(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("last_event_at", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"], name="fk_loyalty_source_business_id"),
        sa.PrimaryKeyConstraint("business_id", name="pk_loyalty_source"),
        sa.UniqueConstraint("token_hash", name="uq_loyalty_source_token_hash"),
    )
    op.create_table(
        "loyalty_event",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("received_at", sa.BigInteger(), nullable=False),
        sa.Column("card_id", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("stage", sa.Text(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("told", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_loyalty_event"),
        sa.UniqueConstraint("business_id", "event_id", name="uq_loyalty_event_business_id_event_id"),
    )
    for stage in ("arrived", "settled"):
        where = sa.text(f"stage = '{stage}'")
        op.create_index(
            f"ix_loyalty_event_{stage}", "loyalty_event", ["next_at"], sqlite_where=where, postgresql_where=where
        )
    op.create_index("ix_loyalty_event_business", "loyalty_event", ["business_id", "seq"])
    op.create_index("ix_loyalty_event_received", "loyalty_event", ["received_at"])
    op.create_table(
        "voucher_state",
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("redeemed_via", sa.Text(), nullable=True),
        sa.Column("by_code", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("business_id", "code_hash", name="pk_voucher_state"),
    )
    op.create_index("ix_voucher_state_at", "voucher_state", ["at"])

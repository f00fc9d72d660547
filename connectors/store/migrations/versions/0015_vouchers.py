"""Vouchers: what people and programs ask of 7stamp apart from receipts, each request kept until it is settled."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.create_table(
        "voucher_request",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("redeem_code", sa.Text(), nullable=False),
        sa.Column("request", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"], name="fk_voucher_request_business_id"),
        sa.PrimaryKeyConstraint("id", name="pk_voucher_request"),
    )
    open_states = sa.text("state IN ('sending', 'waiting', 'uncertain')")
    op.create_index(
        "ix_voucher_request_open",
        "voucher_request",
        ["next_at"],
        sqlite_where=open_states,
        postgresql_where=open_states,
    )
    op.create_index("ix_voucher_request_made", "voucher_request", ["made_at"])
    op.create_index("ix_voucher_request_business", "voucher_request", ["business_id", "made_at"])

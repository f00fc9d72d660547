"""Relay: who is told of events of a business, each event on its way to them, and every try."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"

_SEQUENCE = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "relay_subscription",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("url", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("events", sa.Text(), nullable=False),
        sa.Column("filter", sa.Text(), nullable=True),
        sa.Column("personal", sa.Integer(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("former_secret", sa.Text(), nullable=True),
        sa.Column("former_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("made_by", sa.Text(), nullable=True),
        sa.Column("token_id", sa.Text(), nullable=True),
        sa.Column("next_at", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("failures", sa.Integer(), server_default="0", nullable=False),
        sa.Column("failing_since", sa.BigInteger(), nullable=True),
        sa.Column("delivered_at", sa.BigInteger(), nullable=True),
        sa.Column("pending", sa.Integer(), server_default="0", nullable=False),
        sa.ForeignKeyConstraint(["business_id"], ["business.id"], name="fk_relay_subscription_business_id"),
        sa.PrimaryKeyConstraint("id", name="pk_relay_subscription"),
    )
    op.create_index("ix_relay_subscription_business", "relay_subscription", ["business_id"])
    op.create_table(
        "relay_event",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("recorded_at", sa.BigInteger(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_relay_event"),
        sa.UniqueConstraint("id", name="uq_relay_event_id"),
    )
    op.create_index("ix_relay_event_business", "relay_event", ["business_id", "seq"])
    op.create_index("ix_relay_event_recorded", "relay_event", ["recorded_at"])
    op.create_table(
        "relay_delivery",
        sa.Column("seq", _SEQUENCE, autoincrement=True, nullable=False),
        sa.Column("subscription_id", sa.Text(), nullable=False),
        sa.Column("event_seq", sa.BigInteger(), nullable=False),
        sa.Column("lane", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("next_at", sa.BigInteger(), nullable=False),
        sa.Column("leased_until", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("attempts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_at", sa.BigInteger(), nullable=True),
        sa.Column("settled_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("seq", name="pk_relay_delivery"),
    )
    waits = sa.text("state = 'pending'")
    op.create_index(
        "ix_relay_delivery_pending",
        "relay_delivery",
        ["subscription_id", "lane", "seq"],
        sqlite_where=waits,
        postgresql_where=waits,
    )
    op.create_index("ix_relay_delivery_subscription", "relay_delivery", ["subscription_id", "seq"])
    op.create_index("ix_relay_delivery_event", "relay_delivery", ["event_seq"])
    op.create_index("ix_relay_delivery_made", "relay_delivery", ["made_at"])
    op.create_table(
        "relay_attempt",
        sa.Column("delivery_seq", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("milliseconds", sa.Integer(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("answer", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("delivery_seq", "number", name="pk_relay_attempt"),
    )

"""Phones that are told by Web Push, each with its choices; and how many stamps were taken back on a day."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"


_TAKEN_BACK = sa.text(
    "SELECT connection_id, day, SUM(count) AS stamps FROM operation "
    "WHERE kind = 'stamps_reversed' AND state = 'applied' GROUP BY connection_id, day"
)
_WRITE = sa.text("UPDATE tally SET taken_back = :stamps WHERE connection_id = :connection_id AND day = :day")


def upgrade() -> None:
    op.create_table(
        "push_device",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("business_id", sa.Text, nullable=False),
        sa.Column("colleague_id", sa.Text),
        sa.Column("session_hash", sa.Text, nullable=False),
        sa.Column("key_hash", sa.Text),
        sa.Column("restricted", sa.Integer, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        sa.Column("endpoint_hash", sa.Text, nullable=False),
        sa.Column("public_key", sa.Text, nullable=False),
        sa.Column("auth", sa.Text, nullable=False),
        sa.Column("device", sa.Text, nullable=False),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("quiet_begin", sa.Integer),
        sa.Column("quiet_end", sa.Integer),
        sa.Column("tells_trouble", sa.Integer, nullable=False),
        sa.Column("tells_plan", sa.Integer, nullable=False),
        sa.Column("week_told_next", sa.BigInteger),
        sa.Column("plan_near_told_until", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("plan_used_told_until", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("made_at", sa.BigInteger, nullable=False),
        sa.Column("told_at", sa.BigInteger),
        sa.Column("failing_since", sa.BigInteger),
        sa.Column("paused_until", sa.BigInteger, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("id", name="pk_push_device"),
        sa.UniqueConstraint("business_id", "endpoint_hash", name="uq_push_device_business_id_endpoint_hash"),
    )
    op.create_index("ix_push_device_session", "push_device", ["session_hash"])
    op.create_index("ix_push_device_colleague", "push_device", ["colleague_id"])
    op.create_index("ix_push_device_key", "push_device", ["key_hash"])
    op.create_table(
        "push_alert",
        sa.Column("device_id", sa.Text, nullable=False),
        sa.Column("connection_id", sa.Text, nullable=False),
        sa.Column("since", sa.BigInteger, nullable=False),
        sa.Column("told_at", sa.BigInteger),
        sa.PrimaryKeyConstraint("device_id", "connection_id", name="pk_push_alert"),
        sa.ForeignKeyConstraint(
            ["device_id"], ["push_device.id"], name="fk_push_alert_device_id_push_device", ondelete="CASCADE"
        ),
    )
    op.add_column("tally", sa.Column("taken_back", sa.Integer, nullable=False, server_default="0"))
    session = op.get_bind()
    if days := [dict(row._mapping) for row in session.execute(_TAKEN_BACK)]:
        session.execute(_WRITE, days)

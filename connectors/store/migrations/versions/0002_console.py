"""The console: sessions, drafts, watches; days counted as they are written; receipts found by what people know."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "attempt",
        sa.Column("operation_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("sent_at", sa.BigInteger(), nullable=True),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("operation_id", "number", name=op.f("pk_attempt")),
    )
    op.create_table(
        "consent",
        sa.Column("state_hash", sa.Text(), nullable=False),
        sa.Column("session_hash", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("used_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_consent")),
    )
    op.create_table(
        "console_link",
        sa.Column("token_hash", sa.Text(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=True),
        sa.Column("key_hash", sa.Text(), nullable=True),
        sa.Column("made_by", sa.Text(), nullable=True),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_console_link")),
    )
    op.create_table(
        "console_session",
        sa.Column("id_hash", sa.Text(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=True),
        sa.Column("business_name", sa.Text(), nullable=False),
        sa.Column("zone", sa.Text(), nullable=False),
        sa.Column("login", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("key_hash", sa.Text(), nullable=True),
        sa.Column("remembered", sa.Integer(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.Column("checked_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id_hash", name=op.f("pk_console_session")),
    )
    op.create_index("ix_console_session_business", "console_session", ["business_id"], unique=False)
    op.create_index("ix_console_session_key", "console_session", ["key_hash"], unique=False)
    op.create_table(
        "customer_name",
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("name_hash", sa.Text(), nullable=False),
        sa.Column("customer_hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("business_id", "name_hash", "customer_hash", name=op.f("pk_customer_name")),
    )
    op.create_table(
        "draft",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("connector", sa.Text(), nullable=False),
        sa.Column("content", sa.Text(), nullable=False),
        sa.Column("made_at", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_draft")),
    )
    op.create_index("ix_draft_owner", "draft", ["owner"], unique=False)
    op.create_table(
        "tally",
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("day", sa.Text(), nullable=False),
        sa.Column("receipts", sa.Integer(), server_default="0", nullable=False),
        sa.Column("stamps", sa.Integer(), server_default="0", nullable=False),
        sa.Column("redemptions", sa.Integer(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("connection_id", "day", name=op.f("pk_tally")),
    )
    op.create_table(
        "watch",
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("email", sa.Text(), nullable=False),
        sa.Column("language", sa.Text(), nullable=False),
        sa.Column("since", sa.BigInteger(), nullable=True),
        sa.Column("told_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("connection_id", name=op.f("pk_watch")),
    )
    op.add_column("connection", sa.Column("key_login", sa.Text(), nullable=True))
    op.add_column("connection", sa.Column("expires_at", sa.BigInteger(), nullable=True))
    op.add_column("connection", sa.Column("skipped", sa.Text(), server_default="[]", nullable=False))
    op.add_column("identify", sa.Column("created_at", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("journal", sa.Column("by", sa.Text(), nullable=True))
    op.add_column("operation", sa.Column("acknowledged", sa.Integer(), server_default="0", nullable=False))
    op.create_index(
        "ix_operation_held",
        "operation",
        ["connection_id", "hold", "seq"],
        unique=False,
        sqlite_where=sa.text("state = 'held'"),
        postgresql_where=sa.text("state = 'held'"),
    )
    op.create_index(
        "ix_operation_on_its_way",
        "operation",
        ["connection_id", "created_at"],
        unique=False,
        sqlite_where=sa.text("state IN ('pending', 'sending', 'uncertain')"),
        postgresql_where=sa.text("state IN ('pending', 'sending', 'uncertain')"),
    )
    op.create_index(
        "ix_operation_rejected",
        "operation",
        ["connection_id", "seq"],
        unique=False,
        sqlite_where=sa.text("state = 'rejected' AND acknowledged = 0"),
        postgresql_where=sa.text("state = 'rejected' AND acknowledged = 0"),
    )
    op.add_column("sale", sa.Column("day", sa.Text(), nullable=True))
    op.add_column("sale", sa.Column("claimed", sa.Integer(), server_default="0", nullable=False))
    op.create_index("ix_sale_card", "sale", ["connection_id", "card_hint", "closed_at"], unique=False)
    op.create_index("ix_sale_customer", "sale", ["connection_id", "customer_hash", "closed_at"], unique=False)
    op.create_index("ix_sale_paid", "sale", ["connection_id", "paid", "closed_at"], unique=False)
    _count_days()


def _count_days() -> None:
    """What was taken in before days were counted: each receipt gets its venue's day, and the days their sums."""
    session = op.get_bind()
    zones = {
        row.id: ZoneInfo(json.loads(row.account)["zone"])
        for row in session.execute(sa.text("SELECT id, account FROM connection"))
    }
    sales = session.execute(sa.text("SELECT id, connection_id, closed_at FROM sale WHERE closed_at IS NOT NULL")).all()
    days = []
    for row in sales:
        zone = zones.get(row.connection_id)
        if zone is not None:
            with suppress(OverflowError, ValueError):  # a moment that no calendar has counts for no day
                closed = datetime.fromtimestamp(row.closed_at // 1_000_000, UTC).astimezone(zone)
                days.append({"id": row.id, "day": closed.date().isoformat()})
    for start in range(0, len(days), 1000):
        session.execute(sa.text("UPDATE sale SET day = :day WHERE id = :id"), days[start : start + 1000])
    session.execute(
        sa.text(
            "INSERT INTO tally (connection_id, day, receipts, stamps, redemptions) "
            "SELECT connection_id, day, SUM(receipts), SUM(stamps), SUM(redemptions) FROM ("
            "SELECT connection_id, day, 1 AS receipts, 0 AS stamps, 0 AS redemptions FROM sale "
            "WHERE admitted = 1 AND status = 'closed' AND day IS NOT NULL "
            "UNION ALL SELECT connection_id, day, 0, CASE kind WHEN 'stamps_added' THEN count "
            "WHEN 'stamps_reversed' THEN -count ELSE 0 END, CASE kind WHEN 'voucher_redeemed' THEN 1 ELSE 0 END "
            "FROM operation WHERE state = 'applied'"
            ") AS counted GROUP BY connection_id, day"
        )
    )

"""At the till: what customers agreed to who claimed receipts, how people read redeem codes, and what is flagged."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.create_table(
        "claim",
        sa.Column("sale_id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("card_id", sa.Text(), nullable=False),
        sa.Column("consent", sa.Text(), nullable=True),
        sa.Column("language", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["sale_id"], ["sale.id"], name="fk_claim_sale_id"),
        sa.PrimaryKeyConstraint("sale_id", "at", name="pk_claim"),
    )
    op.create_index("ix_claim_at", "claim", ["at"])
    op.add_column("connection", sa.Column("claim_consent", sa.Text(), nullable=True))
    op.add_column("operation", sa.Column("flag", sa.Text(), nullable=True))
    flagged = sa.text("flag IS NOT NULL")
    op.create_index(
        "ix_operation_flagged",
        "operation",
        ["connection_id", "seq"],
        sqlite_where=flagged,
        postgresql_where=flagged,
    )
    gifts = sa.text("state = 'held' AND hold = 'gift'")
    op.create_index("ix_operation_gift", "operation", ["next_at"], sqlite_where=gifts, postgresql_where=gifts)
    is_open = sa.text("status = 'open'")
    op.create_index(
        "ix_sale_open", "sale", ["connection_id", "changed_at"], sqlite_where=is_open, postgresql_where=is_open
    )
    # null for what is known so far: a hash leads nowhere back, and 7stamp will tell of these vouchers again
    op.add_column("voucher_state", sa.Column("reading_hash", sa.Text(), nullable=True))
    op.add_column("voucher_state", sa.Column("redeem_code", sa.Text(), nullable=True))
    op.create_index("ix_voucher_state_reading", "voucher_state", ["business_id", "reading_hash"])

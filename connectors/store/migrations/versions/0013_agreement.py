"""Agreement: the comparison of each connection's till, ledger and cards, and when the next is due."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    op.create_table(
        "agreement",
        sa.Column("connection_id", sa.Text(), nullable=False),
        sa.Column("due_at", sa.BigInteger(), nullable=False),
        sa.Column("first_day", sa.Text(), nullable=True),
        sa.Column("last_day", sa.Text(), nullable=True),
        sa.Column("began_at", sa.BigInteger(), nullable=True),
        sa.Column("finished_at", sa.BigInteger(), nullable=True),
        sa.Column("position", sa.Text(), nullable=True),
        sa.Column("till_read", sa.Integer(), nullable=False),
        sa.Column("receipts", sa.Integer(), nullable=False),
        sa.Column("calls", sa.Integer(), nullable=False),
        sa.Column("mended", sa.Integer(), nullable=False),
        sa.Column("still_open", sa.Integer(), nullable=False),
        sa.Column("differences", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connection.id"], name="fk_agreement_connection_id"),
        sa.PrimaryKeyConstraint("connection_id", name="pk_agreement"),
    )
    op.create_index("ix_agreement_due", "agreement", ["due_at"])
    # due at once is taken as "not planned yet": the first look only says which night it is
    op.execute(
        "INSERT INTO agreement (connection_id, due_at, till_read, receipts, calls, mended, still_open, differences) "
        "SELECT id, 0, 0, 0, 0, 0, 0, '[]' FROM connection WHERE health <> 'removed'"
    )

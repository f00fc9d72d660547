"""Customers who are forgotten: marks that keep them so, and sales whose customers are erased."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"


def upgrade() -> None:
    op.create_table(
        "forgotten",
        sa.Column("business_id", sa.Text(), nullable=False),
        sa.Column("name_hash", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("business_id", "name_hash", name=op.f("pk_forgotten")),
    )
    op.add_column("sale", sa.Column("anonymous", sa.Integer(), server_default="0", nullable=False))
    personal = sa.text("anonymous = 0")
    op.create_index(
        "ix_sale_personal", "sale", ["closed_at"], unique=False, sqlite_where=personal, postgresql_where=personal
    )

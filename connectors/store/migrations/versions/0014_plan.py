"""Plan of a business: card operations used and allowed this month, and until when cafes have been told of it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    op.add_column("business", sa.Column("operations_used", sa.Integer(), nullable=True))
    op.add_column("business", sa.Column("operations_allowed", sa.Integer(), nullable=True))
    op.add_column("business", sa.Column("operations_until", sa.BigInteger(), nullable=False, server_default="0"))
    # due at once: of the businesses that are there already, nothing is known yet
    op.add_column("business", sa.Column("plan_next_at", sa.BigInteger(), nullable=False, server_default="0"))
    op.create_index("ix_business_plan_next", "business", ["plan_next_at"])
    op.add_column("watch", sa.Column("plan_near_told_until", sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("watch", sa.Column("plan_used_told_until", sa.BigInteger(), nullable=False, server_default="0"))

"""Quotas: of what a draft collected, the request that somebody chose is never pushed out."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.add_column("captured", sa.Column("chosen", sa.Integer(), server_default="0", nullable=False))

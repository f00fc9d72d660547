"""An index of redemptions by their vouchers: which of a card's vouchers are in use is asked for each gift."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    redemptions = sa.text("kind = 'voucher_redeemed'")
    op.create_index(
        "ix_operation_voucher", "operation", ["lane"], sqlite_where=redemptions, postgresql_where=redemptions
    )

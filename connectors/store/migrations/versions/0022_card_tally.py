"""How many cards were made and rewards earned on each day of a business: counted from the events that are kept."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"

_EVENTS = sa.text(
    "SELECT loyalty_event.business_id, loyalty_event.name, loyalty_event.at, business.zone FROM loyalty_event "
    "JOIN business ON business.id = loyalty_event.business_id "
    "WHERE loyalty_event.name IN ('card_issued', 'reward_issued') AND loyalty_event.at > 0"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def upgrade() -> None:
    table = op.create_table(
        "card_tally",
        sa.Column("business_id", sa.Text, nullable=False),
        sa.Column("day", sa.Text, nullable=False),
        sa.Column("issued", sa.Integer, nullable=False, server_default="0"),
        sa.Column("rewards", sa.Integer, nullable=False, server_default="0"),
        sa.PrimaryKeyConstraint("business_id", "day", name="pk_card_tally"),
    )
    session = op.get_bind()
    sums = Counter((row.business_id, _day(row.at, row.zone), row.name) for row in session.execute(_EVENTS))
    rows = [
        {
            "business_id": business_id,
            "day": day,
            "issued": sums[business_id, day, "card_issued"],
            "rewards": sums[business_id, day, "reward_issued"],
        }
        for business_id, day in sorted({(business_id, day) for business_id, day, _ in sums})
    ]
    if rows:
        session.execute(table.insert(), rows)


def _day(at: int, zone: str) -> str:
    return (_EPOCH + timedelta(microseconds=at)).astimezone(ZoneInfo(zone)).date().isoformat()

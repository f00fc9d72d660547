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
    "SELECT loyalty_event.business_id, loyalty_event.name, loyalty_event.at, loyalty_event.received_at, business.zone "
    "FROM loyalty_event "
    "JOIN business ON business.id = loyalty_event.business_id "
    "WHERE loyalty_event.name IN ('card_issued', 'reward_issued')"
)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BELIEVED = 366 * 86_400_000_000


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
    sums = Counter(
        (row.business_id, _day(row.at, row.received_at, row.zone), row.name) for row in session.execute(_EVENTS)
    )
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


def _day(at: int, received_at: int, zone: str) -> str:
    # as events are counted when they come: 7stamp may name a zone that this system lacks, or a time that cannot be
    moment = _EPOCH + timedelta(microseconds=at if abs(received_at - at) < _BELIEVED else received_at)
    try:
        return moment.astimezone(ZoneInfo(zone)).date().isoformat()
    except (KeyError, ValueError, OSError):
        return moment.date().isoformat()

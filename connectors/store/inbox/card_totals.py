"""Cards made and rewards earned of each day of a business, added up as 7stamp tells of them.

Owns the table `card_tally`: events are kept for a while only, and a page of numbers looks two months back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from sqlalchemy import select

from connector_sdk.loyalty import LoyaltyEvent
from connectors.domain.clock import DAY, micros
from connectors.domain.plan import local_day
from connectors.store.dialect import Insert, insert_into
from connectors.store.engine import Transaction
from connectors.store.inbox.loyalty_events import NewEvent
from connectors.store.schema import business_table, card_tally_table, loyalty_source_table

_COUNTED = {"card_issued": "issued", "reward_issued": "rewards"}
"""The column that an event is counted in."""
_BELIEVED = 366 * DAY


class DayOfCards(NamedTuple):
    """How many cards were made on a day, and how many rewards were earned."""

    issued: int = 0
    rewards: int = 0


def count(tx: Transaction, told: Sequence[NewEvent]) -> None:
    """Count events that came for the first time, on the day of their business; of most kinds nothing is counted."""
    counted = [(one.business_id, one.event) for one in told if one.event is not None and one.event.event in _COUNTED]
    if not counted:
        return
    zones = _zones(tx, {business_id for business_id, _ in counted})
    sums = Counter(
        (business_id, local_day(_moment(tx, event), zones[business_id]).isoformat(), event.event)
        for business_id, event in counted
    )
    days = {(business_id, day) for business_id, day, _ in sums}
    rows = [
        {
            "business_id": business_id,
            "day": day,
            **{column: sums[business_id, day, event] for event, column in _COUNTED.items()},
        }
        # in order, so that two writers lock the same rows in the same order on PostgreSQL
        for business_id, day in sorted(days)
    ]
    tx.run_each(_adding(tx.session.dialect.name), rows)


def _moment(tx: Transaction, event: LoyaltyEvent) -> int:
    """Return when it happened; when it was told, where it says a time that cannot be: no zone has the year 1."""
    at = micros(event.at)
    return at if abs(tx.now - at) < _BELIEVED else tx.now


def _zones(tx: Transaction, business_ids: set[str]) -> dict[str, str]:
    businesses = select(business_table.c.id, business_table.c.zone).where(business_table.c.id.in_(sorted(business_ids)))
    return {row.id: row.zone for row in tx.run(businesses)}


@cache
def _adding(dialect: str) -> Insert:
    insert = insert_into(dialect, card_tally_table)
    sums = {name: card_tally_table.c[name] + insert.excluded[name] for name in _COUNTED.values()}
    keys = [card_tally_table.c.business_id, card_tally_table.c.day]
    return insert.on_conflict_do_update(index_elements=keys, set_=sums)


def of_days(tx: Transaction, business_id: str, since: str) -> dict[str, DayOfCards] | None:
    """Map the days of a business from `since` (`2026-11-23`) on that have any to what was counted.

    `None` where 7stamp has told of nothing yet: that is not the same as that there were none.
    """
    source, totals = loyalty_source_table.c, card_tally_table.c
    on = (totals.business_id == source.business_id) & (totals.day >= since)
    days = (
        select(totals.day, totals.issued, totals.rewards)
        .select_from(loyalty_source_table.outerjoin(card_tally_table, on))
        .where(source.business_id == business_id, source.last_event_at.is_not(None))
    )
    rows = tx.run(days).all()
    return {row.day: DayOfCards(row.issued, row.rewards) for row in rows if row.day is not None} if rows else None

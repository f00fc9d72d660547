"""The last days of a connection as its page shows them: what was counted, and what nobody has of today.

Owns no state; one query, whose part of today goes by the index of when receipts were closed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select

from connectors.store.engine import Transaction
from connectors.store.ledger import daily_totals
from connectors.store.ledger.daily_totals import DayTotals
from connectors.store.queries.receipts import is_missed
from connectors.store.schema import sale_table, tally_table


@dataclass(frozen=True, slots=True)
class CountedDays:
    """What was counted on each day that has anything, and of today what nobody has."""

    totals: Mapping[str, DayTotals]
    missed_receipts: int = 0
    """Today's receipts that earn stamps, and on which nobody was attached."""
    missed_stamps: int = 0


def recent_days(tx: Transaction, connection_id: str, since: str, today: tuple[int, int]) -> CountedDays:
    """Read the days from `since` (`2026-11-23`) on; `today` from its beginning to its end (UTC microseconds)."""
    missed = is_missed(connection_id, today)
    # a day with a receipt has totals, so that these come with at least one row where they are not 0
    receipts = select(func.count()).where(missed).scalar_subquery().label("missed_receipts")
    stamps = select(func.coalesce(func.sum(sale_table.c.stamps), 0)).where(missed).scalar_subquery()
    days = select(tally_table, receipts, stamps.label("missed_stamps")).where(
        tally_table.c.connection_id == connection_id, tally_table.c.day >= since
    )
    rows = tx.run(days).all()
    totals = {row.day: daily_totals.of_row(row) for row in rows}
    return CountedDays(totals, rows[0].missed_receipts, int(rows[0].missed_stamps)) if rows else CountedDays(totals)

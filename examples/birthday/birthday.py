"""Give twice as many stamps on the venue's birthday, in its own time zone.

Set VENUE_BIRTHDAY to a day of the year, as in 11-24.
"""

from __future__ import annotations

import os
from zoneinfo import ZoneInfo

from connector_sdk import Sale, hookimpl
from connector_sdk.hookspecs import ConnectionFacts


@hookimpl
def stamps_for_sale(connection: ConnectionFacts, sale: Sale, stamps: int) -> int | None:
    """Double the rule's stamps on the birthday; `None` leaves every other day to the rule."""
    if sale.closed_at is None:
        return None
    # the day as it was in the venue when the receipt was closed: in UTC it may be another one
    day = sale.closed_at.astimezone(ZoneInfo(connection.zone)).strftime("%m-%d")
    return stamps * 2 if day == os.environ.get("VENUE_BIRTHDAY") else None

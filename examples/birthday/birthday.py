"""Twice as many stamps on the venue's birthday, in its own time zone.

Set VENUE_BIRTHDAY to a day of the year, as in 11-24.
"""

from __future__ import annotations

import os
from zoneinfo import ZoneInfo

from connector_sdk import ConnectionFacts, Sale, hookimpl


@hookimpl
def stamps_for_sale(connection: ConnectionFacts, sale: Sale, stamps: int) -> int | None:
    if sale.closed_at is None:
        return None
    day = sale.closed_at.astimezone(ZoneInfo(connection.zone)).strftime("%m-%d")
    return stamps * 2 if day == os.environ.get("VENUE_BIRTHDAY") else None

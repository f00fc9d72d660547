"""All pages of the console."""

from __future__ import annotations

from connectors.web.console import connecting, doors, keeping, live, operating, passkeys, receipts, teaching

PAGES = (
    doors.pages,
    passkeys.pages,
    connecting.pages,
    teaching.pages,
    live.pages,
    receipts.pages,
    keeping.pages,
    operating.pages,
)

"""All pages of the console."""

from __future__ import annotations

from connectors.web.console import connecting, doors, keeping, live, operating, receipts

PAGES = (doors.pages, connecting.pages, live.pages, receipts.pages, keeping.pages, operating.pages)

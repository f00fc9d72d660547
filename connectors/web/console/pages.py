"""All pages of the console."""

from __future__ import annotations

from connectors.web.console import (
    connecting,
    doors,
    forgetting,
    keeping,
    live,
    operating,
    passkeys,
    quotas_page,
    receipts,
    security_log,
    teaching,
)

PAGES = (
    doors.pages,
    passkeys.pages,
    security_log.pages,
    connecting.pages,
    teaching.pages,
    live.pages,
    receipts.pages,
    keeping.pages,
    forgetting.pages,
    operating.pages,
    quotas_page.pages,
)

"""The security log: a business reads who came in to its own pages, the operator everything.

Owns the page; the rows and how long they are kept are `connectors.store.security`'s.
"""

from __future__ import annotations

from starlette.responses import Response

from connectors.store import access
from connectors.web.console.frame import Pages, Visit

pages = Pages()

_ROWS = 50


@pages.get("/security")
async def security_log(visit: Visit) -> Response:
    mine, before = visit.me.visitor.business_id, _row(visit.request.query_params.get("before", ""))
    events = await visit.host.store.read(
        lambda tx: access.security_log.list_newest(tx, mine, before=before, limit=_ROWS + 1)
    )
    shown = events[:_ROWS]
    return visit.page(
        "security_log.html",
        title=visit.words.text("Security log") if visit.me.operator else visit.words.text("Who came in"),
        events=shown,
        before=before,
        older=shown[-1].seq if len(events) > _ROWS else None,
        days=visit.host.settings.security_log_days,
        strangers=access.security_log.OF_STRANGERS,
    )


def _row(text: str) -> int | None:
    """Return the row number that an address names; `None` where it names none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None

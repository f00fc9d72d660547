"""The page of the security log: a business reads who came in to its own pages, the operator everything.

Owns the page; `security_events` tells the log what happens in the console, the store keeps its rows.
"""

from __future__ import annotations

from starlette.responses import Response

from connectors.store import access
from connectors.web.console.routing import Router
from connectors.web.console.visit import Visit

router = Router()

_EVENTS_PER_PAGE = 50
_MAX_DIGITS = 15  # the store's numbers of rows are 64 bits wide


@router.get("/security")
async def security_log(visit: Visit) -> Response:
    """List the newest events, or those before the row that the address names."""
    business_id = visit.principal.business_id
    before = _row_number(visit.request.query_params.get("before", ""))
    # one more than is shown tells whether there are older ones
    events = await visit.host.store.read(
        lambda tx: access.security_log.list_newest(tx, business_id, before=before, limit=_EVENTS_PER_PAGE + 1)
    )
    shown = events[:_EVENTS_PER_PAGE]
    return visit.render(
        "security_log.html",
        title=_title(visit),
        events=shown,
        before=before,
        older=shown[-1].seq if len(events) > _EVENTS_PER_PAGE else None,
        days=visit.host.settings.security_log_days,
        strangers=access.security_log.OF_STRANGERS,
    )


def _title(visit: Visit) -> str:
    if visit.signed_in_session.operator:
        return visit.localizer.text("Security log")
    return visit.localizer.text("Sign-ins and refusals")


def _row_number(text: str) -> int | None:
    """Parse the number of a row from an address; `None` where it is none."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else None

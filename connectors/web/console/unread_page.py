"""The page of what arrived for a connection and could not be read: why, and what can be done with it.

Owns the page; the requests and reading them again are `connectors.services.review`'s.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.services import Refusal
from connectors.store import queries
from connectors.web.console.routing import Role, Router
from connectors.web.console.sample_view import setting_title
from connectors.web.console.visit import Visit

router = Router()


@router.get("/connections/{connection}/unread", Role.manager)
async def unread_page(visit: Visit) -> Response:
    """List what could not be read, newest first, each with the setting that the reason is about."""
    overview = await visit.load_overview()
    connection = overview.connection
    rows = await visit.services.review.list_unread(connection.id, queries.operations.MOST)
    # a connector that was uninstalled leaves its requests: they are listed, and wait
    connector_class = visit.host.plugins.classes.get(connection.connector)
    return visit.render(
        "unread.html",
        connection=connection,
        rows=rows,
        titles={row.where: _setting_title(visit, connection, row.where) for row in rows},
        number=overview.unread,
        teaches=connector_class is not None and connector_class.teaching is not None,
        days=visit.host.settings.keep_bodies_days,
    )


def _setting_title(visit: Visit, connection: Connection, where: str) -> str:
    """Return what the form calls the setting that a reason is about; empty where it has none."""
    connector_class = visit.host.plugins.classes.get(connection.connector)
    if connector_class is None or connector_class.teaching is None:
        return ""
    return setting_title(connector_class, connector_class.teaching.named(where), default="")


@router.post("/connections/{connection}/unread", Role.manager)
async def retry_unread(visit: Visit) -> Response:
    """Read one of them once more, or all, with the settings as they are now; or delete one that is no sale."""
    connection = (await visit.load_overview()).connection
    page, request_id = f"/connections/{connection.id}/unread", visit.form.get("kept")
    if "leave" in visit.form and request_id:
        await visit.services.review.discard_unread(connection.id, [request_id])
        return visit.redirect(page, Message("It is not kept any more."))
    try:
        result = await visit.services.review.retry_unread(connection.id, [request_id] if request_id else None)
    except Refusal as error:
        return visit.redirect(page, error.message, "bad")
    # the worst first: who has tried all wants to know what is left
    if result.still_unread:
        notice = Message("unread.still", {"count": result.still_unread, "read": result.read})
        return visit.redirect(page, notice, "bad")
    if result.asked:
        return visit.redirect(page, Message("The till is asked once more: what it says shows with its receipts."))
    return visit.redirect(page, Message("unread.read", {"count": result.read}))

"""The page after a till was connected: where it sends its sales, its first receipt, and whom to write to.

Owns that page and the part of it that waits for the first receipt.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from connectors.domain.connection import Connection
from connectors.store import connections, queries
from connectors.store.queries.overviews import Overview
from connectors.store.queries.receipts import Receipt
from connectors.web.console.routing import Router
from connectors.web.console.visit import Visit

router = Router()


@dataclass(frozen=True, slots=True)
class FirstReceipt:
    """The first receipt closed since a connection was made, `None` until it comes; `unread` requests came instead."""

    connection: Connection
    receipt: Receipt | None
    unread: int


@router.get("/connections/{connection}/welcome")
async def welcome(visit: Visit) -> Response:
    """Show what to do at the till, and its first receipt as soon as it comes."""
    overview = await visit.load_overview()
    connection = overview.connection
    first = await _find_first_receipt(visit, overview)
    if visit.request.query_params.get("part") == "now":
        return visit.render("_first_receipt.html", connection=connection, first=first)
    info = visit.services.connector_class(connection.connector).info
    # where one address serves all cafes the operator has set it: the cafe has nothing to do
    own_address = info.hook_address == "connection"
    return visit.render(
        "welcome.html",
        connection=connection,
        first=first,
        title=visit.localizer.text(info.title),
        attach=info.attach_customer,
        hook=visit.services.connections.hook_url(connection) if own_address else None,
        steps=info.hook_steps if own_address else (),
        watch=await visit.host.store.read(lambda tx: connections.alerts.watch_of(tx, connection.id)),
        mail_set=visit.host.settings.smtp_url is not None,
        errors={},
    )


async def _find_first_receipt(visit: Visit, overview: Overview) -> FirstReceipt:
    connection = overview.connection
    # the page asks every few seconds; the till is read sooner than its turn, but no oftener than it bears
    await visit.services.sync.poll_soon(connection.id)
    receipt = await visit.host.store.read(
        lambda tx: queries.receipts.first_closed_since(tx, connection.id, connection.began_at)
    )
    return FirstReceipt(connection, receipt, overview.unread)

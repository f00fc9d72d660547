"""The page of the address at which a connection's till sends its sales: what it is, and a new one.

Owns the page; addresses and how long a former one lives are the registry's.
"""

from __future__ import annotations

from datetime import timedelta

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.retry_pauses import FORMER_ADDRESS_LIVES
from connectors.services import Refusal
from connectors.web.console.routing import Router
from connectors.web.console.visit import PageNotFound, Visit

router = Router()


@router.get("/connections/{connection}/address")
async def address_page(visit: Visit) -> Response:
    """Show the address, what renewing it does, and until when the one before lives."""
    connection = (await visit.load_overview()).connection
    # where one address serves all cafes, it is the operator's to set and nobody's to renew
    if visit.services.connector_class(connection.connector).info.hook_address != "connection":
        raise PageNotFound
    hours = timedelta(microseconds=FORMER_ADDRESS_LIVES) // timedelta(hours=1)
    hook = visit.services.connections.hook_url(connection)
    return visit.render("address.html", connection=connection, hook=hook, hours=hours)


@router.post("/connections/{connection}/address")
async def renew_address(visit: Visit) -> Response:
    """Make a new address; the one before lives on for a while, so that no sale is lost meanwhile."""
    connection = (await visit.load_overview()).connection
    page = f"/connections/{connection.id}"
    try:
        await visit.services.connections.renew_hook_address(connection.id)
    except Refusal as error:
        return visit.redirect(f"{page}/settings", error.message, "bad")
    return visit.redirect(f"{page}/address", Message("Here is the new address. Give it to your till."))

"""The page on which a connection is ended: what goes, what stays, and a key once more.

Owns the page; what is removed is `connectors.services.connections`'.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.web.console.confirmation import confirmation_error
from connectors.web.console.routing import Router
from connectors.web.console.visit import Visit

router = Router()


@router.get("/connections/{connection}/disconnect")
async def disconnect_page(visit: Visit) -> Response:
    """Tell what goes and what stays, and ask for a key."""
    connection = (await visit.load_overview()).connection
    return visit.render("disconnect.html", connection=connection, errors={})


@router.post("/connections/{connection}/disconnect")
async def disconnect(visit: Visit) -> Response:
    """End a connection; what was given stays on the cards."""
    connection = (await visit.load_overview()).connection
    if error := await confirmation_error(visit, connection):
        return visit.render("disconnect.html", 422, connection=connection, errors={"secret": error})
    # whoever disconnects forgets the till's token too: the next page cannot be the connection's
    await visit.services.connections.remove(connection.id)
    return visit.redirect("/", Message("Disconnected. What was given stays on the cards."))

"""The choice about a venue that the till has opened: its stamps count here, or nowhere.

Owns the two buttons of the notice on a connection's page; what they change is `connectors.services.connections`'.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.services import Refusal
from connectors.store.errors import AlreadyConnected
from connectors.web.console.onboarding import location_taken
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()


@router.post("/connections/{connection}/venues/{venue}/take", Role.manager, page="/connections/{connection}")
async def take_venue(visit: Visit) -> Response:
    """Have a venue's receipts give stamps here from now on."""
    connection = (await visit.load_overview()).connection
    page = f"/connections/{connection.id}"
    try:
        await visit.services.connections.take_venue(connection.id, visit.path_params["venue"])
    except Refusal as error:
        return visit.redirect(page, error.message, "bad")
    except AlreadyConnected:
        return visit.redirect(page, Message(location_taken(visit)), "bad")
    return visit.redirect(page, Message("Its sales give stamps here from now on."))


@router.post("/connections/{connection}/venues/{venue}/leave", Role.manager, page="/connections/{connection}")
async def leave_venue(visit: Visit) -> Response:
    """Leave a venue out, and ask no more."""
    connection = (await visit.load_overview()).connection
    try:
        await visit.services.connections.leave_venue(connection.id, visit.path_params["venue"])
    except Refusal as error:
        return visit.redirect(f"/connections/{connection.id}", error.message, "bad")
    return visit.redirect(f"/connections/{connection.id}", Message("Left out. The settings have it, if that changes."))

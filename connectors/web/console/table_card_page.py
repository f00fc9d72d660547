"""The table card: a page to print, whose QR code leads to where a customer types what stands on the receipt.

Owns that page; the link is `connectors.services.claims`'.
"""

from __future__ import annotations

from starlette.responses import Response

from connectors.web.console.routing import Router
from connectors.web.console.visit import Visit

router = Router()


@router.get("/connections/{connection}/table-card")
async def table_card(visit: Visit) -> Response:
    """Show the card of a place; of the whole account where the address names none."""
    connection = (await visit.load_overview()).connection
    location_id = visit.request.query_params.get("location") or None
    link = await visit.services.claims.venue_link(connection, location_id)
    names = {location.id: location.name for location in connection.account.locations}
    return visit.render(
        "table_card.html",
        connection=connection,
        link=link,
        # by its path: the page's own origin is where the picture comes from
        picture=f"/r/{link.rpartition('/')[2]}.svg",
        place=names.get(location_id or "", ""),
    )

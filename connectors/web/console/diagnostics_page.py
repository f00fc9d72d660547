"""The page from which a file for support is downloaded, with what is in it.

Owns the page and the answer's headers; the file is `connectors.diagnostics`'.
"""

from __future__ import annotations

from starlette.responses import Response

from connectors.diagnostics import CONTENTS
from connectors.web.console.confirmation import confirmation_error
from connectors.web.console.routing import Router
from connectors.web.console.visit import Visit

router = Router()


@router.get("/connections/{connection}/diagnostics")
async def diagnostics_page(visit: Visit) -> Response:
    """Tell what is in the file, and ask for a key."""
    connection = (await visit.load_overview()).connection
    return visit.render("diagnostics.html", connection=connection, contents=CONTENTS, errors={})


@router.post("/connections/{connection}/diagnostics")
async def diagnostics(visit: Visit) -> Response:
    """Answer with the file, a zip."""
    connection = (await visit.load_overview()).connection
    if error := await confirmation_error(visit, connection):
        errors = {"secret": error}
        return visit.render("diagnostics.html", 422, connection=connection, contents=CONTENTS, errors=errors)
    body = await visit.services.connections.diagnostics(connection.id)
    # named by the connection: whoever helps sees several of these
    headers = {"Content-Disposition": f'attachment; filename="7stamp-{connection.id}.zip"'}
    return Response(body, media_type="application/zip", headers=headers)

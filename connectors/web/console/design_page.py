"""The page of what pages are built from: colours, type, space and parts as they are drawn, for whoever makes a page.

Owns the page; the parts are the stylesheet's and the templates'.
"""

from __future__ import annotations

import re

from starlette.responses import Response

from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()

_PIXELS = 16
_COLOUR = re.compile(r"^--([a-z-]+): #[0-9a-f]{6};$", re.MULTILINE)
_SPACE = re.compile(r"^--space-[0-9]: ([0-9.]+)rem;$", re.MULTILINE)


@router.get("/operator/design", Role.operator)
async def design(visit: Visit) -> Response:
    """Show the parts; what the stylesheet names is read from it, so that nothing here is said twice."""
    styles = visit.console.static_files.files["console.css"].body.decode()
    return visit.render(
        "design.html",
        # each is there twice, for light and for dark
        colours=dict.fromkeys(_COLOUR.findall(styles)),
        spaces=[float(space) * _PIXELS for space in _SPACE.findall(styles)],
        tills=[connector_class.info for connector_class in visit.services.offered_connectors()],
        errors={"line": visit.localizer.text("Choose a day.")},
    )

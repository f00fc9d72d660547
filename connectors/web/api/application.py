"""The API's application, with its description (OpenAPI 3.1) at `/api/v1/openapi.json`.

Owns how the calls are put together; the console's application mounts it.
"""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI, Request
from starlette.responses import JSONResponse, Response

from connectors.runtime.host import Host
from connectors.web.api import calls, card_calls, subscription_calls, till_calls
from connectors.web.api.access import Gate
from connectors.web.api.problems import handle_problems

PATH = "/api/v1"
ROUTERS = (calls.router, card_calls.router, till_calls.router, subscription_calls.router)
_DESCRIPTION = (
    "What programs may ask and do for a business of 7stamp connectors. Every call needs a bearer token, which opens "
    "one business and has some of the rights read, act, subscribe and sell. Refusals are problems (RFC 9457) with a "
    "stable `code`. Lists go by cursor: send `next` of a page as `cursor`."
)


def build_api(host: Host) -> FastAPI:
    """Build the API of a host that is open."""
    api = _application()
    api.state.gate = Gate(host)

    @api.get("/openapi.json", include_in_schema=False)
    async def description(_request: Request) -> Response:
        return JSONResponse(api.openapi())

    return api


def openapi_description() -> dict[str, Any]:
    """Return the description of the API."""
    return _application().openapi()


def _application() -> FastAPI:
    # no pages of FastAPI's own: they load scripts from elsewhere. No CORS: browsers of others' pages are not let in.
    api = FastAPI(
        title="7stamp connectors",
        version="1",
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        root_path_in_servers=False,
        servers=[{"url": PATH}],
    )
    handle_problems(api, ROUTERS)
    for router in ROUTERS:
        api.include_router(router)
    return api

"""The web application: hooks of tills, the console, liveness and readiness.

Owns bounds on what is read; what a hook means is `connectors.sync.hooks`'s.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from starlette.requests import ClientDisconnect

from connector_sdk.hooks import Answer, HookRequest
from connectors.runtime.host import Host
from connectors.web.console.frame import make, mount
from connectors.web.console.pages import PAGES
from connectors.web.forwarded import NoticeForwarded
from connectors.web.reading import read_body

MOST_BODY = 256 * 1024
_METHODS = ["GET", "HEAD", "POST"]


def application(host: Host) -> FastAPI:
    """The application of a host that is open; it runs the background work as long as it serves."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await host.start()
        try:
            yield
        finally:
            await host.stop()

    app = FastAPI(title="7stamp connectors", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    @app.api_route("/hooks/tills/{connector}", methods=_METHODS)
    async def connector_hook(connector: str, request: Request) -> Response:
        hook = await _hook(request)
        return _response(await host.hooks.for_connector(connector, hook) if hook else _TOO_LARGE)

    @app.api_route("/hooks/tills/{connector}/{token}", methods=_METHODS)
    async def connection_hook(connector: str, token: str, request: Request) -> Response:
        hook = await _hook(request)
        return _response(await host.hooks.for_connection(connector, token, hook) if hook else _TOO_LARGE)

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive", "started": str(host.started)}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str]:
        if await host.ready():
            return {"status": "ready"}
        response.status_code = 503
        return {"status": "not ready"}

    mount(app, make(host), *PAGES)
    app.add_middleware(NoticeForwarded, host=host)
    return app


_TOO_LARGE = Answer(413, b'{"error":"a hook has at most 256 KiB"}')


async def _hook(request: Request) -> HookRequest | None:
    """The request with its body, or `None` where that is over the bound."""
    try:
        body = await read_body(request, MOST_BODY)
    except ClientDisconnect:
        return None  # nobody is there to be answered
    if body is None:
        return None
    return HookRequest(
        request.method,
        {name.lower(): value for name, value in request.headers.items()},
        dict(request.query_params),
        body,
    )


def _response(answer: Answer) -> Response:
    headers = {"X-Content-Type-Options": "nosniff"}
    if answer.retry_after is not None:
        headers["Retry-After"] = str(answer.retry_after)
    return Response(answer.body, answer.status, headers, answer.content_type)

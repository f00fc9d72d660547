"""The web application: hooks of tills and of 7stamp, the API, the console, liveness and readiness.

Owns bounds on what is read; what a hook means is `connectors.sync.hooks`'s, and the console's pages are in `console`.
"""

from __future__ import annotations

import contextlib
import logging
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from fastapi.exception_handlers import http_exception_handler
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from connector_sdk.hooks import Answer, HookRequest
from connectors.runtime.host import Host
from connectors.store.errors import StoreError, Unusable
from connectors.web.api.application import PATH as API_PATH
from connectors.web.api.application import build_api
from connectors.web.api.problems import problem_of
from connectors.web.console.routers import ROUTERS
from connectors.web.console.routing import mount
from connectors.web.console.state import build_console
from connectors.web.request_input import read_body
from connectors.web.untrusted_proxies import UntrustedProxyCounter

log = logging.getLogger(__name__)

PathParams = Mapping[str, str]

MOST_BODY = 256 * 1024
_OUTAGE_SECONDS = 5
# some tills ask the address with GET or HEAD before they post to it
_METHODS = ["GET", "HEAD", "POST"]


def application(host: Host, *, works: bool = True) -> FastAPI:
    """Return the application of a host that is open; it runs the background work as long as it serves.

    On a database server it leaves the work to workers where it does not `works` itself.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        await host.start(works=works)
        try:
            yield
        finally:
            await host.stop()

    # no pages of FastAPI's own: they load scripts from elsewhere
    app = FastAPI(title="7stamp connectors", lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    _add_hooks(app, host)
    _add_probes(app, host)
    _add_metrics(app, host)
    app.add_exception_handler(HTTPException, _answer_missing)
    app.add_exception_handler(Unusable, _answer_outage)
    # before the console, which answers every address that nobody else has
    app.mount(API_PATH, build_api(host))
    mount(app, build_console(host), *ROUTERS)
    app.add_middleware(UntrustedProxyCounter, host=host)
    return app


def probes(host: Host) -> FastAPI:
    """Return what a worker answers: whether it lives and works, and its metrics."""
    app = FastAPI(title="7stamp connectors worker", docs_url=None, redoc_url=None, openapi_url=None)
    _add_probes(app, host)
    _add_metrics(app, host)
    return app


async def _answer_outage(_request: Request, error: Exception) -> Response:
    """Answer while the database cannot be used: tills and 7stamp post again what was not taken."""
    log.warning("a request could not be answered: %s", error)
    headers = {"Retry-After": str(_OUTAGE_SECONDS)}
    return Response(b'{"error":"try again in a moment"}', 503, headers, media_type="application/json")


async def _answer_missing(request: Request, error: Exception) -> Response:
    """Answer what no route takes: below the API's address as the API does, also where the path holds a line break."""
    if request.scope["path"].startswith(f"{API_PATH}/") or not isinstance(error, HTTPException):
        return problem_of(error).response()
    return await http_exception_handler(request, error)


def _add_hooks(app: FastAPI, host: Host) -> None:
    """Add where tills post (one address for all accounts, and one for each connection), and where 7stamp does."""

    async def connector_hook(path: PathParams, hook: HookRequest) -> Answer:
        return await host.hooks.for_connector(path["connector"], hook)

    async def connection_hook(path: PathParams, hook: HookRequest) -> Answer:
        return await host.hooks.for_connection(path["connector"], path["token"], hook)

    async def loyalty_hook(path: PathParams, hook: HookRequest) -> Answer:
        return await host.loyalty_hooks.take(path["token"], hook)

    app.router.routes += [
        Route("/hooks/tills/{connector}", _HookAddress(connector_hook, host), methods=_METHODS),
        Route("/hooks/tills/{connector}/{token}", _HookAddress(connection_hook, host), methods=_METHODS),
        Route("/hooks/7stamp/{token}", _HookAddress(loyalty_hook, host), methods=["POST"]),
    ]


class _HookAddress:
    """An ASGI application that reads a hook and answers it.

    It is no endpoint of FastAPI, which would take a fifth of a hook's time to find out that it has no parameters.
    """

    def __init__(self, take: Callable[[PathParams, HookRequest], Awaitable[Answer]], host: Host) -> None:
        self._take = take
        self._host = host

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one hook."""
        hook = await _hook(Request(scope, receive), self._host.public_url)
        answer = await self._take(scope["path_params"], hook) if hook else _TOO_LARGE
        await _response(answer)(scope, receive, send)


def _add_probes(app: FastAPI, host: Host) -> None:
    """Add what a supervisor or a load balancer asks: whether the process lives, and whether it does its work."""

    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        return {"status": "alive", "started": str(host.started)}

    @app.get("/readyz")
    async def readyz(response: Response) -> dict[str, str]:
        with contextlib.suppress(StoreError):
            if await host.ready():
                return {"status": "ready"}
        response.status_code = 503
        return {"status": "not ready"}


def _add_metrics(app: FastAPI, host: Host) -> None:
    """Add what Prometheus asks, for whoever has the token; without one it answers nobody."""
    from connectors.runtime.metrics import CONTENT_TYPE, Metrics

    metrics = Metrics(host.store)
    host.store.measures = metrics

    @app.get("/metrics")
    async def read_metrics(request: Request) -> Response:
        token, given = host.settings.metrics_token, request.headers.get("authorization", "")
        if token is None or not secrets.compare_digest(given.encode(), f"Bearer {token.get_secret_value()}".encode()):
            raise HTTPException(404)  # whoever may not know is not told that there is something
        return Response(await metrics.text(), media_type=CONTENT_TYPE)


_TOO_LARGE = Answer(413, b'{"error":"a hook has at most 256 KiB"}')


async def _hook(request: Request, public_url: str) -> HookRequest | None:
    """Return the request with its body, or `None` where that is over the bound."""
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
        # as the operator has it: what a proxy, or whoever sends, says of the host's name counts for nothing
        f"{public_url}{request.url.path}" + (f"?{request.url.query}" if request.url.query else ""),
    )


def _response(answer: Answer) -> Response:
    # what a till is answered may repeat what was sent: no browser is to take it for a page
    headers = {"X-Content-Type-Options": "nosniff"}
    if answer.retry_after is not None:
        headers["Retry-After"] = str(answer.retry_after)
    return Response(answer.body, answer.status, headers, answer.content_type)

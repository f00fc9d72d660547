"""The way of a request from its address to a handler, and of the handler's errors to a page.

Owns that no handler runs for somebody who may not call it: a route says who may, and a posted form must carry this
browser's CSRF token. What the handlers do is the pages'.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import quote, urlsplit

from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from connectors.isolation import CallFailed
from connectors.services import Refusal
from connectors.store import access
from connectors.store.access.sessions import Principal, Session, StaffRole
from connectors.store.errors import NotFound, StoreError
from connectors.web.console.localization import Localizer, language_for, zone_of
from connectors.web.console.posted_form import MAX_FORM_BYTES, PostedForm, read_form
from connectors.web.console.rendering import set_security_headers
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.state import Console
from connectors.web.console.visit import PageNotFound, Visit
from connectors.web.request_input import read_cookie

log = logging.getLogger(__name__)

CSRF_FIELD = "proof"
SAVED_FORM_FIELD = "kept"


class Role(StrEnum):
    """Who may call a handler."""

    anyone = "anyone"
    """Everybody, signed in or not: the pages of signing in and out, and the choice of a language."""
    counter = "counter"
    """Whoever has a session; others are sent to sign in first."""
    manager = "manager"
    """Managers and owners of a business, and the operator; a colleague at the counter is told whom to ask."""
    owner = "owner"
    """Owners of a business, and the operator; other colleagues are told whom to ask."""
    operator = "operator"
    """Whoever has a session of the operator; for a business there is no such page."""

    def lets_in(self, principal: Principal) -> bool:
        """Tell whether somebody who is signed in may call a handler of this role."""
        if self in (Role.anyone, Role.operator):
            return self is Role.anyone or principal.business_id is None
        return principal.role.may_act_as(StaffRole(self))


Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Route:
    """A handler with its method and path, and what is asked of a request before the handler runs."""

    method: str
    path: str
    role: Role
    handler: Handler
    page: str
    """The path of the page that shows a form of this route: one returns there after signing in again."""
    max_bytes: int = MAX_FORM_BYTES
    """How many bytes a posted form may have."""
    takes_file: bool = False
    """Whether a form may carry a file."""
    camera: bool = False
    """Whether the page may ask for the camera."""


class Router:
    """The routes of one module of pages, declared by decorators over their handlers.

    A route is an owner's unless it says otherwise.
    """

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def get(self, path: str, role: Role = Role.owner, *, camera: bool = False) -> Callable[[Handler], Handler]:
        """Declare the handler of a page."""
        return self._declare("GET", path, role, path, camera=camera)

    def post(
        self,
        path: str,
        role: Role = Role.owner,
        *,
        page: str | None = None,
        max_bytes: int = MAX_FORM_BYTES,
        takes_file: bool = False,
    ) -> Callable[[Handler], Handler]:
        """Declare the handler of a form, which the page at `page` shows (the same path unless given)."""
        return self._declare("POST", path, role, page or path, max_bytes, takes_file=takes_file)

    def _declare(
        self,
        method: str,
        path: str,
        role: Role,
        page: str,
        max_bytes: int = MAX_FORM_BYTES,
        *,
        takes_file: bool = False,
        camera: bool = False,
    ) -> Callable[[Handler], Handler]:
        def declare(handler: Handler) -> Handler:
            self.routes.append(Route(method, path, role, handler, page, max_bytes, takes_file, camera))
            return handler

        return declare


def mount(app: FastAPI, console: Console, *routers: Router) -> None:
    """Add the pages and the static files to an application."""
    routes = [route for router in routers for route in router.routes]
    # the framework takes the first path that matches: `/connect/return` must come before `/connect/{draft}`
    for route in sorted(routes, key=lambda route: route.path.count("{")):
        _add_route(app, console, route)

    async def static_file(request: Request) -> Response:
        return console.static_files.response(request.path_params["name"])

    async def worker(_request: Request) -> Response:
        # at the root, because a worker serves what is below its own path; asked for anew each time
        response = console.static_files.response("worker.js")
        response.headers["Cache-Control"] = "no-cache"
        return response

    app.add_route("/static/{name}", static_file, methods=["GET"], include_in_schema=False)
    app.add_route("/worker.js", worker, methods=["GET"], include_in_schema=False)
    _add_route(app, console, Route("GET", "/{anything:path}", Role.anyone, _not_found, "/"))


async def _not_found(_visit: Visit) -> Response:
    raise PageNotFound


def _add_route(app: FastAPI, console: Console, route: Route) -> None:
    async def endpoint(request: Request) -> Response:
        response = await _respond(console, route, request)
        is_https = console.clients.is_https(request)
        set_security_headers(response, console.form_action, https=is_https, camera=route.camera)
        return response

    app.add_route(route.path, endpoint, methods=[route.method], include_in_schema=False)


# --- from a request to a visit --------------------------------------------------------------------------------------

# The order of the checks is a bound on what a stranger can cost: the form is read within its size before anything is
# looked up, the session is one read of the store, and only then the request takes one of the few places that its
# sender has among the requests that are rendered at once.


async def _respond(console: Console, route: Route, request: Request) -> Response:
    try:
        form = (
            await read_form(request, route.max_bytes, takes_file=route.takes_file)
            if route.method == "POST"
            else PostedForm()
        )
    except ClientDisconnect:
        return Response(status_code=400)
    if form is None:
        return Response(f"a form has at most {route.max_bytes // 1024} KiB", 413, media_type="text/plain")
    if "\x00" in request.url.path or "%00" in request.url.query:  # PostgreSQL takes no NUL in a text
        return Response(status_code=404)
    # what a page fetches by itself does not keep a session alive that nobody uses any more
    session = await console.auth.find_session(request, used=not _is_background(request))
    async with console.concurrency.slot(_client_key(console, request, session)):
        return await _respond_in_session(console, route, request, session, form)


def _is_background(request: Request) -> bool:
    """Tell whether a page asks by itself, for a part of it or for its live stream, and not a person by a click."""
    return bool(request.query_params.get("part")) or request.url.path.endswith("/events")


def _client_key(console: Console, request: Request, session: Session | None) -> str:
    """Name whose requests this one waits with: those of a business, of an operator's session or of an address."""
    if session is None:
        return f"address {console.clients.address(request)}"
    business_id = session.principal.business_id
    return f"session {session.id_hash}" if business_id is None else f"business {business_id}"


async def _respond_in_session(
    console: Console, route: Route, request: Request, session: Session | None, form: PostedForm
) -> Response:
    """Answer a request, and give a browser that has none yet the cookie that its CSRF token is made from."""
    browser = console.csrf.identify_browser(request)
    localizer = _localizer(console, request, session)
    visit = Visit(console, request, session, localizer, form, console.csrf.token(browser.id))
    response = await _call_handler(visit, route)
    # only with pages: a file or an event that is fetched beside a first page would set another cookie over the page's
    if browser.is_new and "text/html" in response.headers.get("content-type", ""):
        console.csrf.set_browser_cookie(request, response, browser.id)
    return response


def _localizer(console: Console, request: Request, session: Session | None) -> Localizer:
    """Return the texts and formats of whoever asks; times are in UTC until a business or a venue is known."""
    catalogue, accepted = console.host.words, request.headers.get("accept-language", "")
    language = language_for(catalogue, read_cookie(request, "language"), accepted)
    zone = zone_of(session.principal.zone if session else "UTC")
    return Localizer(catalogue, language, zone, console.host.store.clock.now())


# --- from a visit to an answer --------------------------------------------------------------------------------------


async def _call_handler(visit: Visit, route: Route) -> Response:
    """Call a route's handler for somebody who may, and turn what it raises into a page."""
    try:
        return await _reject(visit, route) or await route.handler(visit)
    except Exception as error:  # noqa: BLE001 - whatever a handler raises, a person gets a page
        return _error_page(visit, route, error)


async def _reject(visit: Visit, route: Route) -> Response | None:
    """Return the answer to a request that must not reach its handler; `None` to one that may.

    Raises `PageNotFound` where not even the existence of the page is the sender's to know.
    """
    if route.role is not Role.anyone and visit.session is None:
        return await _sign_in_first(visit, route)
    if visit.session is not None and not route.role.lets_in(visit.principal):
        if route.role is Role.operator:
            raise PageNotFound
        return await _not_allowed(visit, route)
    if route.method == "POST" and not _has_csrf_token(visit):
        return visit.render("stale.html", 403)
    return None


async def _not_allowed(visit: Visit, route: Route) -> Response:
    """Tell a colleague that their role may not do this, and whom to ask."""
    if _is_background(visit.request):
        return Response(status_code=403)
    business_id, colleague_id = visit.principal.business_id, visit.principal.colleague_id or ""
    colleague = await visit.host.store.read(lambda tx: access.colleagues.get(tx, colleague_id, business_id))
    asks = colleague.invited_by if colleague is not None else ""
    return visit.render("not_allowed.html", 403, needs=route.role.value, asks=asks)


def _has_csrf_token(visit: Visit) -> bool:
    return visit.console.csrf.is_valid(visit.request, visit.form.get(CSRF_FIELD))


async def _sign_in_first(visit: Visit, route: Route) -> Response:
    """Send somebody who is not signed in (any more) to sign in, and from there back to this page.

    A form that was posted is saved, so that the page shows it again with what was typed.
    """
    if _is_background(visit.request):
        return Response(status_code=401)
    path = visit.request.url.path
    if route.method == "GET":
        query = f"?{visit.request.url.query}" if visit.request.url.query else ""
        return visit.redirect(f"/sign-in?next={quote(path + query, safe='')}")
    page, saved_form = route.page.format(**visit.path_params), ""
    if _has_csrf_token(visit):
        typed = {
            name: values for name, values in visit.form.values.items() if name not in (CSRF_FIELD, SAVED_FORM_FIELD)
        }
        saved_form = await visit.save_form(page, typed)
    return visit.render("sign_in.html", 401, next=page, saved_form=saved_form, errors={}, expired=True)


def _error_page(visit: Visit, route: Route, error: Exception) -> Response:
    """Return the page that says what went wrong; errors of ours and of the store go to the log."""
    match error:
        case PageNotFound() | NotFound():
            return visit.render("missing.html", 404)
        case TooManyAttempts():
            response = visit.render("wait.html", 429, seconds=error.seconds)
            response.headers["Retry-After"] = str(error.seconds)
            return response
        case Refusal():
            return visit.render("refused.html", 422, why=visit.localizer.sentence(error.message))
        case CallFailed():
            why = visit.localizer.text(
                "Reading what the till sent took too long. Try again in a minute; simpler paths are quicker."
            )
            return visit.render("refused.html", 503, why=why)
        case StoreError():
            log.error("the console: %s", error)
            return visit.render("unwell.html", 503)
        case _:
            log.exception("the console: %s raised %s", route.path, type(error).__name__)
            return visit.render("unwell.html", 500)


def local_path(path: str, default: str = "/") -> str:
    """Return a path that a form or address names, or the default where it could lead to another site.

    Browsers read `//host`, and `/\\host` as well, as another site's address.
    """
    try:
        parts = urlsplit(path)
    except ValueError:
        return default
    is_local = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if is_local and not any(sign in path for sign in "\\\n\r") else default

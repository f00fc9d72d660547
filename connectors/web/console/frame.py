"""What every page stands in: the visit, the rendering, the headers, and the way from an address to a handler.

Owns that nothing is answered without its rights: a handler says who may call it, and a form is proven before it runs.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import resources
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from cryptography.fernet import Fernet
from fastapi import FastAPI
from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from connector_sdk.connector import Connector
from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.isolation import CallFailed
from connectors.isolation.runner import RemoteTeaching
from connectors.runtime.host import Host
from connectors.services import PersonCount, Refusal, Services
from connectors.store import queries
from connectors.store.access.security_log import EventKind, NewEvent
from connectors.store.access.sessions import OPERATOR, Session
from connectors.store.errors import NotFound, StoreError
from connectors.store.queries.overviews import Overview
from connectors.web.console.attempts import TooMany
from connectors.web.console.gate import Gate, device_of
from connectors.web.console.reads import TillReads
from connectors.web.console.relying_party import RelyingParty
from connectors.web.console.turns import Turns
from connectors.web.console.words import Words, language_for, zone_of
from connectors.web.request_input import read_body, read_cookie

log = logging.getLogger(__name__)

MOST_FORM = 256 * 1024
_PARKED_FOR = 1800.0
_PARKED_AT_MOST = 500
_PARKED_SIZE = 32 * 1024


class Who(StrEnum):
    """Who may call a handler."""

    anyone = "anyone"
    signed_in = "signed in"
    operator = "operator"


class NotHere(Exception):
    """There is no such page for this visitor."""


class Parked:
    """Forms that could not be taken yet, with what was typed, for half an hour; only their names leave this process.

    Only forms that are proven to come from our pages come in, each of a bounded size.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, tuple[float, str, bytes]] = OrderedDict()
        self._sealed = Fernet(Fernet.generate_key())

    def park(self, path: str, values: Mapping[str, Any]) -> str:
        name = secrets.token_urlsafe(18)
        plain = json.dumps(values, ensure_ascii=False).encode()
        if len(plain) > _PARKED_SIZE:
            return ""
        sealed = self._sealed.encrypt(plain)
        self._kept[name] = (time.monotonic() + _PARKED_FOR, path, sealed)
        while len(self._kept) > _PARKED_AT_MOST or next(iter(self._kept.values()))[0] < time.monotonic():
            self._kept.popitem(last=False)
        return name

    def take(self, name: str, path: str) -> dict[str, list[str]]:
        """What was typed on that page."""
        until, kept_path, sealed = self._kept.get(name, (0.0, "", b""))
        if until < time.monotonic() or kept_path != path:
            return {}
        values: dict[str, list[str]] = json.loads(self._sealed.decrypt(sealed))
        return values


@dataclass
class Form:
    """What was posted, or kept from before; the last value of a name counts."""

    values: Mapping[str, list[str]] = field(default_factory=dict)

    def get(self, name: str, default: str = "") -> str:
        found = self.values.get(name)
        return found[-1] if found else default

    def all(self, name: str) -> list[str]:
        return list(self.values.get(name, ()))

    def __contains__(self, name: str) -> bool:
        return name in self.values


@dataclass
class Console:
    """What all pages share."""

    host: Host
    gate: Gate
    templates: Environment
    parked: Parked
    till_reads: TillReads
    streams: Counter[str]
    """Live streams by whose they are."""
    syncs: dict[str, asyncio.Task[dict[str, Any]]]
    """Syncs under way, by connection."""
    files: Mapping[str, tuple[str, bytes]]
    form_action: str
    passkeys: RelyingParty
    turns: Turns = field(default_factory=Turns)
    """Requests that are being answered, by visitor."""
    forgetting: dict[str, asyncio.Task[PersonCount]] = field(default_factory=dict)
    """Customers being looked for or erased, by business."""


@dataclass
class Visit:
    """One request, from somebody, in their language."""

    console: Console
    request: Request
    session: Session | None
    words: Words
    form: Form
    proof: str
    fresh: str | None = None

    @property
    def host(self) -> Host:
        return self.console.host

    @property
    def path(self) -> Mapping[str, str]:
        return self.request.path_params

    @property
    def me(self) -> Session:
        """Who is signed in; handlers for anyone must not ask."""
        if self.session is None:
            raise RuntimeError("a handler for anyone asks who is signed in")
        return self.session

    @property
    def owner(self) -> str:
        """Whose drafts these are."""
        return self.me.visitor.business_id or OPERATOR

    @property
    def services(self) -> Services:
        """The services, for whoever is signed in."""
        return self.host.services.by(self.me.visitor.login)

    def teaching(self, connector_class: type[Connector[Any]]) -> RemoteTeaching | None:
        """What a connector can be taught, asked for this visitor's business; `None` where it cannot."""
        return self.host.runner.teaching(connector_class, tenant=self.owner)

    async def overview(self) -> Overview:
        """The connection of the address, if it is this visitor's. Raises `NotHere`."""
        wanted = self.path["connection"]
        found = await self.host.store.read(lambda tx: queries.overviews.overview(tx, wanted))
        if found is None or self.me.visitor.business_id not in (None, found.connection.business_id):
            raise NotHere
        if self.me.operator and "part" not in self.request.query_params:
            self._count_visit(found.connection)
        self.words = Words(
            self.words.catalogue, self.words.language, zone_of(found.connection.account.zone), self.words.now
        )
        return found

    def _count_visit(self, connection: Connection) -> None:
        """Tell the security log that the operator looked at a business's connection, once however many pages it is."""
        address, device = self.console.gate.address(self.request), device_of(self.request)
        message, business_id = Message("security.operator_visit"), connection.business_id
        event = NewEvent(EventKind.operator_visit, message, business_id, connection.id, address, device)
        self.host.security_events.count(event)

    # --- answers ------------------------------------------------------------------------------------------------

    def page(self, template: str, status: int = 200, **values: Any) -> Response:
        notice, kind = self._notice()
        words = self.words
        text = self.console.templates.get_template(template).render(
            _=words.text,
            n=words.count,
            w=words,
            session=self.session,
            proof=self.proof,
            notice=notice,
            notice_kind=kind,
            here=self.request.url.path,
            version=_version(self.console.files),
            passkey_site=self.console.passkeys.site,
            **values,
        )
        response = HTMLResponse(text.encode("utf-8", "replace"), status)
        if notice:
            response.delete_cookie("notice", path="/")
        return response

    def go(self, path: str, notice: Message | None = None, kind: str = "good") -> Response:
        """To another page of ours, with a sentence to show there."""
        response = RedirectResponse(path, 303)
        if notice is not None:
            sealed = self.host.store.vault.encrypt(json.dumps([kind, notice.stored()]))
            secure = self.console.gate.secure(self.request)
            response.set_cookie("notice", sealed, max_age=60, path="/", httponly=True, samesite="lax", secure=secure)
        return response

    def _notice(self) -> tuple[str, str]:
        sealed = read_cookie(self.request, "notice")
        if not sealed or self.request.query_params.get("part"):
            return "", ""
        try:
            kind, stored = json.loads(self.host.store.vault.decrypt(sealed[:4000]))
            return self.words.sentence(Message.restored(stored)), kind
        except (StoreError, ValueError):
            return "", ""

    def park(self) -> str:
        """Keep what was typed for this page, secrets too, and give its name."""
        return self.console.parked.park(self.request.url.path, self.form.values)

    def why(self, error: Refusal | TooMany) -> str:
        """What stands against something, as a sentence."""
        if isinstance(error, Refusal):
            return self.words.sentence(error.message)
        return self.words.count(
            "Too many tries: wait {count} second, then try again.",
            "Too many tries: wait {count} seconds, then try again.",
            error.seconds,
        )


Handler = Callable[[Visit], Awaitable[Response]]


@dataclass(frozen=True)
class Route:
    method: str
    path: str
    who: Who
    handler: Handler
    page: str
    """Where a form of this address is shown: there one returns to after signing in again."""
    most: int = MOST_FORM
    """How many bytes a form may have."""


class Pages:
    """Handlers by address, as a module declares them."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    def get(self, path: str, who: Who = Who.signed_in) -> Callable[[Handler], Handler]:
        return self._declare("GET", path, who, path)

    def post(
        self, path: str, who: Who = Who.signed_in, *, page: str | None = None, most: int = MOST_FORM
    ) -> Callable[[Handler], Handler]:
        return self._declare("POST", path, who, page or path, most)

    def _declare(
        self, method: str, path: str, who: Who, page: str, most: int = MOST_FORM
    ) -> Callable[[Handler], Handler]:
        def declared(handler: Handler) -> Handler:
            self.routes.append(Route(method, path, who, handler, page, most))
            return handler

        return declared


def make(host: Host) -> Console:
    """The console of a host."""
    templates = Environment(
        loader=PackageLoader("connectors.web.console"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    templates.globals["url"] = lambda text: quote(str(text), safe="")
    gate = Gate(host)
    return Console(
        host,
        gate,
        templates,
        Parked(),
        TillReads(),
        Counter(),
        {},
        _files(),
        _form_action(host),
        RelyingParty(host, gate),
    )


_KINDS = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8", "svg": "image/svg+xml"}


def _files() -> dict[str, tuple[str, bytes]]:
    folder = resources.files("connectors.web.console") / "static"
    return {one.name: (_KINDS[one.name.rpartition(".")[2]], one.read_bytes()) for one in folder.iterdir()}


def _version(files: Mapping[str, tuple[str, bytes]]) -> str:
    return hashlib.sha256(b"".join(body for _, (_, body) in sorted(files.items()))).hexdigest()[:12]


def _form_action(host: Host) -> str:
    """Where forms may lead: here, and to the consent pages of tills."""
    origins = {"'self'"}
    for name in host.plugins.classes:
        if address := host.services.onboarding.authorise_url(name, f"{host.public_url}/connect/return"):
            parts = urlsplit(address)
            origins.add(f"{parts.scheme}://{parts.netloc}")
    return " ".join(sorted(origins))


def mount(app: FastAPI, console: Console, *modules: Pages) -> None:
    """Put the pages and their files on an application."""
    routes = [route for pages in modules for route in pages.routes]
    for route in sorted(routes, key=lambda route: route.path.count("{")):  # `/connect/return` before `/connect/{draft}`
        app.add_route(route.path, _endpoint(console, route), methods=[route.method], include_in_schema=False)

    async def file(request: Request) -> Response:
        found = console.files.get(request.path_params["name"])
        if found is None:
            return Response(status_code=404)
        kind, body = found
        headers = {"Cache-Control": "public, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}
        return Response(body, media_type=kind, headers=headers)

    app.add_route("/static/{name}", file, methods=["GET"], include_in_schema=False)

    async def nothing(_visit: Visit) -> Response:
        raise NotHere

    anything = Route("GET", "/{anything:path}", Who.anyone, nothing, "/")
    app.add_route(anything.path, _endpoint(console, anything), methods=["GET"], include_in_schema=False)


def _endpoint(console: Console, route: Route) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        response = await _answer(console, route, request)
        _guard(console, request, response)
        return response

    return endpoint


async def _answer(console: Console, route: Route, request: Request) -> Response:
    try:
        values = await _posted(request, route.most) if route.method == "POST" else {}
    except ClientDisconnect:
        return Response(status_code=400)
    if values is None:
        return Response(f"a form has at most {route.most // 1024} KiB", 413, media_type="text/plain")
    if "\x00" in request.url.path or "%00" in request.url.query:
        return Response(status_code=404)
    by_itself = "part" in request.query_params or request.url.path.endswith("/events")
    session = await console.gate.session(request, used=not by_itself)
    async with console.turns.turn(_visitor(console, request, session)):
        return await _page(console, route, request, session, values)


def _visitor(console: Console, request: Request, session: Session | None) -> str:
    """Name whose request this is among those that wait: a business's, a session's or an address's."""
    if session is None:
        return f"address {console.gate.address(request)}"
    business_id = session.visitor.business_id
    return f"session {session.id_hash}" if business_id is None else f"business {business_id}"


async def _page(
    console: Console, route: Route, request: Request, session: Session | None, values: dict[str, list[str]]
) -> Response:
    proof, fresh = console.gate.proof(request)
    visit = Visit(console, request, session, _words(console, request, session), Form(values), proof, fresh)
    response = await _within(visit, route)
    if fresh and "text/html" in response.headers.get("content-type", ""):
        console.gate.greet(request, response, fresh)
    return response


async def _within(visit: Visit, route: Route) -> Response:
    try:
        if route.who is not Who.anyone and visit.session is None:
            return sign_in_first(visit, route)
        if route.who is Who.operator and not visit.me.operator:
            raise NotHere
        if route.method == "POST" and not visit.console.gate.proven(visit.request, visit.form.get("proof")):
            return visit.page("stale.html", 403)
        return await route.handler(visit)
    except (NotHere, NotFound):
        return visit.page("missing.html", 404)
    except TooMany as error:
        response = visit.page("wait.html", 429, seconds=error.seconds)
        response.headers["Retry-After"] = str(error.seconds)
        return response
    except Refusal as error:
        return visit.page("refused.html", 422, why=visit.words.sentence(error.message))
    except CallFailed:
        why = visit.words.text(
            "Reading what the till sent took too long. Try again in a minute; simpler paths are quicker."
        )
        return visit.page("refused.html", 503, why=why)
    except StoreError as error:
        log.error("the console: %s", error)
        return visit.page("unwell.html", 503)
    except Exception as error:
        log.exception("the console: %s raised %s", route.path, type(error).__name__)
        return visit.page("unwell.html", 500)


def sign_in_first(visit: Visit, route: Route) -> Response:
    """Nobody is signed in (any more): to the door, and back to this page with what was typed."""
    path = visit.request.url.path
    if visit.request.query_params.get("part") or path.endswith("/events"):
        return Response(status_code=401)
    if route.method == "GET":
        query = f"?{visit.request.url.query}" if visit.request.url.query else ""
        return visit.go(f"/sign-in?next={quote(path + query, safe='')}")
    page, kept = route.page.format(**visit.path), ""
    if visit.console.gate.proven(visit.request, visit.form.get("proof")):
        values = {name: given for name, given in visit.form.values.items() if name not in ("proof", "kept")}
        kept = visit.console.parked.park(page, values)
    return visit.page("sign_in.html", 401, next=page, kept=kept, errors={}, expired=True)


async def _posted(request: Request, most: int) -> dict[str, list[str]] | None:
    body = await read_body(request, most)
    if body is None:
        return None
    values: dict[str, list[str]] = {}
    try:
        pairs = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, max_num_fields=6000)
    except ValueError:
        return None
    for name, value in pairs:
        values.setdefault(name, []).append(value.replace("\x00", ""))
    return values


def _words(console: Console, request: Request, session: Session | None) -> Words:
    language = language_for(
        console.host.words, read_cookie(request, "language"), request.headers.get("accept-language", "")
    )
    zone = zone_of(session.visitor.zone) if session else zone_of("UTC")
    return Words(console.host.words, language, zone, console.host.store.clock.now())


def _guard(console: Console, request: Request, response: Response) -> None:
    """What keeps a page of ours from being framed, sniffed, cached or scripted by others."""
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Content-Security-Policy"] = (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
        f"form-action {console.form_action}; frame-ancestors 'none'; base-uri 'none'"
    )
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "same-origin"  # without one, a browser says that its forms are from nowhere
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    if console.gate.secure(request):
        response.headers["Strict-Transport-Security"] = "max-age=31536000"


def local(path: str, default: str = "/") -> str:
    """A path of ours from a form, or the default: never another site's address."""
    try:
        parts = urlsplit(path)
    except ValueError:
        return default
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and not parts.scheme and not parts.netloc
    return path if plain and "\\" not in path and "\n" not in path and "\r" not in path else default

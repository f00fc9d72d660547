"""The doors: signing in by a key, a password or a link; devices; the reader's language.

Owns these pages; who may come in is decided in `gate`.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.services import Refusal
from connectors.store import access
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import OPERATOR, Visitor
from connectors.store.engine import Transaction
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import NotHere, Pages, Visit, Who, local
from connectors.web.console.gate import link_words, visitor_of

pages = Pages()


@pages.get("/sign-in", Who.anyone)
async def sign_in_page(visit: Visit) -> Response:
    if visit.session is not None:
        return visit.go(local(visit.request.query_params.get("next", "/")))
    return _door(visit, visit.request.query_params.get("next", "/"))


def _door(visit: Visit, wanted: str, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    return visit.page(
        "sign_in.html", status, next=local(wanted), kept=visit.form.get("kept"), errors=errors or {}, expired=False
    )


@pages.post("/sign-in", Who.anyone)
async def sign_in(visit: Visit) -> Response:
    """A business, by any of its keys."""
    wanted = local(visit.form.get("next", "/"))
    key = visit.form.get("key").strip()
    try:
        me = await visit.console.gate.check_key(visit.request, key)
    except (Refusal, TooMany) as error:
        return _door(visit, wanted, 422 if isinstance(error, Refusal) else 429, {"key": visit.why(error)})
    kept = visit.form.get("kept")
    if kept and wanted != "/":
        wanted = f"{wanted}{'&' if '?' in wanted else '?'}kept={kept}"
    response = visit.go(wanted)
    remember = visit.form.get("remember") == "1"
    visitor = visitor_of(me, key)
    how = Message("security.sign_in.key", {"login": visitor.login})
    return await visit.console.gate.let_in(visit.request, response, visitor, remember=remember, how=how)


@pages.get("/sign-in/operator", Who.anyone)
async def operator_page(visit: Visit) -> Response:
    return visit.page("operator_sign_in.html", next=local(visit.request.query_params.get("next", "/")), errors={})


@pages.post("/sign-in/operator", Who.anyone)
async def operator_sign_in(visit: Visit) -> Response:
    """The operator, by password."""
    wanted = local(visit.form.get("next", "/"))
    try:
        await visit.console.gate.check_password(visit.request, visit.form.get("password"))
    except (Refusal, TooMany) as error:
        status = 422 if isinstance(error, Refusal) else 429
        return visit.page("operator_sign_in.html", status, next=wanted, errors={"password": visit.why(error)})
    remember = visit.form.get("remember") == "1"
    response = visit.go(wanted if wanted != "/" else "/operator")
    how = Message("security.sign_in.password")
    return await visit.console.gate.let_in(visit.request, response, operator(), remember=remember, how=how)


def operator() -> Visitor:
    return Visitor(None, "", "UTC", OPERATOR)


@pages.post("/sign-out", Who.anyone)
async def sign_out(visit: Visit) -> Response:
    return await visit.console.gate.let_out(visit.request, visit.go("/sign-in"), visit.session)


# --- links ----------------------------------------------------------------------------------------------------------


@pages.get("/link/{token}", Who.anyone)
async def link_page(visit: Visit) -> Response:
    """Name whom the link lets in, and whose session that ends; whoever only looks (a preview does) spends nothing."""
    return await _link(visit, 200)


async def _link(visit: Visit, status: int) -> Response:
    token = visit.path["token"]
    opened = await visit.host.store.read(lambda tx: access.sessions.link_of(tx, token))
    if opened is None:
        return visit.page("link.html", 410, visitor=None)
    replaces = visit.session.id_hash if visit.session is not None else ""
    return visit.page("link.html", status, token=token, visitor=opened.visitor, replaces=replaces)


@pages.post("/link/{token}", Who.anyone)
async def link(visit: Visit) -> Response:
    if visit.session is not None and visit.form.get("replaces") != visit.session.id_hash:
        return await _link(visit, 409)  # the page that was shown named no session to end, or another
    remember = visit.form.get("remember") == "1"
    response = await visit.console.gate.let_in_by_link(visit.request, visit.path["token"], remember=remember)
    return response or visit.page("link.html", 410, visitor=None)


# --- devices --------------------------------------------------------------------------------------------------------


@pages.get("/devices")
async def devices(visit: Visit) -> Response:
    return await _devices(visit, None)


async def _devices(visit: Visit, made: str | None) -> Response:
    mine = visit.me.visitor.business_id
    found = await visit.host.store.read(lambda tx: access.sessions.devices(tx, mine))
    found.sort(key=lambda one: one.id_hash != visit.me.id_hash)  # this device first
    there = await visit.host.store.read(lambda tx: access.passkeys.of_owner(tx, mine))
    return visit.page("devices.html", devices=found, link=made, passkeys=there)


@pages.post("/devices/link")
async def make_link(visit: Visit) -> Response:
    """A link by which another device signs in."""
    me = visit.me

    def work(tx: Transaction) -> str:
        message, business_id = link_words("made", me.visitor.login), me.visitor.business_id
        visit.console.gate.log(tx, visit.request, EventKind.link_made, message, business_id=business_id)
        return access.sessions.make_link(tx, me.visitor, me)

    token = await visit.host.store.write(work)
    return await _devices(visit, f"{visit.host.public_url}/link/{token}")


@pages.post("/devices/{device}/sign-out")
async def sign_device_out(visit: Visit) -> Response:
    device, mine = visit.path["device"], visit.me.visitor.business_id
    if device == visit.me.id_hash:
        return await visit.console.gate.let_out(visit.request, visit.go("/sign-in"), visit.me)
    message = Message("security.sign_out.device", {"login": visit.me.visitor.login})

    def work(tx: Transaction) -> bool:
        ended = access.sessions.end(tx, device, mine)
        if ended:
            visit.console.gate.log(tx, visit.request, EventKind.sign_out, message, business_id=mine)
        return ended

    if not await visit.host.store.write(work):
        raise NotHere
    return visit.go("/devices", Message("That device is signed out."))


@pages.post("/devices/sign-out-everywhere", page="/devices")
async def sign_out_everywhere(visit: Visit) -> Response:
    """End all sessions and links of this business, or everything that the operator opened."""
    mine, login = visit.me.visitor.business_id, visit.me.visitor.login

    def work(tx: Transaction) -> None:
        access.sessions.end_everywhere(tx, mine)
        message = Message("security.signed_out_everywhere", {"login": login})
        visit.console.gate.log(tx, visit.request, EventKind.signed_out_everywhere, message, business_id=mine)

    await visit.host.store.write(work)
    response = visit.go("/sign-in", Message("Every device is signed out, this one too."))
    return await visit.console.gate.let_out(visit.request, response, None)


# --- a new key for what a dead one stopped --------------------------------------------------------------------------


@pages.post("/keys/replace")
async def replace_keys(visit: Visit) -> Response:
    visitor = visit.me.visitor
    if visitor.business_id is None or visitor.key is None:
        raise NotHere
    number = await visit.services.connections.replace_refused_keys(visitor.business_id, visitor.key)
    return visit.go("/", Message("keys.replaced", {"count": number}))


# --- language ---------------------------------------------------------------------------------------------------------


@pages.post("/language", Who.anyone)
async def language(visit: Visit) -> Response:
    chosen = visit.form.get("language")
    response = visit.go(local(visit.form.get("back", "/")))
    if chosen in visit.host.words.languages:
        secure = visit.console.gate.secure(visit.request)
        response.set_cookie(
            "language", chosen, max_age=31536000, path="/", samesite="lax", httponly=True, secure=secure
        )
    return response

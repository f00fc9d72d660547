"""The doors: signing in by a key, a password or a link; devices; the reader's language.

Owns these pages; who may come in is decided in `gate`.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.desk import Refusal
from connectors.store import passkeys, sessions
from connectors.store.sessions import OPERATOR, Visitor
from connectors.web.console.frame import NotHere, Pages, Visit, Who, local
from connectors.web.console.gate import TooMany, visitor_of

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
    return await visit.console.gate.let_in(visit.request, response, visitor_of(me, key), remember=remember)


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
    return await visit.console.gate.let_in(visit.request, response, operator(), remember=remember)


def operator() -> Visitor:
    return Visitor(None, "", "UTC", OPERATOR)


@pages.post("/sign-out", Who.anyone)
async def sign_out(visit: Visit) -> Response:
    return await visit.console.gate.let_out(visit.request, visit.go("/sign-in"), visit.session)


# --- links ----------------------------------------------------------------------------------------------------------


@pages.get("/link/{token}", Who.anyone)
async def link_page(visit: Visit) -> Response:
    """Shows a button: whoever only looks at the address (a preview does) spends nothing."""
    return visit.page("link.html", token=visit.path["token"], spent=False)


@pages.post("/link/{token}", Who.anyone)
async def link(visit: Visit) -> Response:
    token = visit.path["token"]
    opened = await visit.host.store.write(lambda tx: sessions.spend_link(tx, token))
    if opened is None:
        return visit.page("link.html", 410, token=token, spent=True)
    response = visit.go("/operator" if opened.visitor.business_id is None else "/")
    remember = visit.form.get("remember") == "1"
    return await visit.console.gate.let_in(visit.request, response, opened.visitor, remember=remember, by=opened)


# --- devices --------------------------------------------------------------------------------------------------------


@pages.get("/devices")
async def devices(visit: Visit) -> Response:
    return await _devices(visit, None)


async def _devices(visit: Visit, made: str | None) -> Response:
    mine = visit.me.visitor.business_id
    found = await visit.host.store.read(lambda tx: sessions.devices(tx, mine))
    found.sort(key=lambda one: one.id_hash != visit.me.id_hash)  # this device first
    there = await visit.host.store.read(lambda tx: passkeys.of_owner(tx, mine))
    return visit.page("devices.html", devices=found, link=made, passkeys=there)


@pages.post("/devices/link")
async def make_link(visit: Visit) -> Response:
    """A link by which another device signs in."""
    me = visit.me
    token = await visit.host.store.write(lambda tx: sessions.make_link(tx, me.visitor, me))
    return await _devices(visit, f"{visit.host.public_url}/link/{token}")


@pages.post("/devices/{device}/sign-out")
async def sign_device_out(visit: Visit) -> Response:
    device, mine = visit.path["device"], visit.me.visitor.business_id
    if not await visit.host.store.write(lambda tx: sessions.end(tx, device, mine)):
        raise NotHere
    if device == visit.me.id_hash:
        return await visit.console.gate.let_out(visit.request, visit.go("/sign-in"), None)
    return visit.go("/devices", Message("That device is signed out."))


# --- a new key for what a dead one stopped --------------------------------------------------------------------------


@pages.post("/keys/replace")
async def replace_keys(visit: Visit) -> Response:
    visitor = visit.me.visitor
    if visitor.business_id is None or visitor.key is None:
        raise NotHere
    number = await visit.desk.replace_dead_keys(visitor.business_id, visitor.key)
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

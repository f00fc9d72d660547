"""Pages of signing in by a key, a password or a link, of signed-in devices, refused keys, and the language.

Owns these pages; what somebody types is checked in `credential_checks`, sessions begin and end in `auth`.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.services import Refusal
from connectors.store import access
from connectors.store.access.security_log import EventKind
from connectors.store.engine import Transaction
from connectors.web.console.auth import operator, principal_of
from connectors.web.console.clients import device_name
from connectors.web.console.routing import SAVED_FORM_FIELD, Role, Router, local_path
from connectors.web.console.security_events import link_message
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_LONGEST_DEVICE_NAME = 60

_LANGUAGE_COOKIE_LIFETIME = 365 * 24 * 60 * 60  # seconds


# --- signing in -----------------------------------------------------------------------------------------------------


@router.get("/sign-in", Role.anyone)
async def sign_in_page(visit: Visit) -> Response:
    """Show the page of signing in as a business; whoever is signed in goes on at once."""
    next_path = _next_in_address(visit)
    if visit.session is not None:
        return visit.redirect(next_path)
    return render_sign_in(visit, next_path)


def _next_in_address(visit: Visit) -> str:
    return local_path(visit.request.query_params.get("next", "/"))


def next_in_form(visit: Visit) -> str:
    """Return the path to go to after signing in, as the form names it."""
    return local_path(visit.form.get("next", "/"))


def render_sign_in(visit: Visit, next_path: str, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    """Render the page of signing in as a business, with the form that waits meanwhile and what was wrong by field."""
    return visit.render(
        "sign_in.html",
        status,
        next=next_path,
        saved_form=visit.form.get(SAVED_FORM_FIELD),
        errors=errors or {},
        expired=False,
    )


@router.post("/sign-in", Role.anyone)
async def sign_in(visit: Visit) -> Response:
    """Sign a business in by any of its keys."""
    next_path = next_in_form(visit)
    key = visit.form.get("key").strip()
    try:
        me = await visit.console.credentials.check_key(visit.request, key)
    except (Refusal, TooManyAttempts) as error:
        return render_sign_in(visit, next_path, status_of(error), {"key": visit.explain(error)})
    principal = principal_of(me, key)
    return await visit.console.auth.begin_session(
        visit.request,
        visit.redirect(with_saved_form(visit, next_path)),
        principal,
        remember=wants_remembering(visit),
        method=Message("security.sign_in.key", {"login": principal.login}),
    )


def with_saved_form(visit: Visit, path: str) -> str:
    """Return the path with the name of the form that waits for this sign-in, so that its page shows it again."""
    saved_form = visit.form.get(SAVED_FORM_FIELD)
    if not saved_form or path == "/":
        return path
    return f"{path}{'&' if '?' in path else '?'}{SAVED_FORM_FIELD}={saved_form}"


def wants_remembering(visit: Visit) -> bool:
    """Tell whether the box to remember this device is ticked."""
    return visit.form.get("remember") == "1"


def status_of(error: Refusal | TooManyAttempts) -> int:
    """Return the HTTP status of a page that shows why something was refused."""
    return 422 if isinstance(error, Refusal) else 429


@router.get("/sign-in/operator", Role.anyone)
async def operator_page(visit: Visit) -> Response:
    """Show the page of signing in as the operator."""
    return render_operator_sign_in(visit, _next_in_address(visit))


def render_operator_sign_in(
    visit: Visit, next_path: str, status: int = 200, errors: dict[str, str] | None = None
) -> Response:
    """Render the page of signing in as the operator, with what was wrong by field."""
    return visit.render("operator_sign_in.html", status, next=next_path, errors=errors or {})


@router.post("/sign-in/operator", Role.anyone)
async def operator_sign_in(visit: Visit) -> Response:
    """Sign the operator in by the password."""
    next_path = next_in_form(visit)
    try:
        await visit.console.credentials.check_password(visit.request, visit.form.get("password"))
    except (Refusal, TooManyAttempts) as error:
        return render_operator_sign_in(visit, next_path, status_of(error), {"password": visit.explain(error)})
    return await visit.console.auth.begin_session(
        visit.request,
        visit.redirect(next_path if next_path != "/" else "/operator"),
        operator(),
        remember=wants_remembering(visit),
        method=Message("security.sign_in.password"),
    )


@router.post("/sign-out", Role.anyone)
async def sign_out(visit: Visit) -> Response:
    """End the session of this browser."""
    return await visit.console.auth.end_session(
        visit.request, visit.redirect("/sign-in", Message("You are signed out.")), visit.session
    )


# --- links ----------------------------------------------------------------------------------------------------------


@router.get("/link/{token}", Role.anyone)
async def link_page(visit: Visit) -> Response:
    """Show whom a link lets in, and whose session that ends; only the form spends it, so a preview spends nothing."""
    return await _render_link(visit, 200)


async def _render_link(visit: Visit, status: int) -> Response:
    token = visit.path_params["token"]
    link = await visit.host.store.read(lambda tx: access.sessions.link_of(tx, token))
    if link is None:
        return _render_dead_link(visit)
    return visit.render("link.html", status, token=token, principal=link.principal)


def _render_dead_link(visit: Visit) -> Response:
    return visit.render("link.html", 410, principal=None)


def ends_another_session(visit: Visit) -> bool:
    """Tell whether this browser has a session to end that the page that was shown did not name."""
    return visit.session is not None and visit.form.get("replaces") != visit.session.id_hash


@router.post("/link/{token}", Role.anyone)
async def use_link(visit: Visit) -> Response:
    """Sign this browser in by a link, in place of the session that its page named."""
    if ends_another_session(visit):
        return await _render_link(visit, 409)
    token, remember = visit.path_params["token"], wants_remembering(visit)
    response = await visit.console.auth.begin_session_by_link(visit.request, token, remember=remember)
    return response or _render_dead_link(visit)


# --- devices --------------------------------------------------------------------------------------------------------


@router.get("/devices")
async def devices(visit: Visit) -> Response:
    """List the devices that are signed in, and the passkeys."""
    business_id, own_id = visit.principal.business_id, visit.signed_in_session.id_hash
    sessions = await visit.host.store.read(lambda tx: access.sessions.devices(tx, business_id))
    sessions.sort(key=lambda session: session.id_hash != own_id)  # this device first, the others as they are
    passkeys = await visit.host.store.read(lambda tx: access.passkeys.of_owner(tx, business_id))
    return visit.render("devices.html", devices=sessions, passkeys=passkeys)


@router.post("/devices/link")
async def make_link(visit: Visit) -> Response:
    """Make a link by which another device signs in, and show it."""
    principal = visit.principal

    def work(tx: Transaction) -> str:
        visit.record_event(tx, EventKind.link_made, link_message("made", principal.login))
        return access.sessions.make_link(tx, principal, visit.signed_in_session)

    token = await visit.host.store.write(work)
    notice = Message("Open this address on the other device within ten minutes. It works once.")
    return visit.redirect("/devices", notice, secret=f"{visit.host.public_url}/link/{token}")


@router.post("/devices/name", page="/devices")
async def name_device(visit: Visit) -> Response:
    """Call this device as its owner does; without a name it is called what its browser says of itself."""
    typed = "".join(sign if sign.isprintable() else " " for sign in visit.form.get("name"))
    name = " ".join(typed.split())[:_LONGEST_DEVICE_NAME] or device_name(visit.request)
    session_id = visit.signed_in_session.id_hash
    await visit.host.store.write(lambda tx: access.sessions.name_device(tx, session_id, name))
    return visit.redirect("/devices", Message("Saved."))


@router.post("/devices/{device}/sign-out")
async def sign_device_out(visit: Visit) -> Response:
    """End the session of one device of this business, or of the operator."""
    device, principal = visit.path_params["device"], visit.principal
    if device == visit.signed_in_session.id_hash:
        return await sign_out(visit)
    message = Message("security.sign_out.device", {"login": principal.login})

    def work(tx: Transaction) -> bool:
        ended = access.sessions.end(tx, device, principal.business_id)
        if ended:
            access.colleagues.end_invitations_of_session(tx, device)
            visit.record_event(tx, EventKind.sign_out, message)
        return ended

    if not await visit.host.store.write(work):
        raise PageNotFound
    return visit.redirect("/devices", Message("That device is signed out."))


@router.post("/devices/sign-out-everywhere", page="/devices")
async def sign_out_everywhere(visit: Visit) -> Response:
    """End all sessions and links of this business, or everything that the operator opened."""
    principal = visit.principal
    message = Message("security.signed_out_everywhere", {"login": principal.login})

    def work(tx: Transaction) -> None:
        access.sessions.end_everywhere(tx, principal.business_id)
        if principal.business_id is not None:
            access.colleagues.end_invitations(tx, principal.business_id)
        visit.record_event(tx, EventKind.signed_out_everywhere, message)

    await visit.host.store.write(work)
    response = visit.redirect("/sign-in", Message("Every device is signed out, this one too."))
    # the session has ended with the others: only its cookie is left to delete
    return await visit.console.auth.end_session(visit.request, response, None)


# --- refused keys ---------------------------------------------------------------------------------------------------


@router.post("/keys/replace")
async def replace_keys(visit: Visit) -> Response:
    """Give the connections whose key 7stamp refuses the key that this business signed in with."""
    principal = visit.principal
    if principal.business_id is None or principal.key is None:
        raise PageNotFound
    number = await visit.services.connections.replace_refused_keys(principal.business_id, principal.key)
    return visit.redirect("/", Message("keys.replaced", {"count": number}))


# --- language ---------------------------------------------------------------------------------------------------------


@router.post("/language", Role.anyone)
async def choose_language(visit: Visit) -> Response:
    """Remember the language that the reader chose, and show the page again."""
    language = visit.form.get("language")
    response = visit.redirect(local_path(visit.form.get("back", "/")))
    if language in visit.host.words.languages:
        response.set_cookie(
            "language",
            language,
            max_age=_LANGUAGE_COOKIE_LIFETIME,
            path="/",
            samesite="lax",
            httponly=True,
            secure=visit.console.clients.is_https(visit.request),
        )
    return response

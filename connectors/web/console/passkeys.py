"""The pages of passkeys: signing in by one, adding and removing them.

Owns these pages and how recently somebody must have proved who they are; `relying_party` decides whether a browser's
answer counts.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.clock import MINUTE
from connectors.services import Refusal
from connectors.store import access
from connectors.store.access.passkeys import Passkey
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import Principal
from connectors.store.engine import Transaction
from connectors.web.console.auth import principal_of
from connectors.web.console.login import (
    next_in_form,
    render_operator_sign_in,
    render_sign_in,
    status_of,
    wants_remembering,
    with_saved_form,
)
from connectors.web.console.relying_party import CHALLENGE_FOR, MAX_ANSWER_BYTES
from connectors.web.console.routing import Role, Router, local_path
from connectors.web.console.sign_in_limits import TooManyAttempts
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

FRESH = 10 * MINUTE
"""How long after somebody proved who they are passkeys can be changed without asking once more."""
_JSON = "application/json"


# --- signing in -----------------------------------------------------------------------------------------------------


@router.post("/sign-in/passkey/challenge", Role.anyone)
async def sign_in_challenge(visit: Visit) -> Response:
    """Answer with the options for signing in, as the page's script asks for them."""
    return Response(await visit.console.passkeys.request_options(visit.csrf_token), media_type=_JSON)


@router.post("/sign-in/passkey", Role.anyone, page="/sign-in", max_bytes=MAX_ANSWER_BYTES)
async def sign_in(visit: Visit) -> Response:
    """Sign in whoever the passkey belongs to: a business, or the operator."""
    try:
        passkey = await _authenticate(visit)
    except (Refusal, TooManyAttempts) as error:
        return _render_sign_in_again(visit, error)
    next_path = _next_path(visit, passkey.principal)
    return await visit.console.auth.begin_session(
        visit.request,
        visit.redirect(with_saved_form(visit, next_path)),
        passkey.principal,
        remember=wants_remembering(visit),
        method=Message("security.sign_in.passkey", {"login": passkey.principal.login}),
        passkey_id=passkey.id,
    )


async def _authenticate(visit: Visit) -> Passkey:
    """Return the passkey that the browser signed with; count a wrong one. Raises `Refusal`, `TooManyAttempts`."""
    address = visit.console.clients.address(visit.request)
    try:
        return await visit.console.passkeys.authenticate(address, visit.csrf_token, visit.form.get("credential"))
    except Refusal:
        visit.console.security_events.count_failed_sign_in(visit.request, "passkey")
        raise


def _next_path(visit: Visit, principal: Principal) -> str:
    """Return where to go after signing in; either page takes anybody's passkey, so the path may be the other's."""
    path = next_in_form(visit)
    if principal.business_id is None:
        return "/operator" if path == "/" else path
    return "/" if path.startswith("/operator") else path


def _render_sign_in_again(visit: Visit, error: Refusal | TooManyAttempts) -> Response:
    """Render the page that the passkey was used on, with the reason why it did not sign in."""
    render = render_operator_sign_in if visit.form.get("as") == "operator" else render_sign_in
    return render(visit, next_in_form(visit), status_of(error), {"passkey": visit.explain(error)})


# --- proving once more ----------------------------------------------------------------------------------------------

# A passkey outlives the session that adds it, so a session that somebody left open must not be enough to add one.


def _is_confirmed(visit: Visit, within: int = FRESH) -> bool:
    """Tell whether the session began within this time by a proof of who its owner is, which a link is not."""
    session = visit.signed_in_session
    return session.confirmed and session.made_at > visit.localizer.now - within


def _can_add(visit: Visit, within: int = FRESH) -> bool:
    """Tell whether the session is confirmed and has what a passkey stands on: for a business, a 7stamp key.

    Whoever came by the operator's link is a business without a key.
    """
    return _is_confirmed(visit, within) and (visit.signed_in_session.operator or visit.principal.key is not None)


def _render_confirm(visit: Visit, path: str, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    """Ask for the key or password once more; the form goes on to `path`."""
    return visit.render("passkey_confirm.html", status, next=path, errors=errors or {})


@router.post("/passkeys/confirm", page="/devices")
async def confirm(visit: Visit) -> Response:
    """Sign in once more on this device, with a key of this business or the operator's password."""
    path = local_path(visit.form.get("next"), "/devices")
    try:
        principal = await _check_secret(visit)
    except (Refusal, TooManyAttempts) as error:
        return _render_confirm(visit, path, status_of(error), {"secret": visit.explain(error)})
    remember = visit.signed_in_session.remembered
    return await visit.console.auth.begin_session(visit.request, visit.redirect(path), principal, remember=remember)


async def _check_secret(visit: Visit) -> Principal:
    """Return whose key or password was typed.

    Raises `Refusal` where it is wrong or another business's, and `TooManyAttempts`.
    """
    session, secret, credentials = visit.signed_in_session, visit.form.get("secret"), visit.console.credentials
    if session.operator:
        await credentials.check_password(visit.request, secret, session=session)
        return session.principal
    key = secret.strip()
    me = await credentials.check_key(visit.request, key, session=session)
    if me.business.id != session.principal.business_id:
        raise Refusal("This key is of another business.")
    return principal_of(me, key)


# --- adding ---------------------------------------------------------------------------------------------------------


@router.get("/passkeys/add")
async def add_page(visit: Visit) -> Response:
    """Show the page of adding a passkey, or ask for the key or password first."""
    if not _can_add(visit):
        return _render_confirm(visit, "/passkeys/add")
    business_id = visit.principal.business_id
    passkeys = await visit.host.store.read(lambda tx: access.passkeys.of_owner(tx, business_id))
    is_full = len(passkeys) >= access.passkeys.MOST
    return visit.render("passkey_add.html", full=is_full, number=len(passkeys), errors={})


@router.post("/passkeys/challenge", page="/passkeys/add")
async def add_challenge(visit: Visit) -> Response:
    """Answer with the options for making a passkey, as the page's script asks for them."""
    if not _can_add(visit):
        return _render_confirm(visit, "/passkeys/add", 403)
    options = await visit.console.passkeys.creation_options(visit.signed_in_session, visit.csrf_token)
    return Response(options, media_type=_JSON)


@router.post("/passkeys/add", max_bytes=MAX_ANSWER_BYTES)
async def add(visit: Visit) -> Response:
    """Store the passkey that the browser made."""
    # the browser may take as long as its challenge lives, which was given while the session was fresh
    if not _can_add(visit, FRESH + CHALLENGE_FOR):
        return _render_confirm(visit, "/passkeys/add", 403)
    answer, label = visit.form.get("credential"), visit.form.get("label")
    try:
        await visit.console.passkeys.register(visit.signed_in_session, visit.csrf_token, answer, label)
    except Refusal as error:
        errors = {"passkey": visit.explain(error)}
        return visit.render("passkey_add.html", 422, full=False, number=0, errors=errors)
    await visit.host.store.write(lambda tx: _record_change(visit, tx, "added"))
    return visit.redirect("/devices", Message("The passkey was added. Sign in with it next time."))


# --- removing -------------------------------------------------------------------------------------------------------


@router.get("/passkeys/{passkey}/remove")
async def remove_page(visit: Visit) -> Response:
    """Show what removing a passkey means, or ask for the key or password first."""
    passkey = await _load_passkey(visit)
    if not _is_confirmed(visit):
        return _render_confirm(visit, f"/passkeys/{passkey.id}/remove")
    return visit.render("passkey_remove.html", passkey=passkey)


@router.post("/passkeys/{passkey}/remove")
async def remove(visit: Visit) -> Response:
    """Remove a passkey, and end the sessions that it opened."""
    passkey = await _load_passkey(visit)
    if not _is_confirmed(visit):
        return _render_confirm(visit, f"/passkeys/{passkey.id}/remove", 403)

    def work(tx: Transaction) -> None:
        # another request may have removed it since it was read: then there is nothing to record
        if access.passkeys.remove(tx, passkey.id, visit.principal.business_id):
            _record_change(visit, tx, "removed")

    await visit.host.store.write(work)
    return visit.redirect("/devices", Message("The passkey was removed. It opens nothing any more."))


async def _load_passkey(visit: Visit) -> Passkey:
    """Load the passkey that the path names. Raises `PageNotFound` where it is not this owner's."""
    passkey_id, business_id = visit.path_params["passkey"], visit.principal.business_id
    passkey = await visit.host.store.read(lambda tx: access.passkeys.get(tx, passkey_id, business_id))
    if passkey is None:
        raise PageNotFound
    return passkey


def _record_change(visit: Visit, tx: Transaction, change: str) -> None:
    """Record in the security log that a passkey was `added` or `removed`."""
    message = Message(f"security.passkey.{change}", {"login": visit.principal.login})
    visit.record_event(tx, EventKind.passkey_changed, message)

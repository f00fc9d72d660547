"""Passkeys' pages: adding, removing, and signing in by one.

Owns these pages and what they ask for before they change anything; whether an answer is right is `relying_party`'s.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.clock import MINUTE
from connectors.services import Refusal
from connectors.store import access
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import Visitor
from connectors.store.engine import Transaction
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import NotHere, Pages, Visit, Who, local
from connectors.web.console.gate import visitor_of
from connectors.web.console.relying_party import CHALLENGE_FOR, MOST_ANSWER

pages = Pages()

FRESH = 10 * MINUTE
"""How long after somebody proved who they are passkeys can be changed without asking once more."""
_JSON = "application/json"


# --- signing in -----------------------------------------------------------------------------------------------------


@pages.post("/sign-in/passkey/challenge", Who.anyone)
async def sign_in_challenge(visit: Visit) -> Response:
    return Response(await visit.console.passkeys.request_options(visit.proof), media_type=_JSON)


@pages.post("/sign-in/passkey", Who.anyone, page="/sign-in", most=MOST_ANSWER)
async def sign_in(visit: Visit) -> Response:
    """Whoever a passkey belongs to: a business, or the operator."""
    gate, wanted = visit.console.gate, local(visit.form.get("next", "/"))
    try:
        passkey = await visit.console.passkeys.authenticate(
            gate.address(visit.request), visit.proof, visit.form.get("credential")
        )
    except (Refusal, TooMany) as error:
        if isinstance(error, Refusal):
            gate.count_failed(visit.request, "passkey")
        return _not_signed_in(visit, wanted, error)
    operator = passkey.visitor.business_id is None
    if operator and wanted == "/":
        wanted = "/operator"
    elif not operator and wanted.startswith("/operator"):
        wanted = "/"
    kept = visit.form.get("kept")
    if kept and wanted != "/":
        wanted = f"{wanted}{'&' if '?' in wanted else '?'}kept={kept}"
    remember = visit.form.get("remember") == "1"
    how = Message("security.sign_in.passkey", {"login": passkey.visitor.login})
    return await gate.let_in(
        visit.request, visit.go(wanted), passkey.visitor, remember=remember, how=how, passkey_id=passkey.id
    )


def _not_signed_in(visit: Visit, wanted: str, error: Refusal | TooMany) -> Response:
    """The page that the passkey was used on, with the reason."""
    status, errors = 422 if isinstance(error, Refusal) else 429, {"passkey": visit.why(error)}
    if visit.form.get("as") == "operator":
        return visit.page("operator_sign_in.html", status, next=wanted, errors=errors)
    return visit.page("sign_in.html", status, next=wanted, kept=visit.form.get("kept"), errors=errors, expired=False)


# --- adding and removing --------------------------------------------------------------------------------------------


def _confirmed(visit: Visit, since: int = FRESH) -> bool:
    """Whether this visitor has just proved who they are, so that passkeys can be changed."""
    return visit.me.confirmed and visit.me.made_at > visit.words.now - since


def _can_add(visit: Visit, since: int = FRESH) -> bool:
    """The same, with the 7stamp key that a cafe's passkey stands on: whoever came by the operator's link has none."""
    return _confirmed(visit, since) and (visit.me.operator or visit.me.visitor.key is not None)


def _confirm(visit: Visit, path: str, status: int = 200, errors: dict[str, str] | None = None) -> Response:
    """Ask for the key or password once more, then go on to `path`."""
    return visit.page("passkey_confirm.html", status, next=path, errors=errors or {})


@pages.post("/passkeys/confirm", page="/devices")
async def confirm(visit: Visit) -> Response:
    """Sign in once more on this device, with a key of this business or the operator's password."""
    path = local(visit.form.get("next"), "/devices")
    try:
        visitor = await _proven(visit)
    except (Refusal, TooMany) as error:
        return _confirm(visit, path, 422 if isinstance(error, Refusal) else 429, {"secret": visit.why(error)})
    return await visit.console.gate.let_in(visit.request, visit.go(path), visitor, remember=visit.me.remembered)


async def _proven(visit: Visit) -> Visitor:
    """Who the secret in the form is of. Raises `Refusal`, `TooMany`."""
    gate, secret = visit.console.gate, visit.form.get("secret")
    if visit.me.operator:
        await gate.check_password(visit.request, secret, session=visit.me)
        return visit.me.visitor
    key = secret.strip()
    me = await gate.check_key(visit.request, key, session=visit.me)
    if me.business.id != visit.me.visitor.business_id:
        raise Refusal("This key is of another business.")
    return visitor_of(me, key)


@pages.get("/passkeys/add")
async def add_page(visit: Visit) -> Response:
    if not _can_add(visit):
        return _confirm(visit, "/passkeys/add")
    mine = visit.me.visitor.business_id
    there = await visit.host.store.read(lambda tx: access.passkeys.of_owner(tx, mine))
    return visit.page("passkey_add.html", full=len(there) >= access.passkeys.MOST, number=len(there), errors={})


@pages.post("/passkeys/challenge", page="/passkeys/add")
async def add_challenge(visit: Visit) -> Response:
    if not _can_add(visit):
        return _confirm(visit, "/passkeys/add", 403)
    return Response(await visit.console.passkeys.creation_options(visit.me, visit.proof), media_type=_JSON)


@pages.post("/passkeys/add", most=MOST_ANSWER)
async def add(visit: Visit) -> Response:
    if not _can_add(visit, FRESH + CHALLENGE_FOR):  # it was asked for in time
        return _confirm(visit, "/passkeys/add", 403)
    try:
        await visit.console.passkeys.register(
            visit.me, visit.proof, visit.form.get("credential"), visit.form.get("label")
        )
    except Refusal as error:
        return visit.page("passkey_add.html", 422, full=False, number=0, errors={"passkey": visit.why(error)})
    await visit.host.store.write(lambda tx: _log(visit, tx, "added"))
    return visit.go("/devices", Message("The passkey was added. Sign in with it next time."))


@pages.get("/passkeys/{passkey}/remove")
async def remove_page(visit: Visit) -> Response:
    wanted, mine = visit.path["passkey"], visit.me.visitor.business_id
    passkey = await visit.host.store.read(lambda tx: access.passkeys.get(tx, wanted, mine))
    if passkey is None:
        raise NotHere
    if not _confirmed(visit):
        return _confirm(visit, f"/passkeys/{passkey.id}/remove")
    return visit.page("passkey_remove.html", passkey=passkey)


@pages.post("/passkeys/{passkey}/remove")
async def remove(visit: Visit) -> Response:
    wanted, mine = visit.path["passkey"], visit.me.visitor.business_id
    if await visit.host.store.read(lambda tx: access.passkeys.get(tx, wanted, mine)) is None:
        raise NotHere
    if not _confirmed(visit):
        return _confirm(visit, f"/passkeys/{wanted}/remove", 403)

    def work(tx: Transaction) -> None:
        if access.passkeys.remove(tx, wanted, mine):
            _log(visit, tx, "removed")

    await visit.host.store.write(work)
    return visit.go("/devices", Message("The passkey was removed. It opens nothing any more."))


def _log(visit: Visit, tx: Transaction, what: str) -> None:
    """Record in the security log that a passkey was `added` or `removed`."""
    visitor = visit.me.visitor
    message = Message(f"security.passkey.{what}", {"login": visitor.login})
    visit.console.gate.log(tx, visit.request, EventKind.passkey_changed, message, business_id=visitor.business_id)

"""The page of people: who else may use the console, by name and role, and the invitations by which they come in.

Owns the page, what a name may be, and joining; colleagues and their invitations are `store.access.colleagues`'.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.services import Refusal
from connectors.store import access
from connectors.store.access.colleagues import LONGEST_NAME, MOST, Colleague
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import StaffRole
from connectors.store.engine import Transaction
from connectors.web.console.login import ends_another_session
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_ROLE_WORDS: Mapping[StaffRole, Message] = {
    StaffRole.counter: Message("role.counter"),
    StaffRole.manager: Message("role.manager"),
    StaffRole.owner: Message("role.owner"),
}
"""Each role's name."""


def _business_id(visit: Visit) -> str:
    """Return the business whose people these are. Raises `PageNotFound` for the operator, who has none."""
    if visit.principal.business_id is None:
        raise PageNotFound
    return visit.principal.business_id


@router.get("/people")
async def people(visit: Visit) -> Response:
    """List the colleagues of the business, with the form that invites another."""
    return await _page(visit, {})


async def _page(visit: Visit, errors: Mapping[str, str]) -> Response:
    business_id = _business_id(visit)
    colleagues = await visit.host.store.read(lambda tx: access.colleagues.of_business(tx, business_id))
    return visit.render(
        "people.html",
        422 if errors else 200,
        colleagues=colleagues,
        roles={role: _capitalised(visit.localizer.message(words)) for role, words in _ROLE_WORDS.items()},
        form=visit.form,
        errors=errors,
        full=len(colleagues) >= MOST,
        can_invite=_can_invite(visit),
        now=visit.localizer.now,
    )


def _capitalised(text: str) -> str:
    return text[:1].upper() + text[1:]


def _can_invite(visit: Visit) -> bool:
    """Tell whether the session has the 7stamp key that an invitation stands on; one by the operator's link has none."""
    session = visit.signed_in_session
    return session.principal.key is not None and not session.by_operator


@router.post("/people")
async def invite(visit: Visit) -> Response:
    """Invite a colleague, and show the address that lets them in."""
    business_id = _business_id(visit)
    try:
        name, role = _check_name(visit.form.get("name")), _check_role(visit.form.get("role"))
        _check_key(visit)
        colleague, token = await _invite(visit, business_id, name, role)
    except Refusal as error:
        return await _page(visit, {error.field or "name": visit.localizer.sentence(error.message)})
    return _show_invitation(visit, colleague, token)


async def _invite(visit: Visit, business_id: str, name: str, role: StaffRole) -> tuple[Colleague, str]:
    principal = visit.principal

    def work(tx: Transaction) -> tuple[Colleague, str]:
        if access.colleagues.is_taken(tx, business_id, name):
            raise Refusal("somebody has this name already: add a surname, or a number", field="name")
        colleague = access.colleagues.add(tx, business_id, name, role, principal.login)
        if colleague is None:
            raise Refusal("There are as many people as fit: remove one first.", field="name")
        token = access.colleagues.invite(tx, colleague, principal, visit.signed_in_session.id_hash)
        _record(visit, tx, "invited", colleague)
        return colleague, token

    return await visit.host.store.write(work)


def _show_invitation(visit: Visit, colleague: Colleague, token: str) -> Response:
    """Go back to the page, which shows the address that lets the colleague in, this once."""
    text = "Send this address to {name}. It opens one device, once, within three days."
    return visit.redirect(
        "/people", Message(text, {"name": colleague.name}), secret=f"{visit.host.public_url}/join/{token}"
    )


def _check_name(text: str) -> str:
    name = " ".join(text.split())
    if not name:
        raise Refusal("type a name", field="name")
    if len(name) > LONGEST_NAME:
        raise Refusal("a name has at most 60 characters", field="name")
    if any(unicodedata.category(sign).startswith("C") for sign in name):
        raise Refusal("a name has letters, digits and signs only", field="name")
    return name


def _check_role(text: str) -> StaffRole:
    if text not in list(StaffRole):
        raise Refusal("choose what they may do", field="role")
    return StaffRole(text)


def _check_key(visit: Visit) -> None:
    if not _can_invite(visit):
        raise Refusal(
            "Sign in with a 7stamp key to invite somebody: an invitation stands on it, and this device was signed in "
            "by a link.",
            field="name",
        )


def _record(visit: Visit, tx: Transaction, change: str, colleague: Colleague) -> None:
    """Record in the security log that a colleague was `invited` or `removed`, or has another `role`."""
    params = {"login": visit.principal.login, "name": colleague.name, "role": _ROLE_WORDS[colleague.role]}
    visit.record_event(tx, EventKind.people_changed, Message(f"security.people.{change}", params))


@router.post("/people/{colleague}/invite", page="/people")
async def invite_again(visit: Visit) -> Response:
    """Make another invitation, for another device of a colleague or in place of one that was lost."""
    business_id = _business_id(visit)
    try:
        _check_key(visit)
    except Refusal as error:
        return await _page(visit, {"name": visit.localizer.sentence(error.message)})

    def work(tx: Transaction) -> tuple[Colleague, str]:
        colleague = _colleague(visit, tx, business_id)
        _record(visit, tx, "invited", colleague)
        token = access.colleagues.invite(tx, colleague, visit.principal, visit.signed_in_session.id_hash)
        return colleague, token

    colleague, token = await visit.host.store.write(work)
    return _show_invitation(visit, colleague, token)


def _colleague(visit: Visit, tx: Transaction, business_id: str) -> Colleague:
    """Return the colleague that the path names. Raises `PageNotFound` where it is another business's."""
    colleague = access.colleagues.get(tx, visit.path_params["colleague"], business_id)
    if colleague is None:
        raise PageNotFound
    return colleague


@router.post("/people/{colleague}/role", page="/people")
async def change_role(visit: Visit) -> Response:
    """Give a colleague another role, at once and on each of their devices."""
    business_id = _business_id(visit)

    def work(tx: Transaction) -> Colleague:
        colleague = _colleague(visit, tx, business_id)
        role = _check_role(visit.form.get("role"))
        access.colleagues.set_role(tx, colleague.id, business_id, role)
        changed = _colleague(visit, tx, business_id)
        if changed.role is not colleague.role:
            _record(visit, tx, "role", changed)
        return changed

    try:
        changed = await visit.host.store.write(work)
    except Refusal as error:
        return await _page(visit, {"role": visit.localizer.sentence(error.message)})
    params = {"name": changed.name, "role": _ROLE_WORDS[changed.role]}
    return visit.redirect("/people", Message("{name}: {role}, from now on.", params))


@router.post("/people/{colleague}/remove", page="/people")
async def remove(visit: Visit) -> Response:
    """Remove a colleague: their devices are signed out at once."""
    business_id = _business_id(visit)

    def work(tx: Transaction) -> Colleague:
        colleague = _colleague(visit, tx, business_id)
        access.colleagues.remove(tx, colleague.id, business_id)
        _record(visit, tx, "removed", colleague)
        return colleague

    removed = await visit.host.store.write(work)
    notice = Message("{name} is removed, and signed out everywhere.", {"name": removed.name})
    return visit.redirect("/people", notice)


# --- joining --------------------------------------------------------------------------------------------------------


@router.get("/join/{token}", Role.anyone)
async def join_page(visit: Visit) -> Response:
    """Show whom an invitation is for; only the form spends it, so a preview of a messenger spends nothing."""
    return await _render_invitation(visit, 200)


async def _render_invitation(visit: Visit, status: int) -> Response:
    token = visit.path_params["token"]
    found = await visit.host.store.read(lambda tx: access.colleagues.invited_by_token(tx, token))
    if found is None:
        return visit.render("join.html", 410, colleague=None)
    colleague, principal = found
    return visit.render("join.html", status, token=token, colleague=colleague, business=principal.business_name)


@router.post("/join/{token}", Role.anyone)
async def join(visit: Visit) -> Response:
    """Sign this browser in as the colleague, in place of the session that its page named."""
    if ends_another_session(visit):
        return await _render_invitation(visit, 409)
    response = await visit.console.auth.begin_session_by_invitation(visit.request, visit.path_params["token"])
    return response or visit.render("join.html", 410, colleague=None)

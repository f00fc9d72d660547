"""The page of messages: which phones and browsers are told by Web Push, of what each, and when not.

Owns the page and the reading of its forms; devices are `store.access.push_devices`', sending `connectors.notices`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import time

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.quiet_hours import QuietHours
from connectors.notices.web_push import Outcome
from connectors.services import Refusal
from connectors.store import access, connections
from connectors.store.access.push_devices import MOST, PushAddress, PushChoices, PushDevice, PushOwner
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import Session, StaffRole
from connectors.store.engine import Transaction
from connectors.web.console.auth import push_owner
from connectors.web.console.localization import zone_of
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_LET_IN = Message(
    "Sign in with a 7stamp key or a passkey of yours: this device was let in by a link of the operator's."
)
_ANSWERS: Mapping[Outcome, Message] = {
    Outcome.sent: Message("It is on its way: it arrives within a minute."),
    Outcome.gone: Message("This device takes no messages any more. Turn them on there again."),
    Outcome.later: Message("It could not be sent just now. We go on trying; look whether the device is online."),
    Outcome.refused: Message(
        "Its push service takes nothing from here. Turn the messages off on the device, and on again."
    ),
}
"""What became of a message that somebody asked for."""


def _owner_of(visit: Visit) -> PushOwner:
    """Return whose devices these are. Raises `PageNotFound` for the operator, who has no business."""
    session = visit.signed_in_session
    if session.operator:
        raise PageNotFound
    return push_owner(session)


@router.get("/messages", Role.manager)
async def messages(visit: Visit) -> Response:
    """List the devices that are told, with what each is told of."""
    return await _page(visit, {})


async def _page(visit: Visit, errors: Mapping[str, str], wrong_device: str = "") -> Response:
    owner, session = _owner_of(visit), visit.signed_in_session
    here = visit.console.auth.told_device(visit.request)

    def read(tx: Transaction) -> tuple[list[PushDevice], list[Connection], dict[str, str]]:
        return (
            [one for one in access.push_devices.of_business(tx, owner.business_id) if _is_theirs(session, one)],
            connections.registry.list_all(tx, owner.business_id),
            connections.alerts.emails_of_business(tx, owner.business_id),
        )

    told, joined, emails = await visit.host.store.read(read)
    return visit.render(
        "messages.html",
        422 if errors else 200,
        devices=sorted(told, key=lambda one: one.id != here),
        here=here,
        is_told_here=any(one.id == here for one in told),
        tills=joined,
        emails=emails,
        mail_set=visit.host.settings.smtp_url is not None,
        errors=errors,
        wrong_device=wrong_device,
        form=visit.form,
        public_key=visit.host.notices.pushes.push.public_key,
        time_text=_time_text,
    )


def _is_theirs(session: Session, device: PushDevice) -> bool:
    """Tell whether somebody may see and change a device: an owner each, a manager their own."""
    return session.principal.role is StaffRole.owner or device.colleague_id == session.principal.colleague_id


def _time_text(minutes: int | None) -> str:
    return "" if minutes is None else time(minutes // 60, minutes % 60).isoformat("minutes")


@router.post("/messages", Role.manager)
async def turn_on(visit: Visit) -> Response:
    """Have this browser be told, as its own script has arranged with its push service."""
    owner = _owner_of(visit)
    visit.limit_messages()
    if visit.signed_in_session.by_operator:
        # what the operator opened ends with the operator's password, and what it is told must end with it
        return await _page(visit, {"here": visit.localizer.message(_LET_IN)})
    try:
        address = await visit.host.notices.pushes.push.check(
            visit.form.get("endpoint"), visit.form.get("public_key"), visit.form.get("auth")
        )
        device = await _add(visit, owner, address)
    except ValueError:
        why = visit.localizer.text(
            "This browser gave no address that can be reached. Load the page anew, and try again."
        )
        return await _page(visit, {"here": why})
    except Refusal as error:
        return await _page(visit, {"here": visit.localizer.sentence(error.message)})
    sent = await visit.host.notices.pushes.test(device)
    if sent.outcome is Outcome.sent:
        notice, kind = Message("Messages come to this device. The first one is on its way."), "good"
    else:
        notice, kind = _ANSWERS[sent.outcome], "bad"
    response = visit.redirect("/messages", notice, kind)
    visit.console.auth.mark_told_device(visit.request, response, device.id)
    return response


async def _add(visit: Visit, owner: PushOwner, address: PushAddress) -> PushDevice:
    zone = visit.form.get("zone")
    if zone_of(zone).key != zone:  # the browser says none, or one that this system lacks
        zone = visit.principal.zone
    language, name = visit.localizer.language, visit.signed_in_session.device

    def work(tx: Transaction) -> PushDevice:
        device = access.push_devices.add(
            tx, owner, address, name, language=language, zone=zone, former=visit.console.auth.told_device(visit.request)
        )
        if device is None:
            raise Refusal("{number} devices are told already: turn one off first.", number=MOST)
        _record(visit, tx, "on", device)
        return device

    return await visit.host.store.write(work)


def _record(visit: Visit, tx: Transaction, change: str, device: PushDevice) -> None:
    """Record in the security log that a device is told from now `on`, or not any more (`off`)."""
    params = {"login": visit.principal.login, "device": device.device or Message("A browser")}
    visit.record_event(tx, EventKind.messages_changed, Message(f"security.messages.{change}", params))


def _device(visit: Visit, tx: Transaction) -> PushDevice:
    """Return the device that the path names. Raises `PageNotFound` where it is not theirs."""
    device = access.push_devices.get(tx, visit.path_params["device"], _owner_of(visit).business_id)
    if device is None or not _is_theirs(visit.signed_in_session, device):
        raise PageNotFound
    return device


@router.post("/messages/{device}/choices", Role.manager, page="/messages")
async def choose(visit: Visit) -> Response:
    """Set what a device is told of, and its quiet hours."""
    try:
        choices = PushChoices(
            trouble=visit.form.get("trouble") == "1",
            plan=visit.form.get("plan") == "1",
            week=visit.form.get("week") == "1",
            quiet=_quiet_hours(visit),
        )
    except Refusal as error:
        await visit.host.store.read(lambda tx: _device(visit, tx))
        return await _page(visit, {"quiet": visit.localizer.sentence(error.message)}, visit.path_params["device"])

    def work(tx: Transaction) -> None:
        device = _device(visit, tx)
        access.push_devices.choose(tx, device, choices)
        if not choices.trouble:
            connections.push_alerts.forget(tx, device.id)

    await visit.host.store.write(work)
    return visit.redirect("/messages", Message("Saved."))


def _quiet_hours(visit: Visit) -> QuietHours | None:
    """Read both ends of the quiet hours; `None` where neither is filled in. Raises `Refusal`."""
    begin, end = visit.form.get("quiet_begin").strip(), visit.form.get("quiet_end").strip()
    if not begin and not end:
        return None
    try:
        return QuietHours(_minutes(begin), _minutes(end))
    except ValueError:
        raise Refusal("Say when they begin and when they end, as two different times.") from None


def _minutes(text: str) -> int:
    at = time.fromisoformat(text[:8])
    return at.hour * 60 + at.minute


@router.post("/messages/{device}/test", Role.manager, page="/messages")
async def send_test(visit: Visit) -> Response:
    """Send a device a message at once, and say what became of it."""
    device = await visit.host.store.read(lambda tx: _device(visit, tx))
    visit.limit_messages()
    sent = await visit.host.notices.pushes.test(device)
    return visit.redirect("/messages", _ANSWERS[sent.outcome], "good" if sent.outcome is Outcome.sent else "bad")


@router.post("/messages/{device}/remove", Role.manager, page="/messages")
async def turn_off(visit: Visit) -> Response:
    """Tell a device nothing any more."""

    def work(tx: Transaction) -> None:
        device = _device(visit, tx)
        access.push_devices.remove(tx, device.id)
        _record(visit, tx, "off", device)

    await visit.host.store.write(work)
    return visit.redirect("/messages", Message("Nothing is sent to that device any more."))

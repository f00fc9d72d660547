"""The pages of subscriptions: who is told of the business's events, how that goes, and what to do where it fails.

Owns the pages and their words for events; making, checking and sending are `connectors.services.subscriptions`'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.domain.relay import DeliveryState, Shape, SubscriptionState
from connectors.services import Refusal, SubscriptionRequest
from connectors.web.console.routing import Router
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_EVENTS: Sequence[tuple[Message, Mapping[str, Message]]] = (
    (
        Message("Cards"),
        {
            "card_issued": Message("A card was issued"),
            "card_saved": Message("A card was saved to a wallet"),
            "card_opened": Message("A card was opened"),
        },
    ),
    (
        Message("Stamps and rewards"),
        {
            "stamp_added": Message("Stamps were added"),
            "goal_reached": Message("A customer reached a goal"),
            "reward_issued": Message("A reward was given"),
            "lottery_played": Message("A lottery was played"),
        },
    ),
    (
        Message("Vouchers"),
        {
            "voucher_issued": Message("A voucher was issued"),
            "voucher_redeemed": Message("A voucher was used"),
            "voucher_expired": Message("A voucher expired"),
        },
    ),
    (
        Message("Customers"),
        {
            "birthday_reached": Message("It is a customer's birthday"),
            "inactivity_trigger": Message("A customer has not come for a while"),
            "campaign_sent": Message("A campaign was sent"),
        },
    ),
    (
        Message("Receipts and tills"),
        {
            "sale.ingested": Message("A receipt was read, or changed"),
            "operation.applied": Message("7stamp did what a receipt asks for"),
            "operation.held": Message("Stamps are held"),
            "operation.rejected": Message("Stamps were not given"),
            "connection.health_changed": Message("A till stopped, or works again"),
            "reconciliation.differs": Message("The nightly comparison found differences"),
        },
    ),
)
"""What events are about, each with its events in a cafe's words."""
EVENT_WORDS: Mapping[str, Message] = {name: words for _, events in _EVENTS for name, words in events.items()}
"""Each event in a cafe's words."""
_DELIVERIES = 20
_SLACK = "hooks.slack.com"
_PAGE = "/connections/{connection}/subscriptions"
_ONE = "/connections/{connection}/subscriptions/{subscription}"


@dataclass(frozen=True, slots=True)
class _EventChoice:
    """An event to tick: its name, its words, and whether it is ticked."""

    name: str
    words: str
    ticked: bool


def _choices(visit: Visit, ticked: tuple[str, ...]) -> dict[str, list[_EventChoice]]:
    """Return the events to choose from, by what they are about."""
    text = visit.localizer.text
    return {
        text(about.id): [_EventChoice(name, text(words.id), name in ticked) for name, words in events.items()]
        for about, events in _EVENTS
    }


@router.get(_PAGE)
async def subscriptions(visit: Visit) -> Response:
    """List the subscriptions of the connection's business, with the form for another."""
    return await _list_page(visit, (await visit.load_overview()).connection, {})


async def _list_page(visit: Visit, connection: Connection, errors: Mapping[str, str]) -> Response:
    listed = await visit.services.subscriptions.list_all(connection.business_id)
    return visit.render(
        "subscriptions.html",
        422 if errors else 200,
        connection=connection,
        subscriptions=listed,
        choices=_choices(visit, tuple(visit.form.all("event"))),
        form=visit.form,
        errors=errors,
    )


@router.post(_PAGE)
async def subscribe(visit: Visit) -> Response:
    """Make a subscription, and show its secret once."""
    connection = (await visit.load_overview()).connection
    if not visit.form.all("event"):
        return await _list_page(visit, connection, {"events": visit.localizer.text("Choose at least one.")})
    try:
        made = await visit.services.subscriptions.create(connection.business_id, _request(visit))
    except Refusal as error:
        return await _list_page(visit, connection, _errors(visit, error))
    page = f"/connections/{connection.id}/subscriptions/{made.subscription.id}"
    return visit.redirect(page, Message("Events go there from now on."), secret=made.secret)


def _shape_of(url: str) -> Shape:
    """Return what an address needs where nobody says so: Slack takes sentences only."""
    try:
        is_slack = urlsplit(url.strip()).hostname == _SLACK
    except ValueError:  # no address, which is said of it where it is checked
        is_slack = False
    return Shape.slack if is_slack else Shape.standard


def _request(visit: Visit) -> SubscriptionRequest:
    form = visit.form
    return SubscriptionRequest(
        url=form.get("url"),
        events=form.all("event"),
        title=form.get("title"),
        filter=form.get("filter"),
        personal=form.get("personal") == "1",
        shape=form.get("shape") or _shape_of(form.get("url")),
    )


def _errors(visit: Visit, error: Refusal) -> dict[str, str]:
    return {error.field or "url": visit.localizer.sentence(error.message)}


@router.get(_ONE)
async def subscription(visit: Visit) -> Response:
    """Show a subscription: where it goes, what was sent last and how it was answered."""
    return await _page(visit, (await visit.load_overview()).connection, {})


async def _page(visit: Visit, connection: Connection, errors: Mapping[str, str]) -> Response:
    service, subscription_id = visit.services.subscriptions, visit.path_params["subscription"]
    shown = await service.get(connection.business_id, subscription_id)
    deliveries = await service.deliveries(
        connection.business_id, subscription_id, limit=_DELIVERIES, before=_before(visit)
    )
    is_failed = any(tried.delivery.state is DeliveryState.failed for tried in deliveries)
    return visit.render(
        "subscription.html",
        422 if errors else 200,
        connection=connection,
        subscription=shown,
        is_active=shown.state is SubscriptionState.active,
        deliveries=deliveries,
        older=deliveries[-1].delivery.seq if len(deliveries) == _DELIVERIES else None,
        is_failed=is_failed,
        choices=_choices(visit, tuple(visit.form.all("event")) if errors else shown.events),
        words={name: visit.localizer.text(message.id) for name, message in EVENT_WORDS.items()},
        form=visit.form,
        errors=errors,
    )


def _before(visit: Visit) -> int | None:
    before = visit.request.query_params.get("before", "")
    return int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None


def _back(visit: Visit, connection: Connection) -> str:
    return f"/connections/{connection.id}/subscriptions/{visit.path_params['subscription']}"


@router.post(f"{_ONE}/test", page=_ONE)
async def send_test(visit: Visit) -> Response:
    """Send a test and say how it was answered."""
    connection = (await visit.load_overview()).connection
    try:
        tried = await visit.services.subscriptions.send_test(connection.business_id, visit.path_params["subscription"])
    except Refusal as error:
        return visit.redirect(_back(visit, connection), error.message, "bad")
    if tried.delivery.state is DeliveryState.delivered:
        return visit.redirect(_back(visit, connection), Message("The test was taken."))
    return visit.redirect(_back(visit, connection), Message("The test was not taken: see below."), "bad")


@router.post(f"{_ONE}/edit", page=_ONE)
async def edit(visit: Visit) -> Response:
    """Change a subscription; what waits goes to the new address at once."""
    connection = (await visit.load_overview()).connection
    request = _request(visit)
    if not request.events:
        return await _page(visit, connection, {"events": visit.localizer.text("Choose at least one.")})
    changes = {name: getattr(request, name) for name in ("events", "title", "filter", "personal", "shape")}
    if request.url.strip():  # left empty, the address stays: it is not shown again
        changes["url"] = request.url
    try:
        await visit.services.subscriptions.edit(connection.business_id, visit.path_params["subscription"], **changes)
    except Refusal as error:
        return await _page(visit, connection, _errors(visit, error))
    return visit.redirect(_back(visit, connection), Message("Saved."))


@router.post(f"{_ONE}/stop", page=_ONE)
async def stop(visit: Visit) -> Response:
    """Record and send nothing more."""
    return await _set_active(visit, Message("Stopped. What waits is kept."), active=False)


@router.post(f"{_ONE}/resume", page=_ONE)
async def resume(visit: Visit) -> Response:
    """Go on with what waits."""
    return await _set_active(visit, Message("It goes on with what waits."), active=True)


async def _set_active(visit: Visit, notice: Message, *, active: bool) -> Response:
    connection = (await visit.load_overview()).connection
    await visit.services.subscriptions.set_active(
        connection.business_id, visit.path_params["subscription"], active=active
    )
    return visit.redirect(_back(visit, connection), notice)


@router.post(f"{_ONE}/secret", page=_ONE)
async def renew_secret(visit: Visit) -> Response:
    """Make another secret and show it once."""
    connection = (await visit.load_overview()).connection
    renewed = await visit.services.subscriptions.renew_secret(connection.business_id, visit.path_params["subscription"])
    notice = Message("Events are signed with both secrets for a day.")
    return visit.redirect(_back(visit, connection), notice, secret=renewed.secret)


@router.post(f"{_ONE}/replay", page=_ONE)
async def replay(visit: Visit) -> Response:
    """Deliver one event again, or everything that was given up."""
    connection = (await visit.load_overview()).connection
    service, subscription_id = visit.services.subscriptions, visit.path_params["subscription"]
    seq = visit.form.get("delivery")
    if not seq:
        count = await service.replay_failed(connection.business_id, subscription_id)
    elif seq.isascii() and seq.isdigit() and len(seq) < 16:
        count = await service.replay(connection.business_id, subscription_id, int(seq))
    else:
        raise PageNotFound
    return visit.redirect(_back(visit, connection), Message("relay.replayed", {"count": count}))


@router.post(f"{_ONE}/remove", page=_ONE)
async def remove(visit: Visit) -> Response:
    """Remove a subscription with what waits for it."""
    connection = (await visit.load_overview()).connection
    await visit.services.subscriptions.remove(connection.business_id, visit.path_params["subscription"])
    return visit.redirect(f"/connections/{connection.id}/subscriptions", Message("Removed. No events go there."))

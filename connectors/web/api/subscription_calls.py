"""The calls about subscriptions: the REST-hook pattern that Zapier and Make expect, deliveries and replays.

Owns how each answer looks; making, checking and sending are `connectors.services.subscriptions`'.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import JsonValue

from connectors.domain.clock import micros
from connectors.services import SubscriptionRequest
from connectors.services.shapes import DeliveryShape, NewSubscriptionShape, SubscriptionShape
from connectors.web.api.access import IdempotencyKey, Reader, Subscriber, once
from connectors.web.api.bodies import NewSubscriptionRequest, Replayed, ReplayRequest, SubscriptionChange
from connectors.web.api.problems import Problem
from connectors.web.api.routing import ApiRoute, CursorText, Limit, Page, cursor_of, number_from, problems

router = APIRouter(route_class=ApiRoute, tags=["subscriptions"])

SubscriptionId = Annotated[str, Path(alias="subscription", max_length=64, examples=["sub_1a2b3c4d5e6f"])]


@router.get("/subscriptions", operation_id="subscriptions", summary="The subscriptions", responses=problems())
async def subscriptions(caller: Reader) -> Page[SubscriptionShape]:
    """List the subscriptions of the business, oldest first."""
    listed = await caller.services.subscriptions.list_all(caller.business_id)
    return Page(items=[SubscriptionShape.of(one) for one in listed], next=None)


@router.post(
    "/subscriptions",
    operation_id="subscribe",
    summary="Subscribe an address",
    status_code=201,
    response_model=NewSubscriptionShape,
    responses=problems(409),
)
async def subscribe(
    caller: Subscriber, body: NewSubscriptionRequest, request: Request, key: IdempotencyKey = None
) -> Response:
    """Have events posted to an address; the answer has the secret that proves them, this once."""

    async def work() -> NewSubscriptionShape:
        asked = SubscriptionRequest(body.url, body.events, body.title, body.filter, body.personal, body.shape)
        made = await caller.services.subscriptions.create(caller.business_id, asked, token_id=caller.token.id)
        return NewSubscriptionShape.of_new(made)

    return await once(caller, request, key, 201, work)


@router.get(
    "/subscriptions/{subscription}", operation_id="subscription", summary="One subscription", responses=problems()
)
async def subscription(caller: Reader, subscription_id: SubscriptionId) -> SubscriptionShape:
    """Show one subscription."""
    return SubscriptionShape.of(await caller.services.subscriptions.get(caller.business_id, subscription_id))


@router.patch(
    "/subscriptions/{subscription}",
    operation_id="changeSubscription",
    summary="Change a subscription",
    responses=problems(409),
)
async def change(caller: Subscriber, subscription_id: SubscriptionId, body: SubscriptionChange) -> SubscriptionShape:
    """Change what is given; stop it, or let it go on."""
    service, business = caller.services.subscriptions, caller.business_id
    changes = body.model_dump(exclude_none=True, exclude={"active"})
    changed = await service.get(business, subscription_id)
    if changes:
        changed = await service.edit(business, subscription_id, **changes)
    if body.active is not None:
        changed = await service.set_active(business, subscription_id, active=body.active)
    return SubscriptionShape.of(changed)


@router.delete(
    "/subscriptions/{subscription}",
    operation_id="unsubscribe",
    summary="End a subscription",
    status_code=204,
    response_class=Response,
    responses=problems(),
)
async def unsubscribe(caller: Subscriber, subscription_id: SubscriptionId) -> Response:
    """End a subscription; what waits for it is not sent."""
    await caller.services.subscriptions.remove(caller.business_id, subscription_id)
    return Response(status_code=204)


@router.post(
    "/subscriptions/{subscription}/secret",
    operation_id="renewSecret",
    summary="Make another secret",
    responses=problems(),
)
async def renew_secret(caller: Subscriber, subscription_id: SubscriptionId) -> NewSubscriptionShape:
    """Make another secret; events are signed with the one before as well, for a day."""
    renewed = await caller.services.subscriptions.renew_secret(caller.business_id, subscription_id)
    return NewSubscriptionShape.of_new(renewed)


@router.post(
    "/subscriptions/{subscription}/test", operation_id="sendTest", summary="Send a test", responses=problems(409)
)
async def send_test(caller: Subscriber, subscription_id: SubscriptionId) -> DeliveryShape:
    """Send a test now, and answer how it was taken."""
    return DeliveryShape.of(await caller.services.subscriptions.send_test(caller.business_id, subscription_id))


@router.get(
    "/subscriptions/{subscription}/deliveries",
    operation_id="deliveries",
    summary="What was sent, newest first",
    responses=problems(),
)
async def deliveries(
    caller: Reader, subscription_id: SubscriptionId, limit: Limit = 50, cursor: CursorText = None
) -> Page[DeliveryShape]:
    """List what was sent, with every try and how it was answered."""
    page = await caller.services.subscriptions.deliveries(
        caller.business_id, subscription_id, limit=limit, before=number_from(cursor)
    )
    more = cursor_of(page[-1].delivery.seq) if len(page) == limit else None
    return Page(items=[DeliveryShape.of(one) for one in page], next=more)


@router.post(
    "/subscriptions/{subscription}/replay", operation_id="replay", summary="Deliver again", responses=problems(409)
)
async def replay(caller: Subscriber, subscription_id: SubscriptionId, body: ReplayRequest) -> Replayed:
    """Deliver again: one delivery, everything that was given up, or what was recorded within a time."""
    service, business = caller.services.subscriptions, caller.business_id
    if [body.delivery is not None, body.failed, body.since is not None].count(True) != 1:
        raise Problem("invalid", "say what to deliver again: one of delivery, failed or since")
    if body.delivery is not None:
        return Replayed(replayed=await service.replay(business, subscription_id, body.delivery))
    if body.failed or body.since is None:
        return Replayed(replayed=await service.replay_failed(business, subscription_id))
    now = caller.host.store.clock.now() + 1
    until = min(now, micros(body.until)) if body.until is not None else now
    since = max(0, micros(body.since))
    return Replayed(replayed=await service.replay_range(business, subscription_id, since, until))


@router.get(
    "/samples/{event}",
    operation_id="samples",
    summary="Examples of an event",
    responses=problems(),
)
async def samples(
    caller: Reader, event: Annotated[str, Path(max_length=64, examples=["voucher_redeemed"])]
) -> list[dict[str, JsonValue]]:
    """Show the newest bodies of an event, without personal data; a made-up one where there is none."""
    return [dict(body) for body in await caller.services.subscriptions.samples(caller.business_id, event)]

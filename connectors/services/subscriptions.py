"""Subscriptions: who is told of events of a business; made, tested, mended, replayed and ended, for all who ask.

Owns the checks of an address, of events and of a filter, and the words of each refusal; recording and sending are
`connectors.relay`'s.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from pydantic import JsonValue

from connector_sdk.expressions import compile_condition
from connector_sdk.messages import Message
from connectors.domain.relay import OWN_EVENTS, DeliveryState, Shape, SubscriptionState
from connectors.relay import bodies
from connectors.relay.addresses import Refused
from connectors.services.context import ServiceContext, nearest
from connectors.services.refusal import Refusal
from connectors.sevenstamp.events import EVENTS
from connectors.store import access, relay
from connectors.store.access.security_log import EventKind
from connectors.store.engine import Transaction
from connectors.store.errors import QuotaMet
from connectors.store.relay.deliveries import Attempt, Delivery
from connectors.store.relay.subscriptions import Subscription, SubscriptionContent

KNOWN_EVENTS = (*EVENTS, *OWN_EVENTS)
"""Every event that can be subscribed to."""
_LONGEST_TITLE = 120
_NEAREST = 5
_REPLAYED_AT_ONCE = 10_000
_TEST_PATIENCE = 15.0
_LOOK_PAUSE = 0.05
_MOST_SAMPLES = 50


@dataclass(frozen=True, slots=True)
class SubscriptionRequest:
    """What somebody asks for; nothing of it is checked yet. No events mean all."""

    url: str
    events: Sequence[str] = ()
    title: str = ""
    filter: str | None = None
    personal: bool = False
    shape: str = Shape.standard


@dataclass(frozen=True, slots=True)
class NewSubscription:
    """A subscription that was made, with the secret that proves its deliveries: shown once."""

    subscription: Subscription
    secret: str


@dataclass(frozen=True, slots=True)
class TriedDelivery:
    """A delivery with its tries, oldest first."""

    delivery: Delivery
    attempts: Sequence[Attempt]


class SubscriptionService:
    """Makes and keeps subscriptions of businesses."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    # --- reading ----------------------------------------------------------------------------------------------

    async def list_all(self, business_id: str) -> list[Subscription]:
        """List the subscriptions of a business, oldest first."""
        return await self._context.store.read(lambda tx: relay.subscriptions.of_business(tx, business_id))

    async def get(self, business_id: str, subscription_id: str) -> Subscription:
        """Read a subscription of a business. Raises `NotFound`."""
        return await self._context.store.read(lambda tx: relay.subscriptions.get(tx, business_id, subscription_id))

    async def deliveries(
        self,
        business_id: str,
        subscription_id: str,
        *,
        limit: int = 50,
        before: int | None = None,
        state: DeliveryState | None = None,
    ) -> list[TriedDelivery]:
        """List a subscription's deliveries with their tries, newest first. Raises `NotFound`."""

        def work(tx: Transaction) -> list[TriedDelivery]:
            relay.subscriptions.get(tx, business_id, subscription_id)
            found = relay.deliveries.of_subscription(tx, subscription_id, limit=limit, before=before, state=state)
            tries = relay.deliveries.attempts_of(tx, [delivery.seq for delivery in found])
            return [TriedDelivery(delivery, tries.get(delivery.seq, [])) for delivery in found]

        return await self._context.store.read(work)

    async def body_of(self, business_id: str, subscription_id: str, seq: int) -> Mapping[str, JsonValue]:
        """Return what a delivery sends, as its subscriber sees it. Raises `NotFound`."""

        def work(tx: Transaction) -> Mapping[str, JsonValue]:
            subscription = relay.subscriptions.get(tx, business_id, subscription_id)
            delivery = relay.deliveries.get(tx, subscription_id, seq)
            return bodies.for_subscriber(json.loads(delivery.content), personal=subscription.personal)

        return await self._context.store.read(work)

    async def samples(self, business_id: str, event: str, limit: int = 3) -> list[Mapping[str, JsonValue]]:
        """Return the newest bodies of an event of a business, without personal data; made-up ones where there are none.

        Raises `Refusal` for an event that nobody has.
        """
        self._known_events([event])
        most = min(limit, _MOST_SAMPLES)
        newest = await self._context.store.read(
            lambda tx: relay.deliveries.newest_events(tx, business_id, limit=most, names=[event])
        )
        stored = [bodies.for_subscriber(json.loads(one.content), personal=False) for one in newest]
        return stored or [bodies.example(event, business_id)]

    # --- changing ---------------------------------------------------------------------------------------------

    async def create(
        self, business_id: str, request: SubscriptionRequest, *, token_id: str | None = None
    ) -> NewSubscription:
        """Make a subscription; its secret is returned once. Raises `Refusal`."""
        content = await self._checked(request)

        def work(tx: Transaction) -> Subscription:
            subscription_id = relay.subscriptions.insert(tx, business_id, content, token_id=token_id)
            _log(tx, business_id, "security.subscription_made", content.host)
            return relay.subscriptions.get(tx, business_id, subscription_id)

        try:
            made = await self._context.write(work)
        except QuotaMet as error:
            raise Refusal(
                "a business has at most {number} subscriptions here: remove one first, or ask the operator for more",
                number=error.most,
            ) from None
        return NewSubscription(made, made.secrets[0])

    async def edit(self, business_id: str, subscription_id: str, **changes: object) -> Subscription:
        """Change what a subscription asks for: fields of `SubscriptionRequest`. Raises `NotFound`, `Refusal`."""
        before = await self.get(business_id, subscription_id)
        request = SubscriptionRequest(
            before.url, before.events, before.title, before.filter, before.personal, before.shape
        )
        content = await self._checked(replace(request, **changes))  # type: ignore[arg-type]

        def work(tx: Transaction) -> Subscription:
            relay.subscriptions.get(tx, business_id, subscription_id)
            relay.subscriptions.change(tx, subscription_id, content)
            if content.url != before.url or content.personal != before.personal:
                _log(tx, business_id, "security.subscription_changed", content.host)
            return relay.subscriptions.get(tx, business_id, subscription_id)

        return await self._context.write(work)

    async def set_active(self, business_id: str, subscription_id: str, *, active: bool) -> Subscription:
        """Stop a subscription, or let it go on with what waits. Raises `NotFound`."""

        def work(tx: Transaction) -> Subscription:
            relay.subscriptions.get(tx, business_id, subscription_id)
            if active:
                relay.subscriptions.enable(tx, subscription_id)
                relay.deliveries.wake(tx, subscription_id)
            else:
                relay.subscriptions.disable(tx, subscription_id, None)
            return relay.subscriptions.get(tx, business_id, subscription_id)

        return await self._context.write(work)

    async def renew_secret(self, business_id: str, subscription_id: str) -> NewSubscription:
        """Make another secret; the one before signs for a day longer. Raises `NotFound`."""

        def work(tx: Transaction) -> Subscription:
            host = relay.subscriptions.get(tx, business_id, subscription_id).host
            relay.subscriptions.renew_secret(tx, subscription_id)
            _log(tx, business_id, "security.subscription_changed", host)
            return relay.subscriptions.get(tx, business_id, subscription_id)

        renewed = await self._context.write(work)
        return NewSubscription(renewed, renewed.secrets[0])

    async def remove(self, business_id: str, subscription_id: str) -> None:
        """Remove a subscription with what waits for it. Raises `NotFound`."""

        def work(tx: Transaction) -> None:
            host = relay.subscriptions.get(tx, business_id, subscription_id).host
            relay.deliveries.delete_of_subscription(tx, subscription_id)
            relay.subscriptions.delete(tx, subscription_id)
            _log(tx, business_id, "security.subscription_removed", host)

        await self._context.write(work)

    # --- sending ----------------------------------------------------------------------------------------------

    async def send_test(self, business_id: str, subscription_id: str) -> TriedDelivery:
        """Send a test now, and return how it went; pending where it had no turn within some seconds.

        Raises `NotFound`, `Refusal` where the subscription is stopped.
        """

        def work(tx: Transaction) -> int:
            subscription = relay.subscriptions.get(tx, business_id, subscription_id)
            if subscription.state is not SubscriptionState.active:
                raise Refusal("this subscription is stopped: let it go on first")
            # somebody waits for the answer: an endpoint that failed is asked at once
            relay.subscriptions.send_at_once(tx, subscription_id)
            test = bodies.test_event(business_id, "A test from 7stamp connectors.", tx.now)
            return relay.deliveries.record_for(tx, test, subscription_id)

        seq = await self._context.write(work)
        return await self._wait_for_try(subscription_id, seq)

    async def _wait_for_try(self, subscription_id: str, seq: int) -> TriedDelivery:
        """Wait until a delivery was tried; without a host that runs, it is sent here."""
        loop = asyncio.get_running_loop()
        until = loop.time() + _TEST_PATIENCE
        while True:
            await self._context.relay.round()

            def look(tx: Transaction) -> TriedDelivery:
                delivery = relay.deliveries.get(tx, subscription_id, seq)
                return TriedDelivery(delivery, relay.deliveries.attempts_of(tx, [seq]).get(seq, []))

            tried = await self._context.store.read(look)
            if tried.attempts or tried.delivery.state is not DeliveryState.pending or loop.time() > until:
                return tried
            await asyncio.sleep(_LOOK_PAUSE)

    async def replay(self, business_id: str, subscription_id: str, seq: int) -> int:
        """Deliver one event again; return how many that are (0 where it waits already). Raises `NotFound`."""

        def work(tx: Transaction) -> int:
            relay.subscriptions.get(tx, business_id, subscription_id)
            relay.deliveries.get(tx, subscription_id, seq)
            return relay.deliveries.replay(tx, subscription_id, relay.deliveries.is_delivery(seq), 1)

        return await self._context.write(work)

    async def replay_failed(self, business_id: str, subscription_id: str) -> int:
        """Deliver again everything that was given up, oldest first; return how many events. Raises `NotFound`."""

        def work(tx: Transaction) -> int:
            relay.subscriptions.get(tx, business_id, subscription_id)
            return relay.deliveries.replay(tx, subscription_id, relay.deliveries.is_failed(), _REPLAYED_AT_ONCE)

        return await self._context.write(work)

    async def replay_range(self, business_id: str, subscription_id: str, start: int, end: int) -> int:
        """Deliver again what was recorded within a time (UTC microseconds, the end excluded), oldest first.

        Also what was recorded for another subscription of the business while this one was stopped. Return how many
        events. Raises `NotFound`, `Refusal` for a time that ends before it begins.
        """
        if end <= start:
            raise Refusal("the time ends before it begins", field="until")

        def work(tx: Transaction) -> int:
            subscription = relay.subscriptions.get(tx, business_id, subscription_id)
            return relay.deliveries.replay_recorded(
                tx, business_id, subscription_id, subscription.events, start, end, _REPLAYED_AT_ONCE
            )

        return await self._context.write(work)

    # --- checks -----------------------------------------------------------------------------------------------

    async def _checked(self, request: SubscriptionRequest) -> SubscriptionContent:
        """Check what is asked for. Raises `Refusal` that names the field."""
        events = self._known_events(request.events or KNOWN_EVENTS)
        condition = (request.filter or "").strip() or None
        if condition is not None:
            try:
                compile_condition(condition)
            except ValueError as error:
                raise Refusal("the filter cannot be read: {why}", field="filter", why=str(error)) from None
        if request.shape not in list(Shape):
            known = ", ".join(nearest(request.shape, list(Shape)))
            raise Refusal(
                "there is no shape '{shape}'; known: {known}", field="shape", shape=request.shape, known=known
            )
        try:
            target = await self._context.addresses.check(request.url.strip())
        except Refused as refusal:
            raise Refusal("this address cannot be used: it {why}", field="url", why=Message(str(refusal))) from None
        title = " ".join(request.title.split())[:_LONGEST_TITLE]
        return SubscriptionContent(
            url=request.url.strip(),
            host=target.host,
            events=events,
            title=title or target.host,
            filter=condition,
            personal=request.personal,
            shape=Shape(request.shape),
        )

    def _known_events(self, names: Sequence[str]) -> tuple[str, ...]:
        """Return event names, each once. Raises `Refusal` that names the nearest for one that nobody has."""
        for name in names:
            if name not in KNOWN_EVENTS:
                known = ", ".join(nearest(name, KNOWN_EVENTS)[:_NEAREST])
                raise Refusal("there is no event '{event}'; nearest: {known}", field="events", event=name, known=known)
        return tuple(dict.fromkeys(names))


def _log(tx: Transaction, business_id: str, message_id: str, host: str) -> None:
    """Note in the security log that data goes elsewhere now, or no more."""
    message = Message(message_id, {"host": host, "by": tx.by or ""})
    access.security_log.record(tx, EventKind.subscription_changed, message, business_id=business_id)

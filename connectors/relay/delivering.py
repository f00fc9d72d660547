"""Delivering: at least once, in order per card, signed, and again with growing pauses for three days.

Owns what is sent when, and what an answer means. One subscription has few places on the wire, and one that fails has
one place and a pause of its own, so that a slow endpoint delays nobody else.

What an answer means:

- 2xx: taken.
- 410: the subscriber is gone, and the subscription is disabled.
- another 4xx (but 408 and 429): this body was refused. It is tried again later, and only its card's events wait.
- everything else, no answer, a redirect, an answer that is too long: the endpoint fails, and as a whole gets a pause.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from connector_sdk.expressions import Budget, TooCostly, meets_condition, parse_json
from connector_sdk.messages import Message
from connector_sdk.signatures import StandardWebhooks
from connectors.domain.clock import SECOND, moment
from connectors.domain.relay import LONGEST_OUTAGE, DeliveryState, Shape, retry_pause
from connectors.relay.addresses import Reply, SubscriberClient
from connectors.relay.bodies import for_subscriber
from connectors.store import relay
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.relay.deliveries import Attempt, Delivery, DueSubscription, Tried
from connectors.store.relay.subscriptions import Subscription

log = logging.getLogger(__name__)

PLACES = 4
"""Calls to one subscriber at a time."""
_ALL_PLACES = 128
"""Calls to all of them."""
_SPREAD = 0.2
_LONGEST_RETRY_AFTER = 3600
_REFUSALS_THAT_PASS = (408, 429)

Worded = Callable[[str, Mapping[str, JsonValue]], str]
"""Words an event, by its name and data, as one sentence for a chat."""


@dataclass(frozen=True, slots=True)
class _Judged:
    """What a reply means for a delivery, and for its subscription."""

    state: DeliveryState
    pause: int = 0
    """Before this delivery is tried again, in microseconds."""
    endpoint_pause: int | None = None
    """Before anything is sent to the subscriber again; `None` where the others may go."""
    gone: bool = False


class RelayDeliverer:
    """Sends what is due to subscribers."""

    def __init__(self, store: Store, client: SubscriberClient, worded: Worded) -> None:
        self._store = store
        self._client = client
        self._worded = worded
        self._slots = asyncio.Semaphore(_ALL_PLACES)
        self._on_the_wire: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._stopping = False

    async def round(self) -> int:
        """Claim what is due and has a place, and send it in tasks of its own; return how many were claimed."""
        claimed = 0
        for due in await self._store.read(relay.deliveries.due_subscriptions):
            claimed += await self._send_some(due)
        return claimed

    async def drain(self) -> None:
        """Send until nothing is due and nothing is on the wire."""
        while await self.round() or self._tasks:
            if self._tasks:
                await asyncio.wait(set(self._tasks), return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Claim nothing more, and wait for what is on the wire: its calls have deadlines."""
        self._stopping = True
        if self._tasks:
            await asyncio.wait(set(self._tasks))

    async def _send_some(self, due: DueSubscription) -> int:
        """Claim as much for a subscription as it has places, and begin to send it."""
        # an endpoint that failed is asked with one event whether it is back
        places = 1 if due.failures else PLACES
        free = places - self._on_the_wire.get(due.id, 0)
        if free <= 0 or self._stopping:
            return 0
        deliveries = await self._store.write(lambda tx: relay.deliveries.claim(tx, due.id, free))
        subscriptions = await self._store.read(lambda tx: relay.subscriptions.by_ids(tx, [due.id]))
        for delivery in deliveries:
            self._on_the_wire[due.id] = self._on_the_wire.get(due.id, 0) + 1
            task = asyncio.create_task(self._deliver(subscriptions[due.id], delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        return len(deliveries)

    async def _deliver(self, subscription: Subscription, delivery: Delivery) -> None:
        """Send one event and write down what came of it."""
        try:
            async with self._slots:
                await self._try(subscription, delivery)
        except StoreError as error:
            # the lease ends by itself, and the event is sent again under the same id
            log.error("subscription %s: a try could not be written down: %s", subscription.id, error)
        except Exception as error:
            log.exception("subscription %s: delivering raised %s", subscription.id, type(error).__name__)
        finally:
            self._on_the_wire[subscription.id] -= 1
            if not self._on_the_wire[subscription.id]:
                del self._on_the_wire[subscription.id]

    async def _try(self, subscription: Subscription, delivery: Delivery) -> None:
        content: Mapping[str, JsonValue] = json.loads(delivery.content)
        body = for_subscriber(content, personal=subscription.personal)
        if not is_wanted(subscription.filter, body):
            filtered = Tried(delivery, DeliveryState.filtered, None)
            await self._store.gather(_settle_all, _Outcome(subscription.id, filtered))
            return
        at = self._store.clock.now()
        text = self._text(subscription, delivery, body)
        reply = await self._client.post(subscription.url, text, _headers(subscription, delivery, text, at))
        judged = judge(delivery, subscription, reply, at)
        attempt = Attempt(delivery.attempts + 1, at, reply.milliseconds, reply.status, reply.error, reply.text or None)
        tried = Tried(delivery, judged.state, attempt, at + judged.pause)
        await self._store.gather(_settle_all, _Outcome(subscription.id, tried, judged))

    def _text(self, subscription: Subscription, delivery: Delivery, body: Mapping[str, JsonValue]) -> bytes:
        """Return the bytes that are sent."""
        if subscription.shape is Shape.slack:
            data = body.get("data")
            sentence = self._worded(delivery.event, data if isinstance(data, dict) else {})
            return json.dumps({"text": sentence}, ensure_ascii=False).encode()
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _headers(subscription: Subscription, delivery: Delivery, text: bytes, at: int) -> list[tuple[str, str]]:
    """Sign a body by the Standard Webhooks scheme, with each secret that the subscription has."""
    signed = [StandardWebhooks(secret).sign(text, delivery.event_id, moment(at)) for secret in subscription.secrets]
    signatures = " ".join(headers["webhook-signature"] for headers in signed)
    return [
        *((name, value) for name, value in signed[0].items() if name != "webhook-signature"),
        ("webhook-signature", signatures),
        ("content-type", "application/json"),
        ("user-agent", "7stamp-connectors/1"),
    ]


def is_wanted(condition: str | None, body: Mapping[str, JsonValue]) -> bool:
    """Say whether a body meets a subscription's filter; one that would cost too much to tell is sent."""
    if not condition:
        return True
    # parsed once more, with numbers as texts: a filter compares with texts only
    value = parse_json(json.dumps(body).encode())
    try:
        return meets_condition(condition, value, Budget())
    except TooCostly:
        return True


def judge(delivery: Delivery, subscription: Subscription, reply: Reply, now: int) -> _Judged:
    """Decide what a reply means, at a moment (UTC microseconds)."""
    status = reply.status
    if status is not None and 200 <= status < 300 and reply.error is None:
        return _Judged(DeliveryState.delivered)
    if status == 410:
        return _Judged(DeliveryState.pending, gone=True)
    first_at = delivery.first_at if delivery.first_at is not None else now
    is_refusal = status is not None and 400 <= status < 500 and status not in _REFUSALS_THAT_PASS
    if is_refusal:
        state = DeliveryState.failed if now - first_at >= LONGEST_OUTAGE else DeliveryState.pending
        return _Judged(state, _spread(retry_pause(delivery.attempts + 1)))
    pause = max(_spread(retry_pause(subscription.failures + 1)), _asked_pause(reply))
    return _Judged(DeliveryState.pending, pause, pause)


def _asked_pause(reply: Reply) -> int:
    """Return the pause that a subscriber asks for, in microseconds; none where it says nothing that can be read."""
    text = (reply.retry_after or "").strip()
    return min(int(text), _LONGEST_RETRY_AFTER) * SECOND if text.isascii() and text.isdigit() and len(text) < 9 else 0


def _spread(pause: int) -> int:
    return int(pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311 - spreads load


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one try."""

    subscription_id: str
    tried: Tried
    judged: _Judged | None = None


def _settle_all(tx: Transaction, outcomes: Sequence[_Outcome]) -> list[None]:
    """Write down what many tries came to, in one transaction."""
    relay.deliveries.settle(tx, [outcome.tried for outcome in outcomes])
    delivered = {o.subscription_id for o in outcomes if o.tried.state is DeliveryState.delivered}
    for outcome in outcomes:
        judged = outcome.judged
        if judged is None or outcome.tried.state is DeliveryState.delivered:
            continue
        if judged.gone:
            relay.subscriptions.disable(tx, outcome.subscription_id, Message("relay.gone"))
        # what failed beside a success says nothing of the endpoint as a whole
        elif outcome.subscription_id not in delivered:
            since = relay.subscriptions.record_failure(tx, outcome.subscription_id, judged.endpoint_pause)
            if tx.now - since > LONGEST_OUTAGE:
                relay.subscriptions.disable(tx, outcome.subscription_id, Message("relay.failing"))
    relay.subscriptions.record_success(tx, sorted(delivered))
    return [None] * len(outcomes)

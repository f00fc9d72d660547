"""Delivering: at least once, in order per card, signed, and again with growing pauses for three days.

Owns what is sent when, and what an answer means. One subscription has few places on the wire, and one that fails has
one place and a pause of its own, so that a slow endpoint delays nobody else. While more sales are on their way to cards
than have a place, what is newer than ten seconds waits.

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
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import JsonValue

from connector_sdk.expressions import Budget, TooCostly, meets_condition, parse_json
from connector_sdk.messages import Message
from connector_sdk.signatures import StandardWebhooks
from connectors.domain.clock import SECOND, moment
from connectors.domain.events import Wakeup
from connectors.domain.relay import LONGEST_OUTAGE, DeliveryState, Shape, retry_pause
from connectors.relay.bodies import for_subscriber
from connectors.relay.posting import Reply, SubscriberClient
from connectors.store import relay
from connectors.store.engine import Store, Transaction
from connectors.store.errors import StoreError
from connectors.store.query_parts import in_parts
from connectors.store.relay.deliveries import Attempt, Delivery, DueSubscription, Tried
from connectors.store.relay.subscriptions import Subscription

log = logging.getLogger(__name__)

PLACES = 4
"""Calls to one subscriber at a time."""
_ALL_PLACES = 128
"""Calls to all of them."""
_SUBSCRIPTIONS_AT_ONCE = 100
"""Subscriptions whose deliveries are claimed in one transaction: it must be short, since others wait for it."""
_LONGEST_WAY_GIVEN = 10 * SECOND
"""How old an event gets while it lets stamps go first: a till's rush of some seconds, and less than a lease."""
_LOOK_PAUSE = 0.1
_LONGEST_TURN = 60.0
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


@dataclass(frozen=True, slots=True)
class _Claimed:
    """A delivery that is ours to send for now, and to whom."""

    subscription: Subscription
    delivery: Delivery


class RelayDeliverer:
    """Sends what is due to subscribers."""

    def __init__(self, store: Store, client: SubscriberClient, worded: Worded, gives_way: Callable[[], bool]) -> None:
        """Send through `client`; while `gives_way` says so, fresh events wait a little."""
        self._store = store
        self._gives_way = gives_way
        self._client = client
        self._worded = worded
        self._slots = asyncio.Semaphore(_ALL_PLACES)
        self._on_the_wire: dict[str, int] = {}
        self._tasks: dict[asyncio.Task[None], str] = {}
        """Who sends now, and to which subscription."""
        self._stopping = False

    async def round(self) -> int:
        """Claim what is due and has a place, and send it in tasks of its own; return how many were claimed."""
        due = await self._store.read(relay.deliveries.due_subscriptions)
        return sum([await self._send_some(part) for part in in_parts(due, _SUBSCRIPTIONS_AT_ONCE)])

    async def deliver(self, subscription_id: str) -> None:
        """Send what is due to one subscriber until nothing is, for a minute at most: others need its place."""
        until = asyncio.get_running_loop().time() + _LONGEST_TURN
        while not self._stopping and asyncio.get_running_loop().time() < until:
            due = await self._store.read(lambda tx: relay.deliveries.due_subscription(tx, subscription_id))
            claimed = await self._send_some([due]) if due is not None else 0
            mine = {task for task, of in self._tasks.items() if of == subscription_id}
            if not claimed and not mine:
                return
            if mine:
                await asyncio.wait(mine, return_when=asyncio.FIRST_COMPLETED)

    async def drain(self) -> None:
        """Send until nothing is due and nothing is on the wire."""
        while await self.round() or self._tasks:
            if self._tasks:
                await asyncio.wait(set(self._tasks), return_when=asyncio.FIRST_COMPLETED)

    async def stop(self) -> None:
        """Claim nothing more, and wait for what is on the wire: its calls have deadlines. Afterwards it may go on."""
        self._stopping = True
        try:
            if self._tasks:
                await asyncio.wait(set(self._tasks))
        finally:
            self._stopping = False

    async def _send_some(self, due: Sequence[DueSubscription]) -> int:
        """Claim as much for some subscriptions as each has places, and begin to send it."""
        places = {one.id: free for one in due if (free := self._free_places(one)) > 0}
        if not places or self._stopping:
            return 0
        # one commit for all of them: each waits for the disk
        claimed = await self._store.write(lambda tx: _claim(tx, places))
        for one in claimed:
            subscription_id = one.subscription.id
            self._on_the_wire[subscription_id] = self._on_the_wire.get(subscription_id, 0) + 1
            task = asyncio.create_task(self._deliver(one))
            self._tasks[task] = subscription_id
            task.add_done_callback(self._tasks.pop)
        return len(claimed)

    def _free_places(self, due: DueSubscription) -> int:
        # an endpoint that failed is asked with one event whether it is back
        return (1 if due.failures else PLACES) - self._on_the_wire.get(due.id, 0)

    async def _deliver(self, first: _Claimed) -> None:
        """Send one event after another, as long as there is a next one, and write down what came of each."""
        subscription_id = first.subscription.id
        claimed: _Claimed | None = first
        try:
            # what comes next is claimed where the last one is settled: one commit for both
            while claimed is not None:
                await self._wait_for_stamps(claimed.delivery)
                async with self._slots:
                    claimed = await self._try(claimed.subscription, claimed.delivery)
        except StoreError as error:
            # the lease ends by itself, and the event is sent again under the same id
            log.error("subscription %s: a try could not be written down: %s", subscription_id, error)
        except Exception as error:
            log.exception("subscription %s: delivering raised %s", subscription_id, type(error).__name__)
        finally:
            self._on_the_wire[subscription_id] -= 1
            if not self._on_the_wire[subscription_id]:
                del self._on_the_wire[subscription_id]

    async def _wait_for_stamps(self, delivery: Delivery) -> None:
        """Let stamps go first: at most for a moment, so that a host that is always busy relays, too."""
        until = delivery.made_at + _LONGEST_WAY_GIVEN
        while self._gives_way() and self._store.clock.now() < until and not self._stopping:  # noqa: ASYNC110 - a count
            await asyncio.sleep(_LOOK_PAUSE)

    async def _try(self, subscription: Subscription, delivery: Delivery) -> _Claimed | None:
        """Send an event, write down what came of it, and return what its place is to send next."""
        content: Mapping[str, JsonValue] = json.loads(delivery.content)
        body = for_subscriber(content, personal=subscription.personal)
        if not is_wanted(subscription.filter, body):
            return await self._settle(_Outcome(subscription, Tried(delivery, DeliveryState.filtered, None)))
        at = self._store.clock.now()
        text = self._text(subscription, delivery, body)
        reply = await self._client.post(subscription.url, text, _headers(subscription, delivery, text, at))
        judged = judge(delivery, subscription, reply, at)
        attempt = Attempt(delivery.attempts + 1, at, reply.milliseconds, reply.status, reply.error, reply.text or None)
        return await self._settle(
            _Outcome(subscription, Tried(delivery, judged.state, attempt, at + judged.pause), judged)
        )

    async def _settle(self, outcome: _Outcome) -> _Claimed | None:
        return await self._store.gather(_settle_all if self._stopping else _settle_all_and_claim, outcome)

    def _text(self, subscription: Subscription, delivery: Delivery, body: Mapping[str, JsonValue]) -> bytes:
        """Return the bytes that are sent."""
        if subscription.shape is Shape.slack:
            data = body.get("data")
            sentence = self._worded(delivery.event, data if isinstance(data, dict) else {})
            return json.dumps({"text": sentence}, ensure_ascii=False).encode()
        return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def _claim(tx: Transaction, places: Mapping[str, int]) -> list[_Claimed]:
    """Claim deliveries of subscriptions, of each as many as it has places."""
    deliveries = [
        delivery
        # in their order: two that claim for the same subscriptions do not wait for each other in turn
        for subscription_id, free in sorted(places.items())
        for delivery in relay.deliveries.claim(tx, subscription_id, free)
    ]
    subscriptions = relay.subscriptions.by_ids(tx, {delivery.subscription_id for delivery in deliveries})
    return [_Claimed(subscriptions[delivery.subscription_id], delivery) for delivery in deliveries]


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
    pause = max(_spread(retry_pause(subscription.failures + 1)), min(reply.asked_pause, _LONGEST_RETRY_AFTER * SECOND))
    return _Judged(DeliveryState.pending, pause, pause)


def _spread(pause: int) -> int:
    return int(pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311 - spreads load


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of one try."""

    subscription: Subscription
    """As it was when the delivery was claimed."""
    tried: Tried
    judged: _Judged | None = None


def _settle_all_and_claim(tx: Transaction, outcomes: Sequence[_Outcome]) -> list[_Claimed | None]:
    """Write down what many tries came to, and claim for the place of each what it sends next, in one transaction."""
    _settle_all(tx, outcomes)
    next_ones: defaultdict[str, list[_Claimed]] = defaultdict(list)
    for one in _claim(tx, Counter(outcome.subscription.id for outcome in outcomes)):
        next_ones[one.subscription.id].append(one)
    return [next_ones[one.subscription.id].pop() if next_ones[one.subscription.id] else None for one in outcomes]


def _settle_all(tx: Transaction, outcomes: Sequence[_Outcome]) -> list[None]:
    """Write down what many tries came to, in one transaction."""
    relay.deliveries.settle(tx, [outcome.tried for outcome in outcomes])
    delivered = {o.subscription.id for o in outcomes if o.tried.state is DeliveryState.delivered}
    for outcome in outcomes:
        subscription_id, judged = outcome.subscription.id, outcome.judged
        if judged is None or outcome.tried.state is DeliveryState.delivered:
            continue
        if judged.gone:
            relay.subscriptions.disable(tx, subscription_id, Message("relay.gone"))
        # what failed beside a success says nothing of the endpoint as a whole
        elif subscription_id not in delivered:
            since = relay.subscriptions.record_failure(tx, subscription_id, judged.endpoint_pause)
            if tx.now - since > LONGEST_OUTAGE:
                relay.subscriptions.disable(tx, subscription_id, Message("relay.failing"))
    relay.subscriptions.record_success(tx, sorted(delivered))
    if any(outcome.subscription.failures and outcome.subscription.id in delivered for outcome in outcomes):
        tx.wakeups.add(Wakeup.relay)  # an endpoint that is back has more places
    return [None] * len(outcomes)

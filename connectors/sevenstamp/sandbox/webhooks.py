"""The sandbox's webhooks: subscriptions of businesses, and the events that are signed and posted to them.

Owns what an event looks like on the wire, in English or as the Malay documentation spells it, and its delivery: at
least once, sent again with growing pauses, and with faults repeated or out of order. Subscriptions live as long as the
process.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import httpx

from connector_sdk.signatures import StandardWebhooks
from connectors.sevenstamp.events import MALAY_EVENTS, MALAY_KEYS, MALAY_VALUES
from connectors.sevenstamp.sandbox.changes import (
    CardIssued,
    Change,
    StampsAdded,
    StampsReversed,
    Voucher,
    VoucherIssued,
    VoucherRedeemed,
)
from connectors.sevenstamp.sandbox.faults import Faults
from connectors.sevenstamp.sandbox.state import Card, JsonObject, State, reward_code

RETRY_PAUSES = (1.0, 5.0, 30.0, 120.0, 600.0)
"""Seconds before an event that was not taken is sent again; then it is given up."""
_ANSWER_SECONDS = 10.0
_POSTS_AT_ONCE = 32
"""So many posts are under way. Without this bound an endpoint that nobody serves makes the sandbox too busy to answer:
the client looks through all posts that wait for a connection whenever one ends."""
_MOST_REMEMBERED = 10_000
_TO_MALAY = {
    **{canonical: malay for malay, canonical in MALAY_EVENTS.items()},
    **{canonical: malay for malay, canonical in MALAY_VALUES.items()},
}
_KEYS_TO_MALAY = {canonical: malay for malay, canonical in MALAY_KEYS.items()}
_TRANSLATED = ("event", "status", "redeemed_via", "redeem_code_formats")
"""The keys whose values are words of 7stamp's own."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription of a business."""

    id: str
    business: str
    url: str
    events: tuple[str, ...]
    secret: str = field(repr=False)

    def as_json(self) -> JsonObject:
        """Return what the API shows of it."""
        return {"id": self.id, "url": self.url, "events": self.events}


@dataclass(frozen=True, slots=True)
class Posted:
    """One attempt at a delivery: the event's id and name, and the status it was answered with, if any."""

    event_id: str
    event: str
    status: int | None


@dataclass(slots=True)
class Webhooks:
    """All subscriptions, and what is on its way to them. `faults` returns those that are set now."""

    state: State
    faults: Callable[[], Faults]
    now: Callable[[], float]
    chance: random.Random
    language: str = "en"
    """In which language events are written: `ms` for the spelling of the Malay documentation."""
    transport: httpx.AsyncBaseTransport | None = None
    subscriptions: dict[str, Webhook] = field(default_factory=dict)
    posted: deque[Posted] = field(default_factory=lambda: deque(maxlen=_MOST_REMEMBERED))
    _client: httpx.AsyncClient | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(_POSTS_AT_ONCE))
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- running ------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Deliver from now on; before that, and after `stop`, events go nowhere."""
        # no proxy of the environment: the sandbox is for this machine
        self._client = httpx.AsyncClient(transport=self.transport, trust_env=False, timeout=_ANSWER_SECONDS)

    async def stop(self) -> None:
        """End every delivery that is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    # --- subscriptions ------------------------------------------------------------------------------------------

    def of_business(self, business: str) -> list[Webhook]:
        """List the subscriptions of a business."""
        return [webhook for webhook in self.subscriptions.values() if webhook.business == business]

    def subscribe(self, business: str, url: str, events: Sequence[str], secret: str) -> tuple[Webhook, bool]:
        """Make a subscription, or change that of the same address; return it and whether it is new."""
        former = next((webhook for webhook in self.of_business(business) if webhook.url == url), None)
        webhook = Webhook(former.id if former else f"wh_{next(self._numbers)}", business, url, tuple(events), secret)
        self.subscriptions[webhook.id] = webhook
        return webhook, former is None

    # --- events -------------------------------------------------------------------------------------------------

    def tell_of(self, change: Change) -> None:
        """Post the events that a change causes, after it took effect."""
        if not self.of_business(change.business):
            return
        for event in self._events_of(change):
            self.emit(change.business, event)

    def _events_of(self, change: Change) -> Iterator[dict[str, object]]:
        match change:
            case CardIssued():
                yield {"event": "card_issued", **self._facts(change)}
            case StampsAdded(count=count, code=code, receipt=receipt):
                facts = self._facts(change)
                yield {"event": "stamp_added", **facts, "stamps": count, "code": code, "receipt": receipt}
                for voucher in self._rewards(change):
                    yield {"event": "goal_reached", **facts, "code": code, "receipt": receipt}
                    yield {"event": "reward_issued", **facts, "reward": {"type": "voucher"}}
                    yield {"event": "voucher_issued", **facts, "voucher": _voucher_facts(voucher)}
            case VoucherIssued(voucher=voucher):
                yield {"event": "voucher_issued", **self._facts(change), "voucher": _voucher_facts(voucher)}
            case VoucherRedeemed(redeem_code=redeem_code, code=code):
                voucher = self.state.vouchers[change.business, redeem_code]
                facts = {**_voucher_facts(voucher), "redeemed_via": "api"}
                yield {"event": "voucher_redeemed", **self._facts(change), "code": code, "voucher": facts}
            case StampsReversed():  # the documentation has no event of it
                return

    def _rewards(self, change: StampsAdded) -> Iterator[Voucher]:
        """Yield the vouchers that a full card gave for these stamps, the newest first."""
        card = self.state.cards[change.card_id]
        for number in range(card.rewards, 0, -1):
            voucher = self.state.vouchers[change.business, reward_code(card, number)]
            if voucher.code != change.code:
                return
            yield voucher

    def _facts(self, change: Change) -> dict[str, object]:
        """Return what events say of a change's card."""
        facts: dict[str, object] = {"timestamp": change.at, "location_id": "loc_1"}
        card = self.state.cards.get(change.card_id or "")
        return {**facts, **self.card_facts(card)} if card is not None else facts

    def card_facts(self, card: Card) -> dict[str, object]:
        """Return what events say of a card and its customer."""
        names = {"phone": card.phone, "email": card.email}
        return {
            "customer": {
                "id": f"c_{card.id}",
                "wallet_pass_id": card.token,
                "language": self.language,
                **{kind: name for kind, name in names.items() if name},
            },
            "card": {
                "id": card.id,
                "number": card.number,
                "goal_index": card.rewards,
                "stamps": card.stamps,
                "goal": self.state.goal,
            },
        }

    def emit(self, business: str, event: Mapping[str, object]) -> str:
        """Post an event to every subscription of a business that asks for it; return its id."""
        event_id = f"msg_{business}_{next(self._numbers)}"
        body = {"timestamp": datetime.fromtimestamp(self.now(), UTC).isoformat(), **event, "business_id": business}
        content = json.dumps(_in_malay(body) if self.language == "ms" else body, ensure_ascii=False).encode()
        for webhook in self.of_business(business):
            if event.get("event") in webhook.events:
                self._post_later(webhook, event_id, str(event["event"]), content)
        return event_id

    # --- delivery -----------------------------------------------------------------------------------------------

    def _post_later(self, webhook: Webhook, event_id: str, event: str, content: bytes) -> None:
        if self._client is None:
            return
        copies = 2 if self.chance.random() < self.faults().webhook_repeat else 1
        for _ in range(copies):
            # each copy waits by itself, so events overtake each other where the range allows it
            delay = self.chance.uniform(*self.faults().webhook_delay_ms) / 1000
            task = asyncio.get_running_loop().create_task(self._deliver(webhook, event_id, event, content, delay))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, webhook: Webhook, event_id: str, event: str, content: bytes, delay: float) -> None:
        """Post an event until it is taken, the subscription ends, or it is given up."""
        for pause in (delay, *RETRY_PAUSES):
            await asyncio.sleep(pause)
            current = self.subscriptions.get(webhook.id)
            if current is None:
                return
            async with self._slots:
                status = await self._post(current, event_id, content)
            self.posted.append(Posted(event_id, event, status))
            if status == 410:
                self.subscriptions.pop(webhook.id, None)
            if status is not None and (200 <= status < 300 or status == 410):
                return

    async def _post(self, webhook: Webhook, event_id: str, content: bytes) -> int | None:
        if self._client is None:
            return None
        # signed anew each time: a receiver refuses what was signed minutes ago
        at = datetime.fromtimestamp(self.now(), UTC)
        headers = StandardWebhooks(webhook.secret).sign(content, event_id, at)
        try:
            answer = await self._client.post(
                webhook.url, content=content, headers={**headers, "content-type": "application/json"}
            )
        except httpx.HTTPError:
            return None
        return answer.status_code


def _voucher_facts(voucher: Voucher) -> dict[str, object]:
    return {
        "id": voucher.id,
        "type": "voucher",
        "redeem_code": voucher.redeem_code,
        "redeem_code_formats": ["text", "qr", "barcode"],
        "status": voucher.status,
    }


def _in_malay(value: object, key: str = "") -> object:
    """Spell keys, event names and 7stamp's own words as the Malay documentation does."""
    match value:
        case dict():
            return {_KEYS_TO_MALAY.get(name, name): _in_malay(inner, name) for name, inner in value.items()}
        case list():
            return [_in_malay(inner, key) for inner in value]
        case str() if key in _TRANSLATED:
            return _TO_MALAY.get(value, value)
    return value

"""Events in and out: acknowledged per second, delivered per second, and what a relay costs the stamps.

Three figures of one run, with the sandboxes and the subscriber in another process, everything here committed with
`synchronous=FULL`:

- events of 7stamp that are proven, stored and answered per second, against hooks of a till, which are too;
- deliveries per second to forty subscriptions (signed, in order per card, each attempt written down), against plain
  httpx at its own best number of callers, which posts bodies as long to the same endpoint and stores nothing;
- stamps per second, from stored hook to card, while all their events go to a subscriber, against the same without.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx
import uvloop
from pydantic import SecretStr

from bench.delivery import CALLERS, beside_sandboxes, delivered, hooks, key
from bench.sandboxes import token
from connector_sdk import HookRequest
from connector_sdk.loyalty import LoyaltyCard, StampAdded
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.signatures import StandardWebhooks
from connectors.domain.events import LoyaltyEventReceived
from connectors.runtime.host import Host
from connectors.services import ConnectOptions, SubscriptionRequest
from connectors.settings import Settings
from connectors.store import connections
from poster_connector.sandbox import SECRET, Account

ACCOUNTS, CARDS, EVENTS, RECEIPTS, ROUNDS = 40, 25, 50, 25, 3
TAKEN = 1000
AT_ONCE = 64
PLENTY = 1_000_000


async def acknowledged(host: Host, business: str, run: int) -> float:
    """Return the events of 7stamp that are on disk and answered per second."""
    source = await host.store.write(lambda tx: connections.loyalty_sources.get_or_make(tx, business))
    scheme, now = StandardWebhooks(source.secrets[0]), datetime.now(UTC)
    requests: list[HookRequest] = []
    for number in range(TAKEN):
        event = {"event": "stamp_added", "business_id": business, "card": {"id": f"card_{number % CARDS}"}, "count": 1}
        body = json.dumps(event).encode()
        headers = {name.lower(): value for name, value in scheme.sign(body, f"msg_{run}_{number}", now).items()}
        requests.append(HookRequest("POST", headers, {}, body))

    async def take(request: HookRequest) -> None:
        assert (await host.loyalty_hooks.take(source.token, request)).status == 200

    began = time.perf_counter()
    for start in range(0, TAKEN, AT_ONCE):
        await asyncio.gather(*(take(request) for request in requests[start : start + AT_ONCE]))
    return TAKEN / (time.perf_counter() - began)


async def stored_hooks(host: Host, run: int) -> float:
    """Return the hooks of a till that are on disk and answered per second."""
    account = Account(token=token(0))

    async def take(number: int) -> None:
        body = account.hook(10_000_000 + run * TAKEN + number, "changed")
        assert (await host.hooks.for_connector("poster", HookRequest("POST", {}, {}, body))).status == 200

    began = time.perf_counter()
    for start in range(0, TAKEN, AT_ONCE):
        await asyncio.gather(*(take(number) for number in range(start, min(TAKEN, start + AT_ONCE))))
    return TAKEN / (time.perf_counter() - began)


async def relayed(host: Host, businesses: list[str], run: int) -> float:
    """Return the deliveries per second, from events that are recorded to all of them taken."""
    for business in businesses:
        events = [
            StampAdded(
                id=f"msg_{run}_{number}",
                at=datetime.now(UTC),
                business_id=business,
                card=LoyaltyCard(id=f"card_{number % CARDS}"),
                count=1,
            )
            for number in range(EVENTS)
        ]
        await host.store.write(
            lambda tx, business=business, events=events: tx.events.extend(  # type: ignore[misc]
                LoyaltyEventReceived(business, event) for event in events
            )
        )
    began = time.perf_counter()
    await host.relay.drain()
    return len(businesses) * EVENTS / (time.perf_counter() - began)


async def plain(address: str) -> float:
    """Return the posts per second of plain httpx at its best number of callers."""
    body, best = b"x" * 420, 0.0  # as long as the body of an event
    for callers in CALLERS:
        queue = iter(range(ACCOUNTS * EVENTS // 2))
        async with httpx.AsyncClient(trust_env=False) as client:

            async def caller(queue: Iterator[int] = queue, client: httpx.AsyncClient = client) -> None:
                for _ in queue:
                    assert (await client.post(address, content=body)).status_code == 200

            began = time.perf_counter()
            await asyncio.gather(*(caller() for _ in range(callers)))
            best = max(best, ACCOUNTS * EVENTS // 2 / (time.perf_counter() - began))
    return best


async def measure(origin: str, folder: Path) -> None:
    """Connect the accounts, measure in rounds and print the medians and their ratios."""
    os.environ.update(POSTER_API_URL=f"{origin}/api", POSTER_APPLICATION_SECRET=SECRET)
    settings = Settings(
        database_url=f"sqlite:///{folder / 'ledger.db'}",
        sevenstamp_url=origin,
        secret_key=SecretStr("a key for the bench only"),
        relay_hosts="127.0.0.1",
        events_per_minute=PLENTY,
        hooks_per_minute=PLENTY,
    )
    address = f"{origin}/_bench/taken"
    async with Host(settings) as host, httpx.AsyncClient(base_url=origin, trust_env=False, timeout=60) as control:
        businesses: list[str] = []
        for number in range(ACCOUNTS):
            connection = await host.services.onboarding.connect(
                "poster",
                {"access_token": token(number)},
                key(token(number)),
                lambda _account: StampRule(unknown_customer=UnknownCustomer.issue),
                ConnectOptions(poll_seconds=86_400),
            )
            businesses.append(connection.business_id)
        subscriptions = {
            business: (await host.services.subscriptions.create(business, SubscriptionRequest(address))).subscription.id
            for business in businesses
        }

        async def stamps(*, with_relay: bool) -> float:
            for business, subscription in subscriptions.items():
                await host.services.subscriptions.set_active(business, subscription, active=with_relay)
            receipts = (await control.post("/_bench/sell", content=json.dumps({"each": RECEIPTS}))).json()
            rate = await delivered(host, control, await hooks(host, receipts))
            await host.relay.drain()
            return rate

        await stamps(with_relay=False)  # cards are issued, caches filled, code compiled
        rates: dict[str, list[float]] = {name: [] for name in ("taken", "hooks", "relayed", "plain", "off", "on")}
        for run in range(ROUNDS):
            rates["off"].append(await stamps(with_relay=False))
            rates["on"].append(await stamps(with_relay=True))
            rates["relayed"].append(await relayed(host, businesses, run))
            rates["plain"].append(await plain(address))
        # last: these hooks are of receipts that no till has, and asking for them would delay the others
        for run in range(ROUNDS):
            rates["taken"].append(await acknowledged(host, businesses[0], run))
            rates["hooks"].append(await stored_hooks(host, run))
    median = {name: statistics.median(values) for name, values in rates.items()}
    print(f"events of 7stamp stored and answered: {median['taken']:.0f}/s; hooks of a till: {median['hooks']:.0f}/s")
    print(f"events_ratio: {median['taken'] / median['hooks']:.2f}")
    print(f"deliveries: {median['relayed']:.0f}/s; plain httpx, which stores nothing: {median['plain']:.0f}/s")
    print(f"relay_ratio: {median['relayed'] / median['plain']:.2f}")
    print(f"stamps with a relay: {median['on']:.0f} sales/s; without: {median['off']:.0f} sales/s")
    print(f"stamps_with_relay_ratio: {median['on'] / median['off']:.2f}")


if __name__ == "__main__":
    uvloop.run(beside_sandboxes(ACCOUNTS, measure))

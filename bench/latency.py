"""One sale at a time from hook to applied stamp, till and 7stamp at 50 ms, against the two calls alone.

The sandboxes run here, so that the moment a stamp is applied is known; the host is a process of its own.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import uvloop
from starlette.types import Message, Receive, Scope, Send

from bench.delivery import connect, environment, key
from bench.figures import Figure, report
from bench.sandboxes import Both, token
from connectors.cli.servers import serving
from connectors.runtime.host import Host
from connectors.settings import Settings
from poster_connector.sandbox import Account
from tests.processes import origin_in, started, wait_ready

AWAY, SALES, WARM = 0.05, 100, 20


class FarAway:
    """Both sandboxes, each 50 ms away; it says when a stamp was answered."""

    def __init__(self) -> None:
        self.both = Both(1)
        self.stamped = asyncio.Event()
        self.stamped_at = 0.0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_stamp = scope["type"] == "http" and scope["path"].endswith("/stamps")
        if scope["type"] == "http" and not scope["path"].startswith("/_bench/"):
            await asyncio.sleep(AWAY)

        async def sent(message: Message) -> None:
            await send(message)
            if is_stamp and message["type"] == "http.response.body":
                self.stamped_at = time.perf_counter()
                self.stamped.set()

        await self.both(scope, receive, sent)


async def through_the_host(away: FarAway, address: str, client: httpx.AsyncClient, number: int) -> float:
    """Return the milliseconds from a hook until its stamp is applied."""
    cafe = away.both.cafes[0]
    receipt = cafe.sell(cafe.client(f"+3806{cafe.number}{number % 10:02d}"), 2750)
    away.stamped.clear()
    began = time.perf_counter()
    answer = await client.post(f"{address}/hooks/tills/poster", content=Account(token=token(0)).hook(receipt, "closed"))
    assert answer.status_code == 200
    await asyncio.wait_for(away.stamped.wait(), 30)
    return (away.stamped_at - began) * 1000


async def alone(away: FarAway, origin: str, client: httpx.AsyncClient, number: int) -> float:
    """Return the milliseconds of the two calls that a host makes for a sale."""
    cafe = away.both.cafes[0]
    person = f"+3806{cafe.number}{number % 10:02d}"
    receipt = cafe.sell(cafe.client(person), 2750)
    headers = {"Authorization": f"Bearer {key(token(0))}", "Idempotency-Key": f"alone:{number}"}
    card = (await client.get(f"{origin}/v1/cards", params={"phone": person}, headers=headers)).json()[0]["id"]
    began = time.perf_counter()
    params = {"token": token(0), "transaction_id": str(receipt), "include_products": "true"}
    (await client.get(f"{origin}/api/dash.getTransaction", params=params)).json()
    body = {"count": 1, "receipt": f"alone:{number}", "amount": "27.50", "code": f"alone:{number}"}
    answer = await client.post(f"{origin}/v1/cards/{card}/stamps", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return (time.perf_counter() - began) * 1000


async def main() -> None:
    """Measure both in turns, and report the median and the 99th percentile."""
    away = FarAway()
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        origin = await stack.enter_async_context(serving(away))
        env = environment(origin, folder)
        async with Host(Settings()) as host:
            await connect(host, 0)
        stack.enter_context(started(["serve", "--port", "0"], env, folder / "host.log", fresh=True))
        address = await asyncio.to_thread(origin_in, folder / "host.log")
        await asyncio.to_thread(wait_ready, address)
        client = await stack.enter_async_context(httpx.AsyncClient(trust_env=False, timeout=30))
        ours, base = list[float](), list[float]()
        for number in range(SALES + WARM):
            through = await through_the_host(away, address, client, number)
            calls = await alone(away, origin, client, number)
            if number >= WARM:
                ours.append(through)
                base.append(calls)
    against = "the two calls alone"
    name = "hook to applied stamp, 50 ms away"
    report(Figure(f"{name}, p50", "ms", statistics.median(ours), statistics.median(base), against, 1.3, at_most=True))
    slow, slow_base = (statistics.quantiles(times, n=100)[98] for times in (ours, base))
    report(Figure(f"{name}, p99", "ms", slow, slow_base, against, 2.0, at_most=True))


if __name__ == "__main__":
    uvloop.run(main())

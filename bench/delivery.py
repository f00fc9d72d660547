"""Sales per second from stored hook to applied stamp, against a plain httpx loop that stores nothing.

The host starts with hooks on disk and ends with stamps applied: for each it claims the hint, fetches the receipt from
Poster, ingests, plans, and posts the stamps, everything committed with `synchronous=FULL`. The baseline is httpx as it
comes, at its own best number of callers, against the same sandboxes in the same other process, in the same run:
posting the same stamp requests, and (second figure) making all the requests the host makes, receipts included.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import uvloop
from pydantic import SecretStr

from bench.figures import Figure, report
from bench.sandboxes import token
from connector_sdk import HookRequest
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.connection import Connection
from connectors.runtime.garbage import collect_rarely
from connectors.runtime.host import Host
from connectors.services import ConnectOptions
from connectors.settings import Settings
from poster_connector.sandbox import SECRET, Account

ACCOUNTS, EACH, ROUNDS = 60, 30, 3
CALLERS = (2, 4, 8, 16)
WARM = 10
KEY = "a key for the bench only"


async def hooks(host: Host, receipts: dict[str, list[int]]) -> int:
    """Post a hook for every receipt, and return how many are on disk then."""

    async def post(account: str, receipt: int) -> None:
        body = Account(token=account).hook(receipt, "closed")
        answer = await host.hooks.for_connector("poster", HookRequest("POST", {}, {}, body))
        assert answer.status == 200

    sales = _sales(receipts)
    for start in range(0, len(sales), 500):
        await asyncio.gather(*(post(*sale) for sale in sales[start : start + 500]))
    return len(sales)


def _sales(receipts: dict[str, list[int]]) -> list[tuple[str, int]]:
    """List each receipt with its account."""
    return [(account, receipt) for account, numbers in receipts.items() for receipt in numbers]


async def delivered(host: Host, control: httpx.AsyncClient, count: int) -> float:
    """Return the host's sales per second, from a standing start."""
    all_applied = asyncio.create_task(control.post("/_bench/applied", content=json.dumps({"more": count})))
    await asyncio.sleep(0.1)  # the sandbox waits from before the start
    began = time.perf_counter()
    await host.start()
    (await all_applied).raise_for_status()
    took = time.perf_counter() - began
    await asyncio.sleep(0.3)
    await host.stop()
    return count / took


async def plain(
    origin: str, receipts: dict[str, list[int]], cards: dict[str, list[str]], *, fetch: bool, run: str
) -> float:
    """Return the sales per second of plain httpx at its best number of callers."""
    sales = _sales(receipts)

    def work(client: httpx.AsyncClient, callers: int) -> Callable[[str, int, int], Awaitable[None]]:
        async def post_sale(account: str, receipt: int, number: int) -> None:
            if fetch:
                params = {"token": account, "transaction_id": str(receipt), "include_products": "true"}
                (await client.get(f"{origin}/api/dash.getTransaction", params=params)).json()
            card = cards[account][number % len(cards[account])]
            code = f"plain:{run}:{callers}:{account[:6]}:{receipt}"
            body = {"count": 1, "receipt": code, "amount": "27.50", "code": f"{code}:1"}
            headers = {"Authorization": f"Bearer {key(account)}", "Idempotency-Key": f"{code}:1"}
            answer = await client.post(f"{origin}/v1/cards/{card}/stamps", json=body, headers=headers)
            assert answer.status_code == 201
            answer.json()

        return post_sale

    best = 0.0
    for callers in CALLERS:
        half = sales[: len(sales) // 2]
        queue = iter(enumerate(half))
        async with httpx.AsyncClient(trust_env=False) as client:
            post_sale = work(client, callers)

            async def caller(
                post_sale: Callable[[str, int, int], Awaitable[None]] = post_sale,
                queue: Iterator[tuple[int, tuple[str, int]]] = queue,
            ) -> None:
                for number, (account, receipt) in queue:
                    await post_sale(account, receipt, number)

            began = time.perf_counter()
            await asyncio.gather(*(caller() for _ in range(callers)))
            best = max(best, len(half) / (time.perf_counter() - began))
    return best


def key(account: str) -> str:
    """Return the 7stamp key of an account: the sandbox makes each a business of its own."""
    return f"7loc_sc_{account[:6]}"


async def beside_sandboxes(
    accounts: int, measure: Callable[[str, Path], Awaitable[None]], *, seconds: float = 0.0
) -> None:
    """Start the sandboxes, so many seconds away, as another process, measure against their address, and end them."""
    sandboxes = subprocess.Popen(
        [sys.executable, "-m", "bench.sandboxes", str(accounts), str(seconds)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert sandboxes.stdout is not None
        origin = sandboxes.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as folder:
            await measure(origin, Path(folder))
    finally:
        sandboxes.terminate()
        sandboxes.wait(10)


async def connect(host: Host, number: int) -> Connection:
    """Connect an account; its customers get cards, and it is read by hooks alone."""
    return await host.services.onboarding.connect(
        "poster",
        {"access_token": token(number)},
        key(token(number)),
        lambda _account: StampRule(unknown_customer=UnknownCustomer.issue),
        ConnectOptions(poll_seconds=86_400),
    )


def environment(origin: str, folder: Path) -> dict[str, str]:
    """Return the settings of a host that is a process of its own; this process takes them too."""
    settings = {
        "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "CONNECTORS_SEVENSTAMP_URL": origin,
        "CONNECTORS_SECRET_KEY": KEY,
        "POSTER_API_URL": f"{origin}/api",
        "POSTER_APPLICATION_SECRET": SECRET,
    }
    os.environ.update(settings)
    return settings


@dataclass(frozen=True, slots=True)
class Opened:
    """A host over a database in the bench's folder, with warm connections; its scheduler runs only in `delivered`."""

    host: Host
    control: httpx.AsyncClient
    connections: list[Connection]
    warm: dict[str, list[int]]
    """The receipts of each account that are stamped already."""

    async def sell(self, each: int) -> dict[str, list[int]]:
        """Close so many receipts in each account; return their numbers by account."""
        return dict((await self.control.post("/_bench/sell", content=json.dumps({"each": each}))).json())

    async def stamped(self, each: int) -> float:
        """Sell, store the hooks, and return the sales per second from there to applied stamps."""
        return await delivered(self.host, self.control, await hooks(self.host, await self.sell(each)))


@asynccontextmanager
async def opened(origin: str, folder: Path, accounts: int = ACCOUNTS) -> AsyncIterator[Opened]:
    """Connect accounts and warm everything up: cards are issued, caches filled, code compiled."""
    os.environ.update(POSTER_API_URL=f"{origin}/api", POSTER_APPLICATION_SECRET=SECRET)
    settings = Settings(
        database_url=f"sqlite:///{folder / 'ledger.db'}",
        sevenstamp_url=origin,
        secret_key=SecretStr(KEY),
    )
    async with Host(settings) as host, httpx.AsyncClient(base_url=origin, trust_env=False, timeout=600) as control:
        connections = [await connect(host, number) for number in range(accounts)]
        warm = (await control.post("/_bench/sell", content=json.dumps({"each": WARM}))).json()
        await delivered(host, control, await hooks(host, warm))
        collect_rarely()
        yield Opened(host, control, connections, warm)


async def measure(origin: str, folder: Path) -> None:
    """Measure in rounds and report the medians."""
    async with opened(origin, folder) as bench:
        cards: dict[str, list[str]] = {}
        for account in bench.warm:
            client = bench.host.sevenstamp.with_key(key(account))  # type: ignore[union-attr]
            cards[account] = [
                (await client.cards(phone=f"+3806{account[:6]}{person:02d}"))[0].id for person in range(WARM)
            ]
        ours: list[float] = []
        posts: list[float] = []
        all_requests: list[float] = []
        for run in range(ROUNDS):
            receipts = await bench.sell(EACH)
            ours.append(await delivered(bench.host, bench.control, await hooks(bench.host, receipts)))
            posts.append(await plain(origin, receipts, cards, fetch=False, run=f"p{run}"))
            all_requests.append(await plain(origin, receipts, cards, fetch=True, run=f"a{run}"))
    host_rate, post_rate, all_rate = (statistics.median(rates) for rates in (ours, posts, all_requests))
    print(f"plain httpx, the same stamp requests only: {post_rate:.0f}/s; against these {host_rate / post_rate:.2f}")
    report(
        Figure(
            "stored hook to applied stamp",
            "sales/s",
            host_rate,
            all_rate,
            "plain httpx, the same requests, nothing stored",
            2.0,
        )
    )


if __name__ == "__main__":
    uvloop.run(beside_sandboxes(ACCOUNTS, measure))

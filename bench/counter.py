"""At the till: how long a look-up takes, how many receipts are claimed per second, how many rows are imported.

Three figures of one run, everything committed with `synchronous=FULL`, 7stamp in another process:

- a card looked up over HTTP, p50 and p99, with 7stamp at 50 ms, against that call of 7stamp alone; and with 7stamp not
  answering, of a customer who is remembered and of one who is not;
- receipts claimed per second through the page's own service, against plain httpx making the same calls of 7stamp;
- rows of a CSV imported per second, against `csv` and bare inserts of as many rows into SQLite.
"""

from __future__ import annotations

import asyncio
import csv
import json
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from datetime import datetime, timedelta
from pathlib import Path

import httpx
import uvloop
from pydantic import SecretStr

from bench.delivery import beside_sandboxes
from connector_sdk.money import Money
from connector_sdk.rule import Mode, StampRule
from connector_sdk.sale import Sale, SaleStatus
from connectors.cli.servers import limits_of, serving
from connectors.domain.clock import moment
from connectors.domain.connection import Connection
from connectors.domain.receipt_links import ReceiptTarget
from connectors.runtime.host import Host
from connectors.services import ImportWish
from connectors.services.results import ProgressReport
from connectors.settings import Settings
from connectors.store import ledger
from connectors.sync.snapshots import Snapshot, Source
from connectors.web.app import application

LOOKUPS, CLAIMS, ROWS, AT_ONCE = 300, 400, 10_000, 16
KEY = "7loc_sc_counter"
PLENTY = 1_000_000
SETTINGS = {
    "till_name": "Corner",
    "till_id": "corner-till",
    "currency": "UAH",
    "zone": "Europe/Kyiv",
    "country": "UA",
    "proof": "address",
    "map_receipt_id": "Number",
    "map_paid": "Total",
    "map_closed_at": "Closed",
    "map_phone": "Phone",
}


def phone(number: int) -> str:
    """Return the phone of a customer."""
    return f"+38050{number:07d}"


async def measure(origin: str, folder: Path) -> None:
    """Connect a till that only sends, and measure one figure after the other."""
    settings = Settings(
        database_url=f"sqlite:///{folder / 'ledger.db'}",
        sevenstamp_url=origin,
        secret_key=SecretStr("a key for the bench only"),
        api_calls_per_minute=PLENTY,
    )
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(Host(settings))
        connection = await host.services.onboarding.connect(
            "webhook", SETTINGS, KEY, lambda _account: StampRule(mode=Mode.both)
        )
        control = await stack.enter_async_context(httpx.AsyncClient(base_url=origin, trust_env=False, timeout=60))
        await rows_imported(host, connection, folder)
        await claimed(host, connection, control)
        await looked_up(host, connection, control, stack)


# Look-ups


async def looked_up(host: Host, connection: Connection, control: httpx.AsyncClient, stack: AsyncExitStack) -> None:
    """Time look-ups over HTTP, one after the other as one till asks."""
    _, token = await host.services.tokens.make(connection.business_id, "A till", ["read"])
    address = await stack.enter_async_context(serving(application(host), protocol=limits_of(host)))
    headers = {"Authorization": f"Bearer {token}"}
    till = await stack.enter_async_context(httpx.AsyncClient(base_url=address, headers=headers, trust_env=False))
    await faults(control, latency_ms=[50, 50])

    async def ask(number: int) -> None:
        params = {"connection": connection.id, "phone": phone(number), "amount": "45.00"}
        answer = await till.get("/api/v1/till/card", params=params)
        assert answer.status_code == 200, answer.text

    async def alone(number: int) -> None:
        params = {"phone": phone(number)}
        await control.get("/v1/cards", params=params, headers={"Authorization": f"Bearer {KEY}"})

    await timed(ask, range(20))
    shown = await timed(ask, range(LOOKUPS))
    base = await timed(alone, range(LOOKUPS))
    await faults(control, latency_ms=[5_000, 5_000])
    remembered = await timed(ask, range(40))
    strangers = await timed(ask, range(900_000, 900_005))
    await faults(control)
    print(f"look-up with 7stamp at 50 ms: p50 {p(shown, 50):.0f} ms, p99 {p(shown, 99):.0f} ms")
    print(f"that call of 7stamp alone: p50 {p(base, 50):.0f} ms, p99 {p(base, 99):.0f} ms")
    print(f"lookup_ratio: {p(shown, 99) / p(base, 99):.2f}")
    print(f"7stamp not answering: p50 {p(remembered, 50):.0f} ms, p99 {p(remembered, 99):.0f} ms of who is remembered")
    print(f"7stamp not answering: p50 {p(strangers, 50):.0f} ms of who is not")


async def faults(control: httpx.AsyncClient, **values: object) -> None:
    """Set how the stand-in of 7stamp answers from now on."""
    (await control.post("/_sandbox/faults", json=values)).raise_for_status()


async def timed(ask: Callable[[int], Awaitable[None]], numbers: range) -> list[float]:
    """Return how many milliseconds each call took."""
    took: list[float] = []
    for number in numbers:
        began = time.perf_counter()
        await ask(number)
        took.append((time.perf_counter() - began) * 1000)
    return took


def p(values: Sequence[float], percent: int) -> float:
    """Return a percentile."""
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1]


# Claims


async def claimed(host: Host, connection: Connection, control: httpx.AsyncClient) -> None:
    """Claim receipts, each by another customer who has no card yet."""
    now = moment(host.store.clock.now())
    sales = [sale(f"claim-{number}", now) for number in range(CLAIMS)]
    await host.ingestor.ingest([Snapshot(connection, one, Source.push, None, fetches=False) for one in sales])
    ids = await host.store.read(
        lambda tx: [
            ledger.sales.sale_id_of(tx, connection.business_id, "webhook", connection.account.id, one.receipt_id)
            for one in sales
        ]
    )

    async def claim(number: int) -> None:
        target = ReceiptTarget(ids[number][:16])
        await host.services.claims.claim(target, phone(100_000 + number), agreed="", language="en")

    async def plain(number: int) -> None:
        headers, name = {"Authorization": f"Bearer {KEY}"}, {"phone": phone(200_000 + number)}
        await control.get("/v1/cards", params=name, headers=headers)
        await control.post("/v1/cards", json=name, headers=headers)

    rate, base = await rate_of(claim, CLAIMS), await rate_of(plain, CLAIMS)
    print(f"claims: {rate:.0f}/s; the same calls of 7stamp by plain httpx: {base:.0f}/s")
    print(f"claims_ratio: {rate / base:.2f}")


def sale(receipt: str, at: datetime) -> Sale:
    """Return a receipt without a customer."""
    paid = Money(4500, "UAH")
    return Sale(receipt_id=receipt, status=SaleStatus.closed, closed_at=at, paid=paid, refunded=Money.zero("UAH"))


async def rate_of(work: Callable[[int], Awaitable[None]], count: int) -> float:
    """Return how often something is done per second, by a few at once."""
    numbers = iter(range(count))

    async def worker() -> None:
        for number in numbers:
            await work(number)

    began = time.perf_counter()
    await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
    return count / (time.perf_counter() - began)


# Imports


async def rows_imported(host: Host, connection: Connection, folder: Path) -> None:
    """Import a CSV, and the same once more; beside it the plainest program that puts as many rows into a table."""
    file = folder / "receipts.csv"
    start = moment(host.store.clock.now()) - timedelta(days=30)
    with file.open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["Number", "Closed", "Total", "Phone"])
        for number in range(ROWS):
            at = start + timedelta(minutes=number)
            writer.writerow([f"{number}", at.isoformat(), f"{number % 90 + 10}.50", ""])

    async def take_in() -> float:
        began = time.perf_counter()
        result = await host.services.imports.run(connection.id, ImportWish(file), _ignore)
        assert result.receipts == ROWS, result
        return ROWS / (time.perf_counter() - began)

    first, again, base = await take_in(), await take_in(), bare(file)
    print(
        f"rows imported: {first:.0f}/s; again, where all are known: {again:.0f}/s; csv and bare inserts: {base:.0f}/s"
    )
    print(f"import_ratio: {first / base:.3f}")


async def _ignore(_report: ProgressReport) -> None:
    return


def bare(file: Path) -> float:
    """Return the rows per second of `csv` and `executemany`, two hundred rows a commit."""
    with tempfile.TemporaryDirectory() as folder, sqlite3.connect(Path(folder) / "bare.db") as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.execute("CREATE TABLE receipt (number TEXT PRIMARY KEY, content TEXT)")
        database.commit()
        began = time.perf_counter()
        with file.open(newline="") as lines:
            rows = [(row["Number"], json.dumps(row)) for row in csv.DictReader(lines)]
        for at in range(0, len(rows), 200):
            database.executemany("INSERT INTO receipt VALUES (?, ?)", rows[at : at + 200])
            database.commit()
        return len(rows) / (time.perf_counter() - began)


if __name__ == "__main__":
    uvloop.run(beside_sandboxes(1, measure))

"""Measures a large connection's pages against a small one's: 100,000 receipts and 1,000,000 lines, and 100 and 1,000.

The last line is `page_ratio`: the largest ratio of medians over all pages measured, both in one run.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import statistics
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path

import httpx
from pydantic import SecretStr

from bench.figures import Figure, report
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale, SaleStatus
from connectors.cli.servers import limits_of, serving
from connectors.domain.clock import DAY, MINUTE, moment
from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Sandbox
from connectors.store import ledger
from connectors.store.engine import Transaction
from connectors.store.ledger.sales import SaleRow
from connectors.store.schema import journal_table, operation_table, sale_table, sale_version_table
from connectors.web.app import application
from poster_connector.sandbox import Account, PosterSandbox

KEY = "7loc_sc_bench"
SMALL, LARGE = (100, 1_000), (100_000, 1_000_000)
_DAYS = 60
_ROUNDS = 40
_SALES, _VERSIONS = sale_table.insert(), sale_version_table.insert()
_OPERATIONS, _LINES = operation_table.insert(), journal_table.insert()


async def main() -> None:
    """Write both connections into one database, serve it, and compare their pages."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        second = Account(token="861053:5a9e1570ff9af128e93c5a771055bb21", name="large")
        till = PosterSandbox(Account(), second)
        os.environ.update(till.environment(await stack.enter_async_context(serving(till))))
        settings = Settings(
            database_url=f"sqlite:///{Path(folder) / 'pages.db'}",
            sevenstamp_url=await stack.enter_async_context(serving(Sandbox())),
            secret_key=SecretStr("a key for the bench only"),
        )
        host = await stack.enter_async_context(Host(settings))
        tokens = {SMALL: Account().token, LARGE: second.token}
        connections: dict[tuple[int, int], Connection] = {}
        for size, token in tokens.items():
            connections[size] = await host.services.onboarding.connect(
                "poster", {"access_token": token}, KEY, lambda _account: StampRule()
            )
            began = time.perf_counter()
            await host.store.write(partial(fill, connection=connections[size], receipts=size[0], lines=size[1]))
            print(f"{size[0]:,} receipts, {size[1]:,} lines written in {time.perf_counter() - began:.1f} s")
        # pages only: nothing in the background takes part
        for connection in connections.values():
            await host.services.connections.pause(connection.id)
        origin = await stack.enter_async_context(serving(application(host), protocol=limits_of(host)))
        async with httpx.AsyncClient(base_url=origin, trust_env=False) as browser:
            proof = re.search(r'name="proof" value="(\w+)"', (await browser.get("/sign-in")).text)
            assert proof
            await browser.post("/sign-in", data={"proof": proof[1], "key": KEY, "next": "/"})
            slowest = await compare(browser, connections[SMALL].id, connections[LARGE].id)
            report(
                Figure("slowest page of 100,000 receipts", "times", slowest, 1.0, "of 100 receipts", 1.6, at_most=True)
            )


async def compare(browser: httpx.AsyncClient, small: str, large: str) -> float:
    """Ask for every page of both connections in turns, and return the largest ratio of medians."""
    receipts = {
        connection_id: re.search(r"/receipts/(\w+)", (await browser.get(f"/connections/{connection_id}?q=50")).text)
        for connection_id in (small, large)
    }
    ratios: list[float] = []
    for name, path in (
        ("connection", ""),
        ("live part", "?part=now"),
        ("search: receipt", "?q=50"),
        ("search: amount", "?q=27.50"),
        ("search: card", "?q=4821"),
        ("search: amount and time", "?q=27.50+09:12"),
        ("search: amount and card", "?q=27.50+4821"),
        ("receipt", "receipt"),
        ("settings", "/settings"),
        ("numbers", "/numbers"),
        ("numbers of a month", "/numbers?period=month"),
    ):
        took: dict[str, list[float]] = {small: [], large: []}
        for _ in range(_ROUNDS):
            for connection_id in (small, large):
                receipt = receipts[connection_id]
                assert receipt
                address = (
                    f"/connections/{connection_id}/receipts/{receipt[1]}"
                    if path == "receipt"
                    else f"/connections/{connection_id}{path}"
                )
                began = time.perf_counter()
                answer = await browser.get(address)
                took[connection_id].append(time.perf_counter() - began)
                assert answer.status_code == 200, address
        medians = {connection_id: statistics.median(times) * 1000 for connection_id, times in took.items()}
        ratios.append(medians[large] / medians[small])
        print(f"{name:24} {medians[small]:7.1f} ms  {medians[large]:7.1f} ms  {ratios[-1]:.2f}")
    return max(ratios)


def fill(tx: Transaction, connection: Connection, receipts: int, lines: int) -> None:
    """Write so many receipts, spread over two months, each with its operation, and lines of the journal.

    Every twentieth of the first thousand receipts has an operation that was refused and needs somebody.
    """
    for low in range(0, receipts, 10_000):
        write_receipts(tx, connection, range(low, min(low + 10_000, receipts)), receipts)
    for low in range(0, lines, 50_000):
        write_lines(tx, connection, range(low, min(low + 50_000, lines)), lines, receipts)
    ledger.daily_totals.recount(tx, connection.id)


def write_receipts(tx: Transaction, connection: Connection, numbers: range, receipts: int, prefix: str = "") -> None:
    """Write the receipts with these numbers behind a prefix, of so many in two months."""
    start, step = tx.now - _DAYS * DAY, _DAYS * DAY // receipts
    content = Sale(
        receipt_id="1",
        status=SaleStatus.closed,
        closed_at=moment(start),
        paid=Money(2750, "UAH"),
        refunded=Money.zero("UAH"),
    )
    sealed = tx.vault.encrypt(content.model_dump_json())
    rows = [_row(connection, _id(tx, connection, number), number, start + number * step) for number in numbers]
    for row in rows:
        row.receipt_id = prefix + row.receipt_id
    tx.run_each(_SALES, [asdict(row) for row in rows])
    tx.run_each(_VERSIONS, [_version(row, sealed, tx.now) for row in rows])
    tx.run_each(_OPERATIONS, [_operation(row, number, tx.now) for number, row in zip(numbers, rows, strict=True)])


def write_lines(tx: Transaction, connection: Connection, numbers: range, lines: int, receipts: int) -> None:
    """Write the lines of the journal with these numbers, of so many in two months, about so many receipts."""
    start, step = tx.now - _DAYS * DAY, _DAYS * DAY // lines
    message = Message("operation.applied.stamps_added", {"receipt": "1", "count": 1, "card": "4821"}).stored()
    rows = [
        {
            "connection_id": connection.id,
            "sale_id": _id(tx, connection, number % receipts),
            "receipt_id": str(number % receipts),
            "at": start + number * step,
            "message": message,
            "by": None,
        }
        for number in numbers
    ]
    tx.run_each(_LINES, rows)


def _id(tx: Transaction, connection: Connection, number: int) -> str:
    return tx.vault.hash("bench", connection.id, str(number))


def _row(connection: Connection, id_: str, number: int, at: int) -> SaleRow:
    closed = at - at % MINUTE
    return SaleRow(
        id=id_,
        business_id=connection.business_id,
        connector=connection.connector,
        account_id=connection.account.id,
        receipt_id=str(number),
        connection_id=connection.id,
        version=None,
        ticket=1,
        digest=id_,
        versions=1,
        status="closed",
        closed_at=closed,
        paid=2750 if number % 3 else 1500 + number % 977,
        refunded=0,
        currency="UAH",
        location_id="1",
        admitted=1,
        rule_of=connection.id,
        rule_number=1,
        pinned=0,
        stamps=1,
        stamps_by_plugin=None,
        customer_hash=f"customer {number % 500}",
        bound_hash=f"customer {number % 500}",
        card_id=f"card_{number % 500}",
        card_hint="4821" if number % 50 == 0 else f"{number % 500:04d}",
        wait=None,
        next_n=2,
        changed_at=closed,
        day=moment(closed).date().isoformat(),
    )


def _version(row: SaleRow, sealed: str, now: int) -> dict[str, object]:
    return {
        "sale_id": row.id,
        "number": 1,
        "version": None,
        "ticket": 1,
        "digest": row.digest,
        "source": "poll",
        "seen_at": now,
        "stamps_by_plugin": None,
        "content": sealed,
    }


def _operation(row: SaleRow, number: int, now: int) -> dict[str, object]:
    rejected = number % 20 == 0 and number < 1000
    return {
        "id": f"{row.id}-1",
        "sale_id": row.id,
        "n": 1,
        "connection_id": row.connection_id,
        "business_id": row.business_id,
        "receipt_id": row.receipt_id,
        "lane": f"card:{row.card_id}",
        "card_id": row.card_id,
        "card_hint": row.card_hint,
        "kind": "stamps_added",
        "count": 1,
        "redeem_code": None,
        "code": f"{row.code}:1",
        "key": f"{row.code}:1",
        "attempt": 1,
        "request": json.dumps({"count": 1}),
        "state": "rejected" if rejected else "applied",
        "hold": None,
        "reason": Message("why.refused", {"code": "invalid"}).stored() if rejected else None,
        "waived": 0,
        "next_at": now,
        "expires_at": None,
        "sent_at": now,
        "tries": 1,
        "conflicted": 0,
        "day": row.day,
        "created_at": now,
        "updated_at": now,
        "acknowledged": int(rejected and number >= 100),
    }


if __name__ == "__main__":
    asyncio.run(main())

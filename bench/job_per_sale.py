"""The usual way: a job of a queue for each sale, which makes the same two calls; Procrastinate, and DBOS if installed.

Each job is durable, as our sales are: stored before it runs, and marked as done in the database. `pip install dbos` has
its figure measured too; it is not among what we depend on.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import procrastinate
import uvloop

from bench.delivery import EACH, Opened, beside_sandboxes, key, opened
from bench.figures import Figure, report
from tests.postgresql import running_postgresql

ACCOUNTS, CONCURRENCY = 30, (8, 16, 32)
Call = Callable[[str, int, str], Awaitable[None]]


def calls(client: httpx.AsyncClient, origin: str, cards: dict[str, str]) -> Call:
    """Return what makes the two calls of a sale: of account, receipt, and a name for its stamp."""

    async def stamp(account: str, receipt: int, name: str) -> None:
        params = {"token": account, "transaction_id": str(receipt), "include_products": "true"}
        (await client.get(f"{origin}/api/dash.getTransaction", params=params)).json()
        body = {"count": 1, "receipt": name, "amount": "27.50", "code": name}
        headers = {"Authorization": f"Bearer {key(account)}", "Idempotency-Key": name}
        answer = await client.post(f"{origin}/v1/cards/{cards[account]}/stamps", json=body, headers=headers)
        assert answer.status_code == 201, answer.text

    return stamp


async def by_procrastinate(url: str, sales: list[tuple[str, int]], stamp: Call, concurrency: int) -> float:
    """Return the sales per second of a job each, from stored jobs to all done."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url, max_size=10))

    @app.task(name="stamp")
    async def job(account: str, receipt: int, name: str) -> None:
        await stamp(account, receipt, name)

    async with app.open_async():
        await job.batch_defer_async(
            *(
                dict[str, Any](account=account, receipt=receipt, name=f"job:{concurrency}:{account[:6]}:{receipt}")
                for account, receipt in sales
            )
        )
        began = time.perf_counter()
        await app.run_worker_async(concurrency=concurrency, wait=False, listen_notify=False)
        return len(sales) / (time.perf_counter() - began)


async def by_dbos(url: str, sales: list[tuple[str, int]], stamp: Call, concurrency: int) -> float:
    """Return the sales per second of a workflow each, of one step, from the first start to all done."""
    from dbos import DBOS, SetWorkflowID  # type: ignore[import-not-found]

    dbos = DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR"})

    @DBOS.step()  # type: ignore[untyped-decorator]
    async def step(account: str, receipt: int, name: str) -> None:
        await stamp(account, receipt, name)

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    async def workflow(account: str, receipt: int, name: str) -> None:
        await step(account, receipt, name)

    DBOS.launch()
    slots = asyncio.Semaphore(concurrency)

    async def one(account: str, receipt: int) -> None:
        async with slots:
            name = f"flow:{concurrency}:{account[:6]}:{receipt}"
            with SetWorkflowID(name):
                await (await DBOS.start_workflow_async(workflow, account, receipt, name)).get_result()

    began = time.perf_counter()
    await asyncio.gather(*(one(*sale) for sale in sales))
    took = time.perf_counter() - began
    DBOS.destroy()
    del dbos
    # it ends the loop's own threads with its own
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
    return len(sales) / took


async def best(
    run: Callable[[str, list[tuple[str, int]], Call, int], Awaitable[float]], bench: Opened, origin: str
) -> float:
    """Return the best of several concurrencies, each over a database of its own."""
    client_of = bench.host.sevenstamp
    assert client_of is not None
    cards = {
        account: (await client_of.with_key(key(account)).cards(phone=f"+3806{account[:6]}00"))[0].id
        for account in bench.warm
    }
    rates: list[float] = []
    for concurrency in CONCURRENCY:
        sold = await bench.sell(EACH // 2)
        sales = [(account, receipt) for account, receipts in sold.items() for receipt in receipts]
        with running_postgresql(durable=True) as server:
            url = server.new_database().replace("postgresql+psycopg", "postgresql")
            async with httpx.AsyncClient(trust_env=False) as client:
                rates.append(await run(url, sales, calls(client, origin, cards), concurrency))
    return max(rates)


async def measure(origin: str, folder: Path) -> None:
    """Measure ours on SQLite and the jobs on PostgreSQL, against the same sandboxes."""
    async with opened(origin, folder, ACCOUNTS) as bench:
        ours = max([await bench.stamped(EACH) for _ in range(3)])
        name, unit = "stored hook to applied stamp", "sales/s"
        jobs = await best(by_procrastinate, bench, origin)
        report(Figure(name, unit, ours, jobs, "a job of Procrastinate for each sale", 5.0))
        if importlib.util.find_spec("dbos") is None:
            print("DBOS is not installed: a workflow of it for each sale is not measured")
            return
        os.environ.setdefault("DBOS__CLOUD", "false")
        report(Figure(name, unit, ours, await best(by_dbos, bench, origin), "a workflow of DBOS for each sale", 10.0))


if __name__ == "__main__":
    uvloop.run(beside_sandboxes(ACCOUNTS, measure))

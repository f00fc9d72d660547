"""Two processes on one database: both ingest the same receipt, both deliver the same card; one plan, one stamp."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from connector_sdk import Sale
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.cli.servers import serving
from connectors.plugins import Plugins
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.store import counters, queries
from connectors.sync.ingest import Snapshot, Source
from tests.installation import Sandbox
from tests.model import ModelTill, sale

pytestmark = pytest.mark.slow
RECEIPTS, ROUNDS = 4, 5


def _host(database: str, url: str) -> Host:
    plugins = Plugins([])
    plugins.classes["model"] = ModelTill
    secret = SecretStr("a key that only tests use")
    return Host(Settings(database_url=database, sevenstamp_url=url, secret_key=secret), plugins=plugins)


def _ingest_and_deliver(
    database: str, url: str, connection_id: str, sales: list[str], barrier: Barrier, result: Any
) -> None:
    """Ingest and deliver the same sales as another process does, each step at the same moment."""

    async def work() -> list[str]:
        async with _host(database, url) as host:
            assert host.identifier is not None
            assert host.deliverer is not None
            connection = await host.services.connections.get(connection_id)
            outcomes: list[str] = []
            for text in sales:
                ticket = await host.store.write(lambda tx: counters.issue_tickets(tx, 1))
                snapshot = Snapshot(connection, Sale.model_validate_json(text), Source.poll, ticket)
                barrier.wait(30)
                outcomes += await host.ingestor.ingest([snapshot])
                await host.identifier.round()
                barrier.wait(30)
                await host.deliverer.drain()
            return outcomes

    result.put(json.dumps(asyncio.run(work())))


async def test_two_processes_plan_each_sale_once_and_send_it_once(tmp_path: Path) -> None:
    sandbox = Sandbox(goal=1_000_000)
    database = f"sqlite:///{tmp_path / 'ledger.db'}"
    async with serving(sandbox) as url:
        async with _host(database, url) as host:
            rule = StampRule(unknown_customer=UnknownCustomer.issue)
            connection = await host.services.onboarding.connect("model", {}, "7loc_sc_two", lambda _account: rule)
            now = host.store.clock.now()
        # one card for all receipts, so that both always want the same card at once
        sales = [sale(f"r{n}", closed=now + n).model_dump_json() for n in range(RECEIPTS * ROUNDS)]
        spawn = multiprocessing.get_context("spawn")
        barrier, results = spawn.Barrier(2), spawn.Queue()
        arguments = (database, url, connection.id, sales, barrier, results)
        processes = [spawn.Process(target=_ingest_and_deliver, args=arguments) for _ in range(2)]
        for process in processes:
            process.start()
        loop = asyncio.get_running_loop()
        outcomes = [json.loads(await loop.run_in_executor(None, results.get, True, 60)) for _ in processes]
        for process in processes:
            await loop.run_in_executor(None, process.join, 30)
            assert process.exitcode == 0
        for first, second in zip(*outcomes, strict=True):
            assert sorted([first, second]) == ["stored", "unchanged"]
        async with _host(database, url) as host:
            assert host.deliverer is not None
            await host.deliverer.drain()
            operations = await host.store.read(lambda tx: queries.operations.list_newest(tx, connection.id))
    assert len(operations) == len(sales)
    applied = [operation["code"] for operation in sandbox.state.operations if operation["kind"] == "stamps_added"]
    assert sorted(applied) == sorted(f"model:a1:r{n}:1" for n in range(len(sales)))

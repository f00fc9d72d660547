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
from connectors.cli.servers import serving
from connectors.plugins import Plugins
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.store import counters, queries
from connectors.sync.ingest import Snapshot, Source
from tests.model import ModelTill, sale
from tests.town import Sandbox

pytestmark = pytest.mark.slow
RECEIPTS, ROUNDS = 4, 5


def _host(database: str, url: str) -> Host:
    plugins = Plugins([])
    plugins.classes["model"] = ModelTill
    secret = SecretStr("a key that only tests use")
    return Host(Settings(database_url=database, sevenstamp_url=url, secret_key=secret), plugins=plugins)


def _same_work(database: str, url: str, connection_id: str, sales: list[str], barrier: Barrier, result: Any) -> None:
    """What each of the two does, at the same moment."""

    async def work() -> list[str]:
        async with _host(database, url) as host:
            assert host.identifier is not None
            assert host.deliverer is not None
            one = await host.services.connections.get(connection_id)
            outcomes: list[str] = []
            for text in sales:
                ticket = await host.store.write(lambda tx: counters.issue_tickets(tx, 1))
                arrival = Snapshot(one, Sale.model_validate_json(text), Source.poll, ticket)
                barrier.wait(30)
                outcomes += await host.ingestor.ingest([arrival])
                await host.identifier.round()
                barrier.wait(30)
                await host.deliverer.drain()
            return outcomes

    result.put(json.dumps(asyncio.run(work())))


async def test_two_processes_plan_once_and_send_once(tmp_path: Path) -> None:
    sandbox = Sandbox(goal=1_000_000)
    database = f"sqlite:///{tmp_path / 'ledger.db'}"
    async with serving(sandbox) as url:
        async with _host(database, url) as host:
            from connector_sdk.rule import StampRule, UnknownCustomer

            rule = StampRule(unknown_customer=UnknownCustomer.issue)
            one = await host.services.onboarding.connect("model", {}, "7loc_sc_two", lambda _account: rule)
            now = host.store.clock.now()
        # one card for all receipts, so that both always want the same card at once
        sales = [sale(f"r{n}", closed=now + n).model_dump_json() for n in range(RECEIPTS * ROUNDS)]
        spawn = multiprocessing.get_context("spawn")
        barrier, results = spawn.Barrier(2), spawn.Queue()
        both = [
            spawn.Process(target=_same_work, args=(database, url, one.id, sales, barrier, results)) for _ in range(2)
        ]
        for process in both:
            process.start()
        loop = asyncio.get_running_loop()
        outcomes = [json.loads(await loop.run_in_executor(None, results.get, True, 60)) for _ in both]
        for process in both:
            await loop.run_in_executor(None, process.join, 30)
            assert process.exitcode == 0
        for first, second in zip(*outcomes, strict=True):
            assert sorted([first, second]) == ["stored", "unchanged"]
        async with _host(database, url) as host:
            assert host.deliverer is not None
            await host.deliverer.drain()
            found = await host.store.read(lambda tx: queries.operations.list_newest(tx, one.id))
    assert len(found) == len(sales)
    applied = [one["code"] for one in sandbox.state.operations if one["kind"] == "stamps_added"]
    assert sorted(applied) == sorted(f"model:a1:r{n}:1" for n in range(len(sales)))

"""`connectors demo`: both sandboxes and a host on free ports, a cafe's busy morning, and the sums at the end.

Owns the show; everything it shows is the real thing over HTTP on loopback.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr

from connector_sdk.money import Money
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.cli.installation import load_sandbox
from connectors.cli.output import say
from connectors.cli.servers import limits_of, serving
from connectors.domain.clock import DAY, moment
from connectors.domain.connection import Connection
from connectors.plugins import Plugins
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Operation, Sandbox
from connectors.store import access, connections, ledger
from connectors.store.access.sessions import Visitor
from connectors.store.engine import Transaction
from connectors.web.app import application

_KEY = "7loc_sc_demo"  # the sandbox takes any key that begins so
_CUSTOMERS = [f"+38050111{number:04d}" for number in range(1001, 1009)]
_PAUSE = 0.7
_HISTORY_DAYS = 15


async def play(connector: str, seconds: float) -> None:
    """Run the demo until Ctrl-C, or for some seconds."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="7stamp-demo-"))
        plugins = Plugins()
        till = load_sandbox(plugins, connector)
        till_origin = await stack.enter_async_context(serving(till.application()))
        sevenstamp = Sandbox(goal=1000)
        stamps_origin = await stack.enter_async_context(serving(sevenstamp))
        os.environ.update(till.environment(till_origin))
        settings = Settings(
            database_url=f"sqlite:///{Path(folder) / 'demo.db'}",
            sevenstamp_url=stamps_origin,
            secret_key=SecretStr(secrets.token_urlsafe(32)),
            settle_seconds=1,
            call_deadline_seconds=2,
        )
        host = await stack.enter_async_context(Host(settings, plugins=plugins))
        host_origin = await stack.enter_async_context(serving(application(host), protocol=limits_of(host)))
        host.listens_on(host_origin)
        till.two_weeks(_CUSTOMERS)
        one = await host.services.onboarding.connect(
            connector,
            till.settings(),
            _KEY,
            lambda account: StampRule(
                kind="by_amount",
                amount=Money.from_decimal("15.00", account.currency),
                unknown_customer=UnknownCustomer.issue,
            ),
        )
        since = moment(host.store.clock.now() - _HISTORY_DAYS * DAY).date().isoformat()
        say("Two weeks of history become stamps first …")
        await host.services.sync.backfill(one.id, since, _quietly)
        link = await host.store.write(lambda tx: access.sessions.make_link(tx, _owner(tx, one)))
        say("")
        say(f"The console: open {host_origin}/link/{link} (it signs you in once, within ten minutes).")
        password = await host.operator_password()
        say(f"Where a key is asked for: {_KEY}; the operator's password: {password}")
        say(f"The till runs on {till_origin}, 7stamp on {stamps_origin}, the host on {host_origin}.")
        say("One stamp for every 15.00. Watch receipts become stamps; Ctrl-C ends everything.")
        say("")
        async with httpx.AsyncClient(trust_env=False) as browser:

            async def post(body: bytes, headers: Mapping[str, str]) -> None:
                await browser.post(str(host.services.connections.hook_url(one)), content=body, headers=dict(headers))

            async def pause() -> None:
                await asyncio.sleep(_PAUSE)

            morning = asyncio.create_task(till.busy_morning(_CUSTOMERS, post, pause))
            watching = asyncio.create_task(_watch(host, one.id, sevenstamp))
            try:
                await asyncio.wait({morning, watching}, timeout=seconds or None, return_when=asyncio.FIRST_EXCEPTION)
            finally:
                morning.cancel()
                await asyncio.gather(morning, return_exceptions=True)
                await _close_shop(host, one.id, sevenstamp, watching)


def _owner(tx: Transaction, one: Connection) -> Visitor:
    business = connections.businesses.get(tx, one.business_id)
    return Visitor(business.id, business.name, business.zone, "demo", _KEY)


async def _quietly(_now: Mapping[str, Any]) -> None:
    """Two weeks take a second."""


async def _watch(host: Host, connection_id: str, sevenstamp: Sandbox) -> None:
    """The journal as it is written, and now and then the sums."""
    after, quiet = await host.store.read(lambda tx: ledger.journal.newest_seq(tx, connection_id)), 0
    while True:
        lines = await host.store.read(partial(ledger.journal.of_connection, connection_id=connection_id, after=after))
        for line in lines:
            if line.message.id != "sale.identifying":
                say(f"{moment(line.at):%H:%M:%S}  {host.words.word(line.message)}")
        if lines:
            after = lines[-1].seq
            quiet = 0
        quiet += 1
        if quiet == 12:
            await _sums(host, connection_id, sevenstamp)
        await asyncio.sleep(0.05)


async def _sums(host: Host, connection_id: str, sevenstamp: Sandbox) -> bool:
    """Say what receipts earned and what 7stamp holds; whether they agree."""
    earned = await host.store.read(lambda tx: ledger.sales.stamps_earned(tx, connection_id))
    held = held_at_7stamp(sevenstamp.state.operations)
    agree = earned == held
    said = "the same" if agree else "some are still on their way"
    say(f"          — stamps that receipts earned: {earned}, that 7stamp holds: {held}: {said}.")
    return agree


def held_at_7stamp(operations: Sequence[Operation]) -> int:
    """Stamps added less stamps taken back, of everything that was really applied."""
    signs = {"stamps_added": 1, "stamps_reversed": -1}
    return sum(signs.get(one["kind"], 0) * one["count"] for one in operations)


async def _close_shop(host: Host, connection_id: str, sevenstamp: Sandbox, watching: asyncio.Task[None]) -> None:
    """Let what is on its way arrive, then say how it ended."""
    try:
        async with asyncio.timeout(8):
            while True:
                earned = await host.store.read(lambda tx: ledger.sales.stamps_earned(tx, connection_id))
                if earned == held_at_7stamp(sevenstamp.state.operations):
                    break
                await asyncio.sleep(0.1)
    except TimeoutError:
        pass
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)
    say("")
    say("The morning is over.")
    await _sums(host, connection_id, sevenstamp)

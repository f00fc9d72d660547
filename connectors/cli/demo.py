"""`connectors demo`: both sandboxes and a host on free ports, a cafe's busy morning, and the sums at the end.

Owns the show; everything it shows is the real thing over HTTP on loopback.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer
from pydantic import SecretStr

from connector_sdk.connector import TillAccount
from connector_sdk.money import Money
from connector_sdk.rule import StampRule, UnknownCustomer
from connector_sdk.sandbox import TillSandbox
from connectors.cli.output import run, say
from connectors.cli.sandbox import load_sandbox
from connectors.cli.servers import limits_of, serving
from connectors.domain.clock import DAY, moment
from connectors.domain.connection import Connection
from connectors.plugins import Plugins
from connectors.runtime.host import Host
from connectors.runtime.operator_password import ensure_operator_password
from connectors.services.results import ignore
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import Operation, Sandbox
from connectors.store import access, connections, inbox, ledger
from connectors.store.access.sessions import Principal
from connectors.store.engine import Transaction
from connectors.web.app import application

_KEY = "7loc_sc_demo"  # the sandbox takes any key that begins so
_CUSTOMERS = [f"+38050111{number:04d}" for number in range(1001, 1009)]
_PAUSE_SECONDS = 0.7
_HISTORY_DAYS = 15
_LOOK_SECONDS = 0.05
_QUIET_LOOKS = 12
"""After so many looks without a line of the journal the sums are said, once."""
_CLOSING_SECONDS = 8
_SIGNS = {"stamps_added": 1, "stamps_reversed": -1}


def demo(
    seconds: Annotated[float, typer.Option("--for", min=0, help="End by itself after so many seconds.")] = 0.0,
    connector: Annotated[str, typer.Option(help="Whose sandbox plays the till.")] = "poster",
) -> None:
    """Sandboxes, host and a cafe with live sales: receipts turn into stamps before your eyes."""
    run(lambda: play(connector, seconds), interrupted=0)


@dataclass(frozen=True, slots=True)
class _Installation:
    """A host that serves, with the sandboxes of a till and of 7stamp; origins are `http://127.0.0.1:PORT`."""

    host: Host
    origin: str
    till: TillSandbox
    till_origin: str
    sevenstamp: Sandbox
    sevenstamp_origin: str

    async def stamps_earned(self, connection_id: str) -> int:
        """Sum the stamps that the connection's receipts earned."""
        return await self.host.store.read(lambda tx: ledger.sales.stamps_earned(tx, connection_id))

    async def receipts_to_read(self, connection_id: str) -> int:
        """Count the receipts that the till has told of, and that are still to be read."""
        return await self.host.store.read(lambda tx: inbox.hints.count_of(tx, connection_id))

    def stamps_held(self) -> int:
        """Sum the stamps that 7stamp holds."""
        return held_at_7stamp(self.sevenstamp.state.operations)


async def play(connector: str, seconds: float) -> None:
    """Run the demo until Ctrl-C or SIGTERM, or for some seconds where they are not 0."""
    playing = asyncio.ensure_future(_play(connector, seconds))
    with suppress(NotImplementedError):  # Windows has no such signal
        # it ends as with Ctrl-C, tidily and with success, also in the background, where a shell has Ctrl-C ignored
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, playing.cancel)
    with suppress(asyncio.CancelledError):
        await playing


async def _play(connector: str, seconds: float) -> None:
    async with _installed(connector) as installation:
        connection = await _connect(installation, connector)
        say("Two weeks of history become stamps first …")
        await _backfill(installation.host, connection)
        await _introduce(installation, connection)
        # loopback only: a proxy of the environment must not stand between
        async with httpx.AsyncClient(trust_env=False) as client:
            await _show_morning(installation, connection, client, seconds)


async def _show_morning(
    installation: _Installation, connection: Connection, client: httpx.AsyncClient, seconds: float
) -> None:
    """Sell and follow the journal until Ctrl-C or for some seconds; then say how it ended."""
    morning = asyncio.create_task(_morning(installation, connection, client))
    journal = asyncio.create_task(_follow_journal(installation, connection.id))
    try:
        await asyncio.wait({morning, journal}, timeout=seconds or None, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        # sales end first, the journal last: the sums agree only once nothing new is on its way
        morning.cancel()
        await asyncio.gather(morning, return_exceptions=True)
        await _close(installation, connection.id, journal)


async def _backfill(host: Host, connection: Connection) -> None:
    # a day more than two weeks: today's date at the till may be another than in UTC
    since = moment(host.store.clock.now() - _HISTORY_DAYS * DAY).date().isoformat()
    await host.services.sync.backfill(connection.id, since, ignore)


@asynccontextmanager
async def _installed(connector: str) -> AsyncIterator[_Installation]:
    """Serve both sandboxes and a host over a database of its own; all end, and it is deleted, with the block."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="7stamp-demo-"))
        plugins = Plugins()
        till = load_sandbox(plugins, connector)
        till_origin = await stack.enter_async_context(serving(till.application()))
        sevenstamp = Sandbox(goal=1000)  # nobody's card is full while the demo runs, so sums are easy to follow
        sevenstamp_origin = await stack.enter_async_context(serving(sevenstamp))
        os.environ.update(till.environment(till_origin))  # before any connector reads where its till is
        settings = _settings(Path(folder), sevenstamp_origin)
        host = await stack.enter_async_context(Host(settings, plugins=plugins))
        origin = await stack.enter_async_context(serving(application(host), protocol=limits_of(host)))
        host.listens_on(origin)
        yield _Installation(host, origin, till, till_origin, sevenstamp, sevenstamp_origin)


def _settings(folder: Path, sevenstamp_origin: str) -> Settings:
    return Settings(
        database_url=f"sqlite:///{folder / 'demo.db'}",
        sevenstamp_url=sevenstamp_origin,
        secret_key=SecretStr(secrets.token_urlsafe(32)),
        # short, for people watch: a host in service waits longer for a receipt to be complete
        settle_seconds=1,
        call_deadline_seconds=2,
    )


async def _connect(installation: _Installation, connector: str) -> Connection:
    """Fill the till with two weeks of receipts and connect it, one stamp for every 15.00."""
    till = installation.till
    till.two_weeks(_CUSTOMERS)
    return await installation.host.services.onboarding.connect(connector, till.settings(), _KEY, _rule)


def _rule(account: TillAccount) -> StampRule:
    amount = Money.from_decimal("15.00", account.currency)
    # customers without a card get one: nobody is there to make cards for them
    return StampRule(kind="by_amount", amount=amount, unknown_customer=UnknownCustomer.issue)


async def _introduce(installation: _Installation, connection: Connection) -> None:
    """Say where everything is and how to come in."""
    host = installation.host
    link = await host.store.write(partial(_make_link, connection=connection))
    password = await ensure_operator_password(host.store, host.settings.operator_password)
    others = f"7stamp on {installation.sevenstamp_origin}, the host on {installation.origin}"
    for line in (
        "",
        f"The console: open {installation.origin}/link/{link} (it signs you in once, within ten minutes).",
        f"Where a key is asked for: {_KEY}; the operator's password: {password}",
        f"The till runs on {installation.till_origin}, {others}.",
        "One stamp for every 15.00. Watch receipts become stamps; Ctrl-C ends everything.",
        "",
    ):
        say(line)


def _make_link(tx: Transaction, connection: Connection) -> str:
    return access.sessions.make_link(tx, _owner(tx, connection))


def _owner(tx: Transaction, connection: Connection) -> Principal:
    business = connections.businesses.get(tx, connection.business_id)
    return Principal(business.id, business.name, business.zone, "demo", _KEY)


async def _morning(installation: _Installation, connection: Connection, client: httpx.AsyncClient) -> None:
    """Sell at the till until cancelled; its hooks go to the host over HTTP, as from a real till."""
    hook_url = str(installation.host.services.connections.hook_url(connection))
    installation.till.post_to(hook_url)

    async def post(body: bytes, headers: Mapping[str, str]) -> None:
        # a morning that ends between a sale and its hook would leave the sale to a poll minutes later: so the hook is
        # sent to its end even then, and waited for, as long as the client is open
        sending = asyncio.create_task(client.post(hook_url, content=body, headers=dict(headers)))
        try:
            await asyncio.shield(sending)
        finally:
            await asyncio.gather(sending, return_exceptions=True)

    async def pause() -> None:
        await asyncio.sleep(_PAUSE_SECONDS)

    await installation.till.busy_morning(_CUSTOMERS, post, pause)


async def _follow_journal(installation: _Installation, connection_id: str) -> None:
    """Say the journal's lines as they are written, and the sums once whenever it falls quiet; until cancelled."""
    host = installation.host
    newest = await host.store.read(partial(ledger.journal.newest_seq, connection_id=connection_id))
    quiet = 0
    while True:
        lines = await host.store.read(partial(ledger.journal.of_connection, connection_id=connection_id, after=newest))
        _say_lines(host, lines)
        newest = lines[-1].seq if lines else newest
        # equal, not more: the sums are said once, and again only after another line
        quiet = 1 if lines else quiet + 1
        if quiet == _QUIET_LOOKS:
            await _say_sums(installation, connection_id)
        await asyncio.sleep(_LOOK_SECONDS)


def _say_lines(host: Host, lines: Sequence[ledger.journal.JournalLine]) -> None:
    for line in lines:
        # that a card is being looked up is followed within a moment by what came of it
        if line.message.id != "sale.identifying":
            say(f"{moment(line.at):%H:%M:%S}  {host.words.word(line.message)}")


async def _say_sums(installation: _Installation, connection_id: str) -> None:
    """Say what receipts earned and what 7stamp holds, and whether they agree."""
    earned, held = await installation.stamps_earned(connection_id), installation.stamps_held()
    verdict = "the same" if earned == held else "some are still on their way"
    say(f"          — stamps that receipts earned: {earned}, that 7stamp holds: {held}: {verdict}.")


def held_at_7stamp(operations: Sequence[Operation]) -> int:
    """Sum the stamps added less the stamps taken back, over everything that 7stamp applied."""
    return sum(_SIGNS.get(operation["kind"], 0) * operation["count"] for operation in operations)


async def _close(installation: _Installation, connection_id: str, journal: asyncio.Task[None]) -> None:
    """Wait a while for what is on its way, then stop following the journal and say how it ended."""
    await _wait_for_delivery(installation, connection_id)
    journal.cancel()
    await asyncio.gather(journal, return_exceptions=True)
    say("")
    say("The morning is over.")
    await _say_sums(installation, connection_id)


async def _wait_for_delivery(installation: _Installation, connection_id: str) -> None:
    """Wait until no receipt is to be read and 7stamp holds what they earned, or some seconds where it never does."""
    with suppress(TimeoutError):  # the sums say that something is still on its way
        async with asyncio.timeout(_CLOSING_SECONDS):
            # nothing tells us of what 7stamp has applied
            while (  # noqa: ASYNC110
                await installation.receipts_to_read(connection_id)
                or await installation.stamps_earned(connection_id) != installation.stamps_held()
            ):
                await asyncio.sleep(0.1)

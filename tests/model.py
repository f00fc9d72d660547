"""A till that exists only in memory, and an installation on virtual time over it, for property tests.

Owns the stand-ins; what is tested with them is the tests' own.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, TypeVar

import httpx
from pydantic import BaseModel, SecretStr

from connector_sdk import (
    Connector,
    ConnectorInfo,
    Customer,
    Money,
    Sale,
    SalePage,
    SaleStatus,
    TillAccount,
)
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.clock import moment
from connectors.plugins import Plugins
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.sevenstamp.sandbox import ConnectionCut, Sandbox
from tests.databases import new_database
from tests.postgresql import FAST_DISK
from tests.virtual_time import VirtualClock, VirtualLoop

T = TypeVar("T")

KEY = "7loc_sc_model"


class NoSettings(BaseModel):
    """The settings of a till that has none."""


class ModelTill(Connector[NoSettings]):
    """A till whose receipts are whatever `receipts` holds; the class is shared, so a test sets it anew."""

    info = ConnectorInfo(name="model", title="Model")
    receipts: ClassVar[dict[str, Sale]] = {}

    async def check(self) -> TillAccount:
        return TillAccount(id="a1", name="Model", currency="UAH", zone="Europe/Kyiv", country="UA")

    async def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        for sale in list(self.receipts.values()):
            yield SalePage(sales=(sale,))

    async def fetch(self, receipt_id: str) -> Sale | None:
        return self.receipts.get(receipt_id)


class InProcessTransport(httpx.AsyncBaseTransport):
    """Calls the sandbox on the same loop. Like a real server it goes on when its caller gave up."""

    def __init__(self, app: Sandbox) -> None:
        self._inner = httpx.ASGITransport(app=app)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        task = asyncio.ensure_future(self._inner.handle_async_request(request))
        task.add_done_callback(_ignore_result)
        try:
            return await asyncio.shield(task)
        except ConnectionCut:
            raise httpx.ReadError("cut") from None


def _ignore_result(task: asyncio.Future[httpx.Response]) -> None:
    """Ask for a call's error, so that asyncio does not log an answer that nobody waits for any more."""
    if not task.cancelled():
        task.exception()


def sale(
    receipt: str,
    *,
    closed: int,
    paid: int = 1000,
    refunded: int = 0,
    customer: str | None = "+380501110001",
    status: SaleStatus = SaleStatus.closed,
    version: int | None = None,
    redeem_codes: tuple[str, ...] = (),
) -> Sale:
    """Build a sale of the model till; `closed` in UTC microseconds, `customer` a phone."""
    at: datetime | None = moment(closed) if status is not SaleStatus.open else None
    return Sale(
        receipt_id=receipt,
        version=version,
        status=status,
        closed_at=at,
        paid=Money(paid, "UAH"),
        refunded=Money(refunded, "UAH"),
        customer=Customer(phone=customer) if customer else None,
        redeem_codes=redeem_codes,
    )


@dataclass
class VirtualInstallation:
    """A loop with its own time, a 7stamp on it, and a host that can be closed and opened again."""

    loop: VirtualLoop = field(default_factory=VirtualLoop)
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
    folder: tempfile.TemporaryDirectory[str] = field(init=False)
    clock: VirtualClock = field(init=False)
    sandbox: Sandbox = field(init=False)
    host: Host = field(init=False)
    url: str = ""

    def __post_init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(dir=FAST_DISK)
        self.clock = VirtualClock(self.loop)
        self.sandbox = Sandbox(goal=10**9, now=self.clock.seconds)

    def run(self, work: Awaitable[T]) -> T:
        """Run work on the virtual loop to its end."""
        return self.loop.run_until_complete(work)

    async def open(self) -> Host:
        """Open a host over the database, which stays where it is when a host is closed."""
        self.url = self.url or new_database(Path(self.folder.name))
        plugins = Plugins([])
        plugins.classes["model"] = ModelTill
        settings = Settings(
            database_url=self.url,
            sevenstamp_url="http://7stamp",
            allow_http=True,
            secret_key=SecretStr("a key that only tests use"),
        )
        self.host = Host(
            settings,
            plugins=plugins,
            clock=self.clock,
            inline=True,
            sevenstamp_transport=InProcessTransport(self.sandbox),
            till_transport=httpx.MockTransport(lambda _request: httpx.Response(500)),
        )
        await self.host.__aenter__()
        return self.host

    async def connect(self, rule: StampRule | None = None) -> str:
        """Connect the model till; return the connection's id."""
        chosen = rule or StampRule(unknown_customer=UnknownCustomer.issue)
        connection = await self.host.services.onboarding.connect("model", {}, KEY, lambda _account: chosen)
        return connection.id

    async def close_host(self) -> None:
        """Close the host."""
        await self.host.__aexit__()

    def end(self) -> None:
        """Close everything, and delete the database."""
        pending = asyncio.all_tasks(self.loop)
        for task in pending:
            task.cancel()
        if pending:
            self.run(asyncio.gather(*pending, return_exceptions=True))
        self.run(self.close_host())
        self.run(self.loop.shutdown_default_executor())
        self.loop.close()
        self.folder.cleanup()

    def stamps_by_phone(self) -> dict[str, int]:
        """Sum the stamps of each customer's card, from what was really applied."""
        signs = {"stamps_added": 1, "stamps_reversed": -1}
        totals: dict[str, int] = {}
        for operation in self.sandbox.state.operations:
            if operation["kind"] in signs:
                phone = self.sandbox.state.cards[operation["card_id"]].phone or ""
                totals[phone] = totals.get(phone, 0) + signs[operation["kind"]] * operation["count"]
        return {phone: stamps for phone, stamps in totals.items() if stamps}

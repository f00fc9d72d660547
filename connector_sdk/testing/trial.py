"""One behaviour under trial: a fresh stub, the connector over it, and every way in which a receipt can be seen.

Owns how the suite reads a till; what is demanded of it is `behaviours`'.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, NoReturn

import httpx

from connector_sdk.connector import Connector
from connector_sdk.hooks import Hints, Received, Sales
from connector_sdk.money import Money
from connector_sdk.sale import Checkpoint, Customer, Sale, SalePage, Unreadable
from connector_sdk.testing.stub import CannotShow, Sold, TillStub

_NEVER = datetime.fromtimestamp(0, UTC)


class Level(StrEnum):
    required = "required"
    recommended = "recommended"


class Broken(AssertionError):
    """The connector does not behave as demanded; the text says how."""


class NotAsked(Exception):
    """The connector does not claim the ability that this behaviour is about."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One promise of a connector: what it guards against, and how to mend a connector that breaks it."""

    name: str
    title: str
    level: Level
    guards: str
    fix: str
    run: Callable[[Trial], Awaitable[None]] = field(repr=False, compare=False)


@dataclass(slots=True)
class Reading:
    """Everything that one read yielded, in its order; `began` is a moment before its first call."""

    began: datetime
    sales: list[Sale] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    promised: list[tuple[datetime, int]] = field(default_factory=list)
    """Each checkpoint's time, and how many sales had been yielded by then."""

    asked: datetime = _NEVER
    """When the till was first asked."""

    @property
    def ids(self) -> list[str]:
        return [sale.receipt_id for sale in self.sales]

    @property
    def also(self) -> str:
        """What could not be read, as the end of a sentence: often the real cause."""
        if not self.unreadable:
            return ""
        first = self.unreadable[0]
        return f"; {len(self.unreadable)} could not be read: {first.where}: {first.why}"


class _Slow(httpx.AsyncBaseTransport):
    """A till that thinks before it answers; `asked` is when it was first asked."""

    def __init__(self, inner: httpx.AsyncBaseTransport, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self.asked: datetime | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked = self.asked or datetime.now(UTC)
        await asyncio.sleep(self._seconds)
        return await self._inner.handle_async_request(request)


def demand(condition: object, text: str) -> None:
    """Raises `Broken` with a sentence."""
    if not condition:
        raise Broken(text)


def fail(text: str) -> NoReturn:
    raise Broken(text)


class Trial:
    """What a behaviour works with."""

    def __init__(self, stub: TillStub) -> None:
        self.stub = stub
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.slow = 0.0
        """Seconds for which the till thinks before each answer."""
        self._slow: _Slow | None = None
        self._made: list[Connector[Any]] = []

    def build(self, settings: Mapping[str, str] | None = None, account: Any = None) -> Connector[Any]:
        """A connector over the stub."""
        found = self.stub.connector
        values = found.settings_model.model_validate(dict(settings or self.stub.settings()))
        transport = self.stub.transport()
        if self.slow:
            transport = self._slow = _Slow(transport, self.slow)
        made = found(values, app=self.stub.app(), account=account, transport=transport)
        self._made.append(made)
        return made

    async def till(self) -> Connector[Any]:
        """The connector, joined to the account that it finds."""
        return self.build(account=await self.build().check())

    async def aclose(self) -> None:
        for one in self._made:
            with suppress(Exception):
                await one.aclose()

    def needs(self, *abilities: str) -> None:
        """Raises `NotAsked` where the connector claims none of these."""
        if not any(self.stub.connector.can(one) for one in abilities):
            raise NotAsked(" or ".join(abilities))

    def money(self, minor: int) -> Money:
        return Money(minor, self.stub.currency)

    def sell(
        self,
        minor: int = 1250,
        *,
        ago: timedelta = timedelta(hours=2),
        at: datetime | None = None,
        customer: Customer | None = None,
        tip: int | None = None,
        redeem_code: str | None = None,
        open: bool = False,  # noqa: A002 - the field's word
    ) -> str:
        """A receipt of some time ago; its id."""
        paid_tip = self.money(tip) if tip is not None else None
        when = at if at is not None else self.now - ago
        return self.stub.sell(Sold(self.money(minor), when, customer, paid_tip, redeem_code, open))

    # --- seeing -----------------------------------------------------------------------------------------------

    async def read(self, way: str = "", since: datetime | None = None, till: Connector[Any] | None = None) -> Reading:
        """One whole read, by `poll` or `look_back` (the thorough one where there is one)."""
        chosen = way or ("look_back" if self.stub.connector.can("look_back") else "poll")
        one = till or await self.till()
        start = since or self.now - timedelta(days=2)
        reading = Reading(datetime.now(UTC))
        if self._slow is not None:
            self._slow.asked = None
        pages: AsyncIterator[SalePage]
        pages = one.poll(Checkpoint(at=start)) if chosen == "poll" else one.look_back(start)
        async for page in pages:
            reading.sales.extend(page.sales)
            reading.unreadable.extend(page.unreadable)
            if page.checkpoint is not None:
                reading.promised.append((page.checkpoint.at, len(reading.sales)))
        reading.asked = (self._slow.asked if self._slow is not None else None) or reading.began
        return reading

    def reads(self) -> list[str]:
        """The reads that the connector has. Raises `NotAsked` where there is none."""
        found = [one for one in ("poll", "look_back") if self.stub.connector.can(one)]
        if not found:
            raise NotAsked("poll or look_back")
        return found

    async def received(self, receipt_id: str) -> Received:
        """What the connector makes of the till's hook about a receipt."""
        one = await self.till()
        hook = self.stub.hook(receipt_id)
        one.prove(hook)
        return one.receive(hook)

    async def seen(self, receipt_id: str) -> dict[str, Sale]:
        """The receipt by every way in which it can be seen now; at least one."""
        found: dict[str, Sale] = {}
        can = self.stub.connector.can
        for way in ("poll", "look_back"):
            if can(way):
                for sale in (await self.read(way)).sales:
                    if sale.receipt_id == receipt_id:
                        found[way] = sale
        if can("fetch"):
            sale_now = await (await self.till()).fetch(receipt_id)
            if sale_now is not None:
                found["fetch"] = sale_now
        if can("receive"):
            with suppress(CannotShow):
                received = await self.received(receipt_id)
                if isinstance(received, Sales):
                    found.update(("receive", sale) for sale in received.sales if sale.receipt_id == receipt_id)
                elif not isinstance(received, Hints):
                    fail(f"receive says {type(received).__name__} of the receipt's hook")
        demand(found, "the receipt is seen in no way at all")
        return found

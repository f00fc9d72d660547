"""Try one behaviour: a fresh stub, the connector over it, and every method by which a receipt can be read.

Owns how the suite drives and reads a till; `behaviours` owns what is demanded of it.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import NamedTuple, NoReturn

import httpx
from pydantic import BaseModel

from connector_sdk.authorisation import Consent, Credentials, Grant, OAuth, Returned
from connector_sdk.connector import Connector, HookAddress, TillAccount
from connector_sdk.errors import NotAuthorised
from connector_sdk.hooks import Answer, Hints, HookRequest, Received, Sales
from connector_sdk.money import Money
from connector_sdk.sale import Customer, Sale, SalePage, Unreadable
from connector_sdk.testing.stub import CannotShow, Sold, SoldLine, TillStub

REDIRECT_URI = "https://host.test/connect/return"
"""Where the suite's browser comes back from a consent page."""
HOOK_ADDRESS = "https://host.test/hooks/tills/a-token"
"""The address that a till is told which can be told one."""
READ_METHODS = ("poll", "history")
"""The methods of a connector that yield pages."""


class Level(StrEnum):
    """How much a behaviour counts."""

    # a connector that does not show it does not conform
    required = "required"
    # reported, and counted apart: a connector conforms without it
    recommended = "recommended"


class Broken(AssertionError):
    """The connector does not behave as demanded; the text says how."""


class NotAsked(Exception):
    """The connector does not claim the ability that this behaviour is about; the text names the ability."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One promise of a connector: what it guards against, and how to mend a connector that breaks it.

    `run` raises `Broken` where the connector breaks it, `NotAsked` where it does not claim the ability, and
    `CannotShow` where the stub cannot do what it takes.
    """

    name: str
    title: str
    level: Level
    guards: str
    fix: str
    run: Callable[[Trial], Awaitable[None]] = field(repr=False, compare=False)


class Promise(NamedTuple):
    """A checkpoint that a read yielded: its time, and how many sales had been yielded by then."""

    at: datetime
    yielded: int


@dataclass(slots=True)
class Reading:
    """Everything that one read yielded, in its order; `asked` is when the till was first called, or just before."""

    asked: datetime
    sales: list[Sale] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    promises: list[Promise] = field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        """The ids of the sales, in the order in which they were yielded."""
        return [sale.receipt_id for sale in self.sales]

    @property
    def also(self) -> str:
        """The receipts that could not be read, as the end of a sentence: often they are the real cause."""
        if not self.unreadable:
            return ""
        first = self.unreadable[0]
        return f"; {len(self.unreadable)} could not be read: {first.where}: {first.why}"

    def add(self, page: SalePage) -> None:
        """Add one page, and note how much had been yielded at its checkpoint."""
        self.sales.extend(page.sales)
        self.unreadable.extend(page.unreadable)
        if page.complete_until is not None:
            self.promises.append(Promise(page.complete_until, len(self.sales)))


class _SlowTransport(httpx.AsyncBaseTransport):
    """Waits before each request, as a slow till does; `asked` is when the first one came."""

    def __init__(self, inner: httpx.AsyncBaseTransport, seconds: float) -> None:
        self._inner = inner
        self._seconds = seconds
        self.asked: datetime | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked = self.asked or datetime.now(UTC)
        await asyncio.sleep(self._seconds)
        return await self._inner.handle_async_request(request)


def demand(condition: object, text: str) -> None:
    """Raise `Broken` with a sentence where the condition is false."""
    if not condition:
        raise Broken(text)


def fail(text: str) -> NoReturn:
    """Raise `Broken` with a sentence."""
    raise Broken(text)


class StubCredentials(Credentials):
    """Renews a grant at the stub with the connector's own `refresh`, once for each that is refused; counts renewals."""

    def __init__(self, stub: TillStub, grant: Grant) -> None:
        super().__init__(grant)
        self._stub = stub
        self.renewals = 0

    async def renew(self, refused: Grant) -> Grant:
        """Trade the refused grant for the next, where the connector can."""
        if self._grant is refused:
            ways = self._stub.connector.authorisation
            oauth = next((way for way in ways if isinstance(way, OAuth)), None)
            if oauth is None or oauth.refresh is None:
                raise NotAuthorised("the connector does not renew grants")
            self._grant = await oauth.refresh(self._stub.app(), refused, self._stub.transport())
            self.renewals += 1
        return self._grant


class Trial:
    """The stub and the connector with which one behaviour works.

    `now` is the moment at which the trial began, to the second. `answer_delay`, in seconds, makes connectors that are
    built from then on wait for every answer.
    """

    def __init__(self, stub: TillStub) -> None:
        self.stub = stub
        """The till."""
        # whole seconds: some tills know no finer ones, and `closed_at` is compared with what was sold
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.answer_delay = 0.0
        self.sold: list[str] = []
        """The ids of all receipts that were sold in this trial."""
        self._slow_transport: _SlowTransport | None = None
        self._connectors: list[Connector[BaseModel]] = []

    def build(
        self,
        settings: Mapping[str, str] | None = None,
        account: TillAccount | None = None,
        credentials: Credentials | None = None,
    ) -> Connector[BaseModel]:
        """Build a connector over the stub, with the stub's own settings and grant by default."""
        connector_class = self.stub.connector
        model = connector_class.settings_model.model_validate(dict(settings or self.stub.settings()))
        transport = self.stub.transport()
        if self.answer_delay:
            transport = self._slow_transport = _SlowTransport(transport, self.answer_delay)
        if credentials is None and settings is None and (grant := self.stub.grant()) is not None:
            credentials = StubCredentials(self.stub, grant)
        connector = connector_class(
            model, app=self.stub.app(), account=account, credentials=credentials, transport=transport
        )
        self._connectors.append(connector)
        return connector

    async def connect(self, credentials: Credentials | None = None) -> Connector[BaseModel]:
        """Build a connector that is joined to the account of its own `check`."""
        # two instances, as in the host: `check` runs before there is an account, and all else with it
        account = await self.build(credentials=credentials).check()
        return self.build(account=account, credentials=credentials)

    async def hook_reader(self) -> Connector[BaseModel]:
        """Build a connector as the host's workers do for hooks: with settings, app, account and `hook_key` alone.

        Where the connector can, the till is told the address first, and once more: that must change nothing.
        """
        connected = await self.connect()
        key = None
        if self.can("subscribe"):
            for _ in range(2):
                key = await connected.subscribe(HOOK_ADDRESS) or key
        reader = self.stub.connector(connected.settings, app=connected.app, account=connected.account)
        self._connectors.append(reader)
        reader.hook_key = key
        return reader

    def oauth(self) -> OAuth:
        """Return the connector's consent page. Raises `NotAsked` where it has none."""
        for way in self.stub.connector.authorisation:
            if isinstance(way, OAuth):
                return way
        raise NotAsked("consent page")

    async def consent(self) -> Grant:
        """Go to the till's consent page and trade what comes back, as the host does, by its redirect address."""
        oauth, app = self.oauth(), self.stub.app()
        verifier, state = secrets.token_urlsafe(48), secrets.token_urlsafe(24)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
        url = oauth.authorise_url(app, Consent(REDIRECT_URI, state, challenge))
        query = self.stub.consent(url)
        demand(query.get("state") == state, "the state does not come back: put it into the address of the consent page")
        grant = await oauth.exchange(app, Returned(query, REDIRECT_URI, verifier), self.stub.transport())
        demand(isinstance(grant, Grant), "exchange returns no Grant")
        return grant

    async def aclose(self) -> None:
        """Close every connector that was built; what they raise then is no part of any behaviour."""
        for connector in self._connectors:
            with suppress(Exception):
                await connector.aclose()

    def can(self, ability: str) -> bool:
        """Tell whether the connector implements an optional method."""
        return self.stub.connector.can(ability)

    def require(self, ability: str) -> None:
        """Raise `NotAsked` where the connector does not implement an optional method."""
        if not self.can(ability):
            raise NotAsked(ability)

    def money(self, minor: int) -> Money:
        """Return an amount in minor units of the stub's currency."""
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
        lines: tuple[SoldLine, ...] = (),
        by_gift_card: int | None = None,
        by_points: int | None = None,
        gift_card_bought: int | None = None,
        location_id: str | None = None,
    ) -> str:
        """Let the stub sell for `minor` units, closed `at` a moment or some time `ago`; return the receipt's id."""
        receipt = self.stub.sell(
            Sold(
                self.money(minor),
                at if at is not None else self.now - ago,
                customer,
                self._money_or_none(tip),
                redeem_code,
                open,
                lines,
                self._money_or_none(by_gift_card),
                self._money_or_none(by_points),
                self._money_or_none(gift_card_bought),
                location_id,
            )
        )
        self.sold.append(receipt)
        return receipt

    def _money_or_none(self, minor: int | None) -> Money | None:
        return self.money(minor) if minor is not None else None

    # --- reading ------------------------------------------------------------------------------------------------------

    def read_methods(self) -> list[str]:
        """Return the methods by which the connector reads pages. Raises `NotAsked` where it has none."""
        methods = [method for method in READ_METHODS if self.can(method)]
        if not methods:
            raise NotAsked("poll or history")
        return methods

    async def read(
        self, method: str, since: datetime | None = None, connector: Connector[BaseModel] | None = None
    ) -> Reading:
        """Read all pages by `poll` or `history`, of the last two days by default."""
        connector = connector or await self.connect()
        since = since or self.now - timedelta(days=2)
        if self._slow_transport is not None:
            self._slow_transport.asked = None  # `connect` has called the till already, for `check`
        reading = Reading(datetime.now(UTC))
        pages = connector.poll(since) if method == "poll" else connector.history(since)
        async for page in pages:
            reading.add(page)
        if self._slow_transport is not None and self._slow_transport.asked is not None:
            reading.asked = self._slow_transport.asked
        return reading

    async def receive_hook(self, receipt_id: str) -> Received:
        """Let the connector verify and parse the till's hook about a receipt."""
        connector = await self.hook_reader()
        hook = self.stub.hook(receipt_id)
        self.prove(connector, hook)
        return connector.receive(hook)

    def prove(self, connector: Connector[BaseModel], hook: HookRequest) -> None:
        """Prove a hook as the host does: in `route` where one address serves all accounts, and in `prove` elsewhere.

        Raises what those raise, and `Broken` where a proven hook is routed to another account.
        """
        if connector.info.hook_address is not HookAddress.operator:
            connector.prove(hook)
            return
        routed = type(connector).route(connector.app, hook)
        if isinstance(routed, Answer):
            fail("route answers a receipt's hook at once, so that nobody learns of the receipt")
        account = connector.account
        demand(routed.id == account.id, "route names another account than `check` does")
        named = routed.hook_name is None or routed.hook_name == account.hook_name
        demand(named, "route names the account by another name than `check` does (`hook_name`)")

    async def read_by_each_method(self, receipt_id: str) -> dict[str, Sale]:
        """Read a receipt by every method of the connector, and return the sales by method.

        Methods that do not show the receipt are left out; raises `Broken` where none shows it.
        """
        sales: dict[str, Sale] = {}
        for method in READ_METHODS:
            if self.can(method):
                reading = await self.read(method)
                # a receipt may come twice in one read: as the host does, believe the last
                sales.update((method, sale) for sale in reading.sales if sale.receipt_id == receipt_id)
        if self.can("fetch") and (fetched := await (await self.connect()).fetch(receipt_id)) is not None:
            sales["fetch"] = fetched
        if self.can("receive"):
            with suppress(CannotShow):
                sales |= await self._read_by_hook(receipt_id)
        demand(sales, "the receipt is seen in no way at all")
        return sales

    async def _read_by_hook(self, receipt_id: str) -> dict[str, Sale]:
        """Read a receipt from its hook; nothing where the hook is thin."""
        match await self.receive_hook(receipt_id):
            case Sales(sales):
                versions = [sale for sale in sales if sale.receipt_id == receipt_id]
                return {"receive": versions[-1]} if versions else {}
            case Hints():
                return {}
            case received:
                fail(f"receive says {type(received).__name__} of the receipt's hook")

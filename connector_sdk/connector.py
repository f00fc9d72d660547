"""The interface between one till and the host: subclass `Connector`, describe it with `ConnectorInfo`.

Owns what a connector declares and which of its methods a till supports; finding and running connectors is the
host's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar, Generic, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo

import httpx
from pydantic import AfterValidator, BaseModel, Field, SecretStr, StringConstraints
from pydantic_settings import BaseSettings

from connector_sdk.authorisation import Credentials, OAuth, OperatorSettings, Token
from connector_sdk.errors import NotSupported
from connector_sdk.hooks import Account, Answer, HookRequest, Received
from connector_sdk.index import Index, MemoryIndex
from connector_sdk.loyalty import LoyaltyEvent
from connector_sdk.sale import Customer, Frozen, Key, Sale, SalePage
from connector_sdk.teaching import ReadyMade, Teaching

# Covariant, so that every `Connector[MySettings]` is a `Connector[BaseModel]`: code that serves all tills names that.
Settings_co = TypeVar("Settings_co", bound=BaseModel, covariant=True)


class HookAddress(StrEnum):
    """Who tells the till where to post its hooks."""

    # the till posts no hooks, or none that we use
    nobody = "nobody"
    # the operator enters one address in the till's developer account, for all cafes: `Connector.route` tells them apart
    operator = "operator"
    # each cafe enters its connection's own address, which holds a token, in its till's admin
    connection = "connection"


@dataclass(frozen=True, slots=True)
class ConnectorInfo:
    """Describe a connector for its tile in the catalogue.

    `name` is part of addresses and codes: 2 to 32 lower-case letters and digits. `title`, `summary` and `needs` (what a
    cafe must have at hand) are sentences for a cafe, `minutes` is how long it takes to connect, `hook_address` is who
    tells the till where to post.
    """

    name: str
    title: str
    summary: str = ""
    needs: str = ""
    minutes: int = 2
    hook_address: HookAddress = HookAddress.nobody
    sandbox: str | None = None
    """Import path `module:Class` of a `connector_sdk.sandbox.TillSandbox`, a stand-in till."""
    attach_customer: str = ""
    """How a cashier attaches the customer to a receipt, in a sentence for a cafe."""
    for_categories: Mapping[str, str] = field(default_factory=dict)
    """The settings without which a receipt's lines carry no categories: a rule by category needs them."""
    hook_steps: tuple[str, ...] = ()
    """The steps in the till's admin that set the hook address, a sentence each."""
    stub: str | None = None
    """Import path `module:Class` of a `connector_sdk.testing.TillStub`, on which the conformance suite runs."""
    caution: str = ""
    """A warning that a cafe reads before it relies on this connector, in a sentence; empty where there is none."""
    named_by_account: bool = False
    """Whether the account's name alone names a connection: this connector's title would say nothing of the till."""
    needs_without_sign_in: str = ""
    """What a cafe needs instead where the operator has no application at the till, so that nobody is sent to sign in
    there; the same as `needs` where it is empty."""
    mark: str = ""
    """What is drawn beside the title: the data of an SVG path (its `d`) in a square of 24 by 24 units, at most 1,000
    characters. It is drawn as a line in the console's colours; without one the title's first letter stands there.
    Raises `ValueError` where it is anything else."""

    def __post_init__(self) -> None:
        """Refuse a mark that is no path's data: pages show it as it is."""
        if len(self.mark) > _LONGEST_MARK or not set(self.mark) <= _OF_A_PATH:
            raise ValueError("mark is the data of an SVG path, at most 1,000 characters, and nothing else")


_LONGEST_MARK = 1000
_OF_A_PATH = frozenset("MmZzLlHhVvCcSsQqTtAaEe0123456789+-., ")


def _known_zone(zone: str) -> str:
    try:
        ZoneInfo(zone)
    # `KeyError` for an unknown name, `ValueError` for a path, `OSError` for the name of a folder ("Europe")
    except (KeyError, ValueError, OSError) as error:
        raise ValueError("not an IANA time zone") from error
    return zone


Zone = Annotated[str, AfterValidator(_known_zone)]
"""The name of a time zone, as IANA has it: `Europe/Helsinki`."""


class Location(Frozen):
    """One venue of a till account; `zone` is its time zone where that may differ from the account's."""

    id: Key
    name: str
    zone: Zone | None = None


class TillAccount(Frozen):
    """A till account, as `Connector.check` reads it from the till.

    `id` is the till's own and never changes: the host remembers by it which stamps were given. `currency` is ISO 4217,
    `zone` an IANA time zone, `country` ISO 3166 alpha-2 or `None`. `hook_name` is the name by which the till's hooks
    call the account where that is not the id; the host compares it with what `route` says.
    """

    id: Key
    name: str
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    zone: Zone
    country: str | None = None
    # far more than any chain has; a bound, because each becomes a row of a form
    locations: tuple[Location, ...] = Field(default=(), max_length=5000)
    hook_name: Annotated[str, StringConstraints(max_length=128)] | None = None

    def zone_of(self, location_id: str | None) -> str:
        """Return the time zone of a venue: its own, or the account's where it has none or is not listed."""
        return next((venue.zone for venue in self.locations if venue.id == location_id and venue.zone), self.zone)


class MenuItem(Frozen):
    """A product of the till's menu, with its category, for rules by item.

    Its ids are those that the lines of a `Sale` carry.
    """

    product_id: Key
    name: str
    category_id: Key | None = None
    category_name: str | None = None


class Connector(ABC, Generic[Settings_co]):
    """One till account, reached with one connection's settings.

    Implement what the till can do; the base class raises `NotSupported` for the rest and the host adapts. Instances
    live as long as the connection is used and are called concurrently. `account` is the account that `check` returned
    when the cafe connected.

    A class defines `info`; its type parameter becomes `settings_model`, whose fields make the form. `app_model` models
    what the operator sets once for all accounts (the connector receives an instance as `app`), `authorisation` lists
    the ways in which a cafe grants access, `hook_answer` is what the till reads once a hook is stored, `ready_made`
    lists settings to begin with. HTTP calls go through `transport`, which the host or a test passes in.
    """

    info: ClassVar[ConnectorInfo]
    settings_model: ClassVar[type[BaseModel]]
    app_model: ClassVar[type[BaseSettings] | None] = None
    authorisation: ClassVar[tuple[Token | OAuth, ...]] = ()
    hook_answer: ClassVar[Answer] = Answer()
    poll_sees_every_change: ClassVar[bool] = False
    """`True` where `poll` also yields what was refunded, voided or delivered late: `history` is then read once a day,
    and not every hour."""
    ready_made: ClassVar[tuple[ReadyMade, ...]] = ()
    quick_up_to: ClassVar[int] = 0
    """The largest hook body, in bytes, for which `route`, `prove` and `receive` surely take well under a millisecond.
    For such hooks the host calls them in its own thread, of connectors that it ships; others run in a worker."""
    teaching: ClassVar[Teaching | None] = None
    """How this connector learns from a request of the till where its values are; `None` where it cannot learn."""

    index: Index
    """What the connector notes of its till, where that cannot be asked: of this account, on the host's disk."""
    hook_key: SecretStr | None
    """The key that `subscribe` returned, kept encrypted by the host; `None` before, and where there is none."""

    def __init__(
        self,
        settings: Settings_co,
        *,
        app: OperatorSettings = None,
        account: TillAccount | None = None,
        credentials: Credentials | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings
        self.app = app
        self._account = account
        self.credentials = credentials
        """What the till's consent page granted, kept and renewed by the host; `None` where a token was pasted."""
        self.index = MemoryIndex()
        self.hook_key = None
        self.transport = transport

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        # `__orig_bases__` still holds the type argument, so an author names the settings once: `Connector[MySettings]`.
        # An argument that is no class is a type variable, of a base class that is generic itself.
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Connector and isinstance(get_args(base)[0], type):
                cls.settings_model = get_args(base)[0]

    @property
    def account(self) -> TillAccount:
        """The account to which this connection is joined. Raises `RuntimeError` before `check` has been called."""
        if self._account is None:
            raise RuntimeError("this connector has no account yet: the host calls check() first")
        return self._account

    @property
    def account_id(self) -> str | None:
        """The id of the account to which this connection is joined; `None` before `check` has been called."""
        return self._account.id if self._account is not None else None

    @classmethod
    def can(cls, ability: str) -> bool:
        """Tell whether this connector implements an optional method (`"poll"`, `"fetch"`, …)."""
        # asked of the class, so that the host knows it before there is an instance, and without calling anything
        return getattr(cls, ability) is not getattr(Connector, ability)

    @classmethod
    def offered(cls, app: OperatorSettings) -> bool:
        """Tell whether the operator has set what every connection needs; the catalogue shows no other tiles."""
        return True

    @classmethod
    def route(cls, app: OperatorSettings, hook: HookRequest) -> Account | Answer:
        """Verify a hook sent to the one address of all accounts and return whose it is, or an immediate answer.

        Raises `Forged`, `NotConfigured`, or `BadPayload` where the hook cannot be understood.
        """
        raise NotSupported("this till has an address per connection")

    @classmethod
    def caller(cls, app: OperatorSettings, request: HookRequest) -> Account | None:
        """Verify a request that the till's own screen makes of the host, and return whose it is.

        For tills that sign what an application on their screen asks; `None` where the request carries no signature of
        this till's. Raises `Forged` or `NotConfigured`.
        """
        return None

    @abstractmethod
    async def check(self) -> TillAccount:
        """Read the account that the settings open. Raises `NotAuthorised` or `MissingRight`."""

    def poll(self, since: datetime) -> AsyncIterator[SalePage]:
        """Yield pages of closed sales changed at or after `since` (aware): the fast read.

        The last page says in `complete_until` up to when the read is complete: the time before its first call. After a
        failure no page says so. Raises `NotAuthorised`, `RateLimited` or `TillUnavailable`; a failure is never an empty
        page.
        """
        raise NotSupported("this till cannot be polled")

    def history(self, since: datetime) -> AsyncIterator[SalePage]:
        """Yield pages of all sales of whole days, late, refunded and removed receipts included: thorough.

        `since` is a midnight of the account's zone, or the beginning of a backfill. Calls `poll` by default.
        """
        return self.poll(since)

    async def fetch(self, receipt_id: str) -> Sale | None:
        """Read one receipt as it is now; `None` where the till knows no receipt of that id."""
        raise NotSupported("this till cannot be asked for one receipt")

    async def customer(self, till_id: str) -> Customer | None:
        """Resolve the till's own customer id to a phone, email or number; `None` where the till knows no such id."""
        raise NotSupported("this till names no customers")

    def prove(self, hook: HookRequest) -> None:
        """Verify, in constant time, that a hook comes from the till. Raises `Forged`, `NotConfigured` or `BadPayload`.

        The host calls this before `receive`, and stores nothing of a hook for which it raises; perhaps in a worker,
        where the connector has `settings`, `app`, `account` and `hook_key`, and neither `credentials` nor an `index`.
        """
        raise NotSupported("this till sends no hooks")

    def receive(self, hook: HookRequest) -> Received:
        """Parse a verified hook. A pure function of its body: the host may call it again later, without headers.

        Raises `BadPayload`: the host stores the hook for a person.
        """
        raise NotSupported("this till sends no hooks")

    async def menu(self) -> list[MenuItem]:
        """Read the till's products and categories, each by id and name."""
        raise NotSupported("this till has no menu to read")

    async def subscribe(self, address: str) -> SecretStr | None:
        """Have the till post its hooks to this connection's address; the same address again changes nothing.

        Returns the key with which the till signs them, where its answer names one: `hook_key` from then on. `None`
        leaves the key of this address as it is. The host calls it when a connection begins, when its address or public
        name changes, and once a day.
        """
        raise NotSupported("this till's hooks are set in its admin")

    async def unsubscribe(self, address: str) -> None:
        """Have the till post no more hooks to an address; one that it does not know is no error.

        The host calls it when a connection ends, and for the former address once the till was told another.
        """
        raise NotSupported("this till's hooks are set in its admin")

    async def on_loyalty_event(self, event: LoyaltyEvent) -> None:
        """Act on something that happened to a card at 7stamp: show progress at the till, or a voucher.

        The host calls it for every event of the business, once or more often, after what the event settles is written
        down. What it raises is tried again with growing pauses for some hours; it has ten seconds, and stamps never
        wait for it.
        """
        raise NotSupported("this till shows nothing of 7stamp")

    async def leave(self) -> None:
        """Take away what `on_loyalty_event` has shown at the till: the connection ends.

        The host calls it once, with half a minute for it, while the till still lets us in.
        """
        raise NotSupported("this till shows nothing of 7stamp")

    async def aclose(self) -> None:
        """Release the connections that the instance holds open; nothing by default."""
        return

"""The face a till shows the host: subclass `Connector`, describe it with `ConnectorInfo`.

Owns what a connector declares and which of its methods a till supports; finding and running connectors is the
host's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, ClassVar, Generic, TypeVar, get_args, get_origin
from zoneinfo import ZoneInfo

import httpx
from pydantic import BaseModel, Field, SecretStr, StringConstraints, field_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from connector_sdk.errors import NotSupported
from connector_sdk.hooks import Account, Answer, HookRequest, Received
from connector_sdk.sale import Checkpoint, Customer, Frozen, Key, Sale, SalePage
from connector_sdk.teaching import Teaching

S = TypeVar("S", bound=BaseModel)


class HookAddress(StrEnum):
    """Who tells the till where to post: nobody, the operator once for all cafes, or each connection."""

    nobody = "nobody"
    operator = "operator"
    connection = "connection"


@dataclass(frozen=True, slots=True)
class Token:
    """A secret that a cafe finds in its till's admin and pastes; `where_to_find` is a sentence for a cafe."""

    field: str
    where_to_find: str


@dataclass(frozen=True, slots=True)
class OAuth:
    """A till's own consent page. The host owns state, storage and refresh; the connector builds and trades.

    `authorise_url(app, redirect_uri)` is where the browser goes; `exchange(app, returned, redirect_uri)` trades
    the query of its return for settings; `refresh(app, settings)`, where the till has it, for newer ones.
    All raise `NotConfigured` where the operator has not set what they need, `exchange` also `NotAuthorised` with
    the till's own reason. `lives` is how long what it gives is good for, where that is known.
    """

    authorise_url: Callable[[Any, str], str]
    exchange: Callable[[Any, Mapping[str, str], str], Awaitable[Mapping[str, SecretStr]]]
    refresh: Callable[[Any, Mapping[str, SecretStr]], Awaitable[Mapping[str, SecretStr]]] | None = None
    lives: timedelta | None = None


@dataclass(frozen=True, slots=True)
class ConnectorInfo:
    """The tile in the catalogue. `name` is part of addresses and codes: 2 to 32 lower-case letters and digits.

    `title`, `summary` and `needs` (what a cafe must have at hand) are sentences for a cafe, `minutes` how long it takes
    to connect, `hook_address` who tells the till where to post.
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
    """The settings that a rule by category needs, where a receipt's lines carry their categories only then."""
    hook_steps: tuple[str, ...] = ()
    """What whoever sets the hook address ticks and presses there, a sentence each."""
    stub: str | None = None
    """Import path `module:Class` of a `connector_sdk.testing.TillStub`, on which the conformance suite runs."""
    caution: str = ""
    """What a cafe should know before it relies on this connector, in a sentence; empty where there is nothing."""


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """Settings that fit one kind of till, with a sample of what it sends; `source` names where its fields are from."""

    name: str
    title: str
    settings: Mapping[str, str]
    sample: bytes = field(repr=False)
    source: str
    steps: tuple[str, ...] = ()
    """What a cafe does in that till's admin, a sentence each."""


FIRST: Mapping[str, Any] = {"first": True}
"""For an optional settings field (`json_schema_extra`) that most cafes need: it is not folded away in the form."""

TAUGHT: Mapping[str, Any] = {"taught": True}
"""For a settings field that says where something is in what the till sends: taught by a request, seldom typed."""


CHOSEN: Mapping[str, Any] = {"chosen": True}
"""For a secret that the cafe makes up: one that is easily guessed is refused when it is set."""


def marked(info: FieldInfo, mark: Mapping[str, Any]) -> bool:
    """Whether a settings field has a mark: `FIRST`, `TAUGHT` or `CHOSEN`."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and mark.items() <= extra.items()


class Location(Frozen):
    """One venue of a till account."""

    id: Key
    name: str


class TillAccount(Frozen):
    """A till account as `check` found it.

    `id` is the till's and never changes: what was given is remembered by it.
    `currency` is ISO 4217, `zone` an IANA time zone, `country` ISO 3166 alpha-2 or `None`.
    `hook_name` is what the till's hooks call the account where that is not the id; `prove` compares it.
    """

    id: Key
    name: str
    currency: Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
    zone: str
    country: str | None = None
    locations: tuple[Location, ...] = Field(default=(), max_length=5000)
    hook_name: Annotated[str, StringConstraints(max_length=128)] | None = None

    @field_validator("zone")
    @classmethod
    def _known_zone(cls, zone: str) -> str:
        try:
            ZoneInfo(zone)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError("not an IANA time zone") from error
        return zone


class MenuItem(Frozen):
    """A product by id and name, with its category, for rules by item; ids as the lines of a `Sale` have them."""

    product_id: Key
    name: str
    category_id: Key | None = None
    category_name: str | None = None


class Connector(ABC, Generic[S]):
    """One till account, through one connection's settings.

    Implement what the till can do; the rest says `NotSupported` and the host adapts. Instances live as long as
    the connection is used and are called concurrently. `account` is what `check` found when the cafe connected.

    A class says `info`; its type parameter becomes `settings_model`, whose fields make the form. `app_model` is what
    the operator sets once for all accounts (an instance is handed to the connector as `app`), `authorisation` how a
    cafe lets us in, `hook_answer` what the till reads once a hook is kept, `ready_made` settings to begin with.
    HTTP calls go through `transport`, which the host or a test hands in.
    """

    info: ClassVar[ConnectorInfo]
    settings_model: ClassVar[type[BaseModel]]
    app_model: ClassVar[type[BaseSettings] | None] = None
    authorisation: ClassVar[tuple[Token | OAuth, ...]] = ()
    hook_answer: ClassVar[Answer] = Answer()
    ready_made: ClassVar[tuple[ReadyMade, ...]] = ()
    quick_up_to: ClassVar[int] = 0
    """Up to how many bytes of a hook's body `route`, `prove` and `receive` surely take well under a millisecond. The
    host calls them itself for such hooks, and believes only connectors that come with it; others run in a worker."""
    teaching: ClassVar[Teaching | None] = None
    """How this connector learns from a request of the till where things are in it, where it can."""

    def __init__(
        self,
        settings: S,
        *,
        app: Any = None,
        account: TillAccount | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings
        self.app = app
        self._account = account
        self.transport = transport

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in getattr(cls, "__orig_bases__", ()):
            if get_origin(base) is Connector and isinstance(get_args(base)[0], type):
                cls.settings_model = get_args(base)[0]

    @property
    def account(self) -> TillAccount:
        """The account this connection is joined to; before `check` there is none and this raises."""
        if self._account is None:
            raise RuntimeError("this connector has no account yet: the host calls check() first")
        return self._account

    @classmethod
    def can(cls, ability: str) -> bool:
        """Whether this till implements an optional method (`"poll"`, `"fetch"`, …)."""
        return getattr(cls, ability) is not getattr(Connector, ability)

    @classmethod
    def offered(cls, app: Any) -> bool:
        """Whether the operator has set what no connection can do without; the catalogue shows no other tiles."""
        return True

    @classmethod
    def route(cls, app: Any, hook: HookRequest) -> Account | Answer:
        """Verify a hook sent to the one address of all accounts and say whose it is, or answer it at once.

        Raises `Forged`, `NotConfigured`, or `BadPayload` where it cannot be understood.
        """
        raise NotSupported("this till has an address per connection")

    @abstractmethod
    async def check(self) -> TillAccount:
        """Which account the settings open. Raises `NotAuthorised` or `MissingRight`."""

    def poll(self, since: Checkpoint | None) -> AsyncIterator[SalePage]:
        """The fast read: closed sales changed at or after `since.at`, or since now where there is none.

        An asynchronous generator of pages. After the last one yield a `Checkpoint` whose `at` was taken before the
        first call; after a failure none. Raises `NotAuthorised`, `RateLimited` or `TillUnavailable`; a failure is
        never an empty page.
        """
        raise NotSupported("this till cannot be polled")

    def look_back(self, since: datetime) -> AsyncIterator[SalePage]:
        """The thorough read of whole days: late, refunded and removed receipts too. By default, `poll`.

        `since` is a midnight of the account's zone, or the beginning of a backfill.
        """
        return self.poll(Checkpoint(at=since))

    async def fetch(self, receipt_id: str) -> Sale | None:
        """One receipt as it is now; `None` where the till knows none of that id."""
        raise NotSupported("this till cannot be asked for one receipt")

    async def customer(self, till_id: str) -> Customer | None:
        """The till's own customer id as phone, email or number; `None` where the till knows none of that id."""
        raise NotSupported("this till names no customers")

    def prove(self, hook: HookRequest) -> None:
        """See that a hook comes from the till, in constant time. Raises `Forged`, `NotConfigured`, or `BadPayload`.

        The host calls this before `receive`, and nothing is kept of a hook for which it raises.
        """
        raise NotSupported("this till sends no hooks")

    def receive(self, hook: HookRequest) -> Received:
        """What a proven hook says; a pure function of its body, for it may be read again later, without its headers.

        Raises `BadPayload`: the hook is kept for a person.
        """
        raise NotSupported("this till sends no hooks")

    async def menu(self) -> list[MenuItem]:
        """Products and categories by id and name."""
        raise NotSupported("this till has no menu to read")

    async def aclose(self) -> None:
        """Release what the instance holds open."""
        return

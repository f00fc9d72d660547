"""The stand-in till that the conformance suite drives: what a cashier does, what the till posts, and how it fails.

Owns the contract only; each connector brings its own stub. The suite reports what a stub leaves out as not shown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import ClassVar, NoReturn

import httpx
from pydantic import BaseModel
from pydantic_settings import BaseSettings

from connector_sdk.authorisation import Grant
from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer


class CannotShow(Exception):
    """The stub cannot do this; the text names it."""


class Fault(StrEnum):
    """How a till fails. The values are words of sentences: "a till that is rate limited"."""

    # no useful answer, as with HTTP 503
    unavailable = "unavailable"
    # an answer that asks to slow down, as with HTTP 429
    rate_limited = "rate limited"
    # an answer that says it is well and is no JSON, as of a proxy on the way
    garbage = "garbage"
    # the till refuses the token, as with HTTP 401
    refused = "refused"


@dataclass(frozen=True, slots=True)
class SoldLine:
    """One line of a sale to make: a product of `TillStub.products`, and how many (or how much) of it."""

    product_id: str
    quantity: Decimal = Decimal(1)


@dataclass(frozen=True, slots=True)
class Sold:
    """A sale to make at the stub: `paid` in money without the `tip`, closed `at` that moment (aware), or left `open`.

    `by_gift_card` and `by_points` were paid beside it, with what is no money; `gift_card_bought` is money that was paid
    beside it for a gift card, and is no purchase yet. Without `lines` the stub sells what it likes. `location_id` is a
    venue that `TillStub.open_venue` opened; by default it is the account's first.
    """

    paid: Money
    at: datetime
    customer: Customer | None = None
    tip: Money | None = None
    redeem_code: str | None = None
    open: bool = False
    lines: tuple[SoldLine, ...] = ()
    by_gift_card: Money | None = None
    by_points: Money | None = None
    gift_card_bought: Money | None = None
    location_id: str | None = None


class TillStub(ABC):
    """One account of a stand-in till; the suite makes a fresh one for every behaviour.

    `zone` and `currency` are the account's, `page_size` is how many receipts it lists at once (a small number, so that
    the suite can fill pages), `customers` are people whom the till knows, `products` are ids on its menu. Whatever
    raises `CannotShow` here is reported as not shown, unless `till_has_no` says why the till itself has none.
    """

    connector: ClassVar[type[Connector[BaseModel]]]
    zone: ClassVar[str] = "UTC"
    currency: str = "EUR"
    page_size: ClassVar[int | None] = None
    customers: ClassVar[tuple[Customer, ...]] = ()
    products: ClassVar[tuple[str, ...]] = ()
    # many tills have numeric ids and refuse any other with an error of its own, which is not what is asked here
    unknown_receipt: ClassVar[str] = "999999999"
    """An id of the till's usual form that no receipt has."""
    unknown_customer: ClassVar[str] = "999999999"
    """An id of the till's usual form that no customer has."""
    till_has_no: ClassVar[Mapping[str, str]] = {}
    """The reasons, by behaviour, why the till itself cannot have it: the suite does not ask for those."""

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """Return the connection settings that open the account."""

    @abstractmethod
    def transport(self) -> httpx.AsyncBaseTransport:
        """Return the transport that answers the connector's calls: often `httpx.ASGITransport(app=…)`."""

    @abstractmethod
    def sell(self, sold: Sold) -> str:
        """Make a sale and return its receipt's id. Raises `CannotShow` for what of it the till cannot sell."""

    def app(self) -> BaseSettings | None:
        """Return what the operator sets once for all accounts; `None` where there is nothing."""
        return None

    def grant(self) -> Grant | None:
        """Return a grant that opens the account, for a till that has no other way in; `None` where settings do."""
        return None

    def wrong_settings(self) -> Mapping[str, str]:
        """Return settings of the right form that the till refuses."""
        self._cannot("settings that the till refuses")

    def trade_in(self, currency: str) -> None:
        """Have the account trade in another currency (ISO 4217) from now on; set `self.currency`, too."""
        self._cannot(f"an account in {currency}")

    # --- consent ----------------------------------------------------------------------------------------------

    def consent(self, url: str) -> Mapping[str, str]:
        """Open the till's consent page as a browser does, press Allow, and return the query that it comes back with."""
        self._cannot("a consent page")

    def expire_access(self) -> None:
        """Let all access tokens that were given so far end now; refresh tokens stay good."""
        self._cannot("an access token that ends")

    def revoke_access(self) -> None:
        """Let the cafe end our access: neither access nor refresh tokens are good any more."""
        self._cannot("a cafe that ends our access")

    # --- what a cashier does ----------------------------------------------------------------------------------

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Change the sum of a closed receipt."""
        self._cannot("a correction")

    def attach(self, receipt_id: str, customer: Customer) -> None:
        """Attach one of `customers` to a closed receipt that has none."""
        self._cannot("a customer who is attached later")

    def refund(self, receipt_id: str, amount: Money | None = None, at: datetime | None = None) -> None:
        """Refund `amount` of a receipt, or all of it, the tip too; now, or `at` that moment (aware)."""
        self._cannot("a refund")

    def return_line(self, receipt_id: str, line: SoldLine) -> None:
        """Take a line back, or a part of it, and refund what it cost."""
        self._cannot("a returned line")

    def void(self, receipt_id: str) -> None:
        """Void a closed receipt, as if it had never been."""
        self._cannot("a voided receipt")

    def open_venue(self, name: str, zone: str) -> str:
        """Open a venue in a time zone, and return its id."""
        self._cannot("a venue that is opened")

    # --- what goes wrong --------------------------------------------------------------------------------------

    def spoil(self, receipt_id: str) -> None:
        """Break a receipt: from now on no connector can map what the till says about it."""
        self._cannot("a receipt that cannot be read")

    def spoil_refund(self, receipt_id: str) -> None:
        """Break the refund of a receipt that was refunded: no connector can tell how much was given back."""
        self._cannot("a refund that cannot be read")

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Answer the next `times` requests with this fault; with none where it is 0."""
        self._cannot(f"a till that is {fault}")

    # --- hooks ------------------------------------------------------------------------------------------------

    def hook(self, receipt_id: str) -> HookRequest:
        """Return the hook that the till posts about a receipt as it is now."""
        self._cannot("a hook")

    def refund_hook(self, receipt_id: str) -> HookRequest:
        """Return the hook that the till posts about the refund of a receipt; by default the receipt's own."""
        return self.hook(receipt_id)

    def joint_hook(self, receipt_ids: Sequence[str]) -> HookRequest:
        """Return one hook about several receipts."""
        self._cannot("a hook about several receipts")

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return a hook as somebody would send it who does not know the secret."""
        self._cannot("a forged hook")

    def unsigned(self, hook: HookRequest) -> HookRequest:
        """Return a hook without any proof: by default without its headers and query."""
        return replace(hook, headers={}, query={})

    def forget_secret(self, connector: Connector[BaseModel]) -> None:
        """Take the secret that proves hooks from a connector: its settings, or the operator's in `connector.app`.

        By default the key that the till gave when it was told the address.
        """
        if connector.hook_key is not None:
            connector.hook_key = None
            return
        self._cannot("a connector whose secret for hooks is not set")

    def age(self, hook: HookRequest, seconds: int) -> HookRequest:
        """Return a hook signed correctly, but `seconds` ago."""
        self._cannot("a hook with the time of its signature")

    def _cannot(self, what: str) -> NoReturn:
        raise CannotShow(f"the stub cannot show {what}: write it, or say in `till_has_no` why the till has none")

"""The stand-in till that the conformance suite drives: what a cashier does, what the till posts, and how it fails.

Owns the contract only; each connector brings its own stub. The suite reports what a stub leaves out as not shown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import ClassVar, NoReturn

import httpx
from pydantic import BaseModel
from pydantic_settings import BaseSettings

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
class Sold:
    """A sale to make at the stub: `paid` without the `tip`, closed `at` that moment (aware), or left `open`."""

    paid: Money
    at: datetime
    customer: Customer | None = None
    tip: Money | None = None
    redeem_code: str | None = None
    open: bool = False


class TillStub(ABC):
    """One account of a stand-in till; the suite makes a fresh one for every behaviour.

    `zone` and `currency` are the account's, `page_size` is how many receipts it lists at once (a small number, so that
    the suite can fill pages), `customers` are people whom the till knows.
    """

    connector: ClassVar[type[Connector[BaseModel]]]
    zone: ClassVar[str] = "UTC"
    currency: ClassVar[str] = "EUR"
    page_size: ClassVar[int | None] = None
    customers: ClassVar[tuple[Customer, ...]] = ()
    # many tills have numeric ids and refuse any other with an error of its own, which is not what is asked here
    unknown_receipt: ClassVar[str] = "999999999"
    """An id of the till's usual form that no receipt has."""
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
        """Make a sale and return its receipt's id."""

    def app(self) -> BaseSettings | None:
        """Return what the operator sets once for all accounts; `None` where there is nothing."""
        return None

    def wrong_settings(self) -> Mapping[str, str]:
        """Return settings of the right form that the till refuses."""
        self._cannot("settings that the till refuses")

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Change the sum of a closed receipt."""
        self._cannot("a correction")

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        """Refund `amount` of a receipt, or all of it."""
        self._cannot("a refund")

    def void(self, receipt_id: str) -> None:
        """Void a closed receipt, as if it had never been."""
        self._cannot("a voided receipt")

    def spoil(self, receipt_id: str) -> None:
        """Break a receipt: from now on no connector can map what the till says about it."""
        self._cannot("a receipt that cannot be read")

    def hook(self, receipt_id: str) -> HookRequest:
        """Return the hook that the till posts about a receipt as it is now."""
        self._cannot("a hook")

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return a hook as somebody would send it who does not know the secret."""
        self._cannot("a forged hook")

    def age(self, hook: HookRequest, seconds: int) -> HookRequest:
        """Return a hook signed correctly, but `seconds` ago."""
        self._cannot("a hook with the time of its signature")

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Answer the next `times` requests with this fault; with none where it is 0."""
        self._cannot(f"a till that is {fault}")

    def _cannot(self, what: str) -> NoReturn:
        raise CannotShow(f"the stub cannot show {what}: write it, or say in `till_has_no` why the till has none")

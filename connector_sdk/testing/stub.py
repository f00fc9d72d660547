"""The stand-in till that the conformance suite drives: what a cashier does, what the till posts, and how it fails.

Owns the contract only; each connector brings its own stub. What a stub leaves out is reported as not shown.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar, NoReturn

import httpx

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer


class CannotShow(Exception):
    """The stub has no way to do this; the text says what."""


class Fault(StrEnum):
    """How a till fails: no useful answer, "slow down", an answer that is no JSON, or a token that is refused."""

    unavailable = "unavailable"
    rate_limited = "rate limited"
    garbage = "garbage"
    refused = "refused"


@dataclass(frozen=True, slots=True)
class Sold:
    """What a cashier sells: `paid` without the `tip`, closed `at` that moment (aware), or left `open`."""

    paid: Money
    at: datetime
    customer: Customer | None = None
    tip: Money | None = None
    redeem_code: str | None = None
    open: bool = False


class TillStub(ABC):
    """One account of a stand-in till. A fresh one is made for every behaviour.

    `zone` and `currency` are the account's, `page_size` how many receipts it lists at once (a small number, so that
    the suite can fill pages), `customers` people whom the till knows.
    """

    connector: ClassVar[type[Connector[Any]]]
    zone: ClassVar[str] = "UTC"
    currency: ClassVar[str] = "EUR"
    page_size: ClassVar[int | None] = None
    customers: ClassVar[tuple[Customer, ...]] = ()
    unknown_receipt: ClassVar[str] = "999999999"
    """An id such as the till gives, of no receipt."""
    till_has_no: ClassVar[Mapping[str, str]] = {}
    """Behaviours that the till itself has not, by name, each with the reason: they are not asked for."""

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """The connection settings that open the account."""

    @abstractmethod
    def transport(self) -> httpx.AsyncBaseTransport:
        """Where the connector's calls end: often `httpx.ASGITransport(app=…)`."""

    @abstractmethod
    def sell(self, sold: Sold) -> str:
        """A receipt; its id."""

    def app(self) -> Any:
        """What the operator sets once for all accounts; `None` where there is nothing."""
        return None

    def wrong_settings(self) -> Mapping[str, str]:
        """Settings of the right form that the till refuses."""
        self._cannot("settings that the till refuses")

    def correct(self, receipt_id: str, paid: Money) -> None:
        """A closed receipt gets another sum."""
        self._cannot("a correction")

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        """Money is given back: some, or all."""
        self._cannot("a refund")

    def void(self, receipt_id: str) -> None:
        """A closed receipt is taken back as if it had never been."""
        self._cannot("a voided receipt")

    def spoil(self, receipt_id: str) -> None:
        """From now on the till says something about this receipt that nobody can understand."""
        self._cannot("a receipt that cannot be read")

    def hook(self, receipt_id: str) -> HookRequest:
        """What the till posts about a receipt as it is now."""
        self._cannot("a hook")

    def forge(self, hook: HookRequest) -> HookRequest:
        """The same hook from somebody who does not know the secret."""
        self._cannot("a forged hook")

    def age(self, hook: HookRequest, seconds: int) -> HookRequest:
        """The same hook, well signed, but so long ago."""
        self._cannot("a hook with the time of its signature")

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """The next answers are this fault."""
        self._cannot(f"a till that is {fault}")

    def _cannot(self, what: str) -> NoReturn:
        raise CannotShow(f"the stub cannot show {what}: write it, or say in `till_has_no` why the till has none")

"""The sandbox as the conformance suite drives it.

Owns the translation between the suite's sales and Serve's checks; the checks themselves are `sandbox_cafe`'s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime

import httpx
from pydantic import BaseModel

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.testing import Fault, Sold, SoldLine, TillStub
from serve_connector.connector import ServeConnector
from serve_connector.sandbox import ServeSandbox
from serve_connector.sandbox_cafe import Cafe, Failure
from serve_connector.settings import ServeApp

_FAILURES: Mapping[Fault, Failure] = {
    Fault.unavailable: 503,
    Fault.rate_limited: 429,
    Fault.garbage: b"<html>",
    Fault.refused: 401,
}


class ServeStub(TillStub):
    """One account of the sandbox, called without a network."""

    connector = ServeConnector
    zone = "Europe/Madrid"
    page_size = 3
    customers = (Customer(phone="+34600111222"), Customer(email="anna@example.com"))
    products = ("FLATWHITE", "CROISSANT")
    unknown_receipt = "chk_1"
    till_has_no = {  # noqa: RUF012 - a class variable, declared so by the base
        "gift_card_bought": "the assumed contract has no gift cards to buy",
        "joint_hook": "each event is about one check",
    }

    def __init__(self) -> None:
        self.currency = "EUR"
        self._open(self.currency)

    def _open(self, currency: str) -> None:
        self._sandbox = ServeSandbox(Cafe(page_size=self.page_size or 1, zone=self.zone, currency=currency))
        self._cafe = self._sandbox.cafe

    def trade_in(self, currency: str) -> None:
        """Open the account anew, in another currency."""
        self.currency = currency
        self._open(currency)

    def settings(self) -> Mapping[str, str]:
        """Return the settings that open the account."""
        return self._sandbox.settings()

    def wrong_settings(self) -> Mapping[str, str]:
        """Return a token that opens nothing."""
        return {"access_token": "of_somebody_else"}

    def app(self) -> ServeApp:
        """Return the operator's settings."""
        return ServeApp(api_url="http://serve.test")

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that ends in the sandbox."""
        return httpx.ASGITransport(app=self._sandbox.application())

    def sell(self, sold: Sold) -> str:
        """Sell as a waiter does, at the sale's own moment; return the check's id."""
        # checks take their times from the clock of the cafe
        clock = self._cafe.now
        self._cafe.now = lambda: sold.at
        try:
            return self._sell_now(sold)
        finally:
            self._cafe.now = clock

    def _sell_now(self, sold: Sold) -> str:
        if sold.gift_card_bought is not None:
            self._cannot("a gift card that is bought")
        customer = sold.customer or Customer()
        check = self._cafe.open(phone=customer.phone, email=customer.email, venue=sold.location_id or "vn_12")
        for line in sold.lines:
            self._cafe.add(check, line.product_id, f"{line.quantity.normalize():f}")
        if not sold.open:
            self._close(check, sold)
        return check

    def _close(self, check: str, sold: Sold) -> None:
        kinds = {"gift_card": sold.by_gift_card, "points": sold.by_points}
        otherwise = {kind: amount for kind, amount in kinds.items() if amount is not None}
        # the total holds what was paid without money, too
        total = sum(otherwise.values(), sold.paid)
        self._cafe.close(
            check,
            total.decimal,
            tip=sold.tip.decimal if sold.tip else "0",
            codes=[sold.redeem_code] if sold.redeem_code else [],
            otherwise={kind: amount.decimal for kind, amount in otherwise.items()},
        )

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Give a check another sum."""
        self._cafe.correct(receipt_id, paid.decimal)

    def attach(self, receipt_id: str, customer: Customer) -> None:
        """Add a guest to a check."""
        self._cafe.attach(receipt_id, phone=customer.phone, email=customer.email)

    def refund(self, receipt_id: str, amount: Money | None = None, at: datetime | None = None) -> None:
        """Give back an amount, or everything."""
        clock = self._cafe.now
        self._cafe.now = (lambda: at) if at is not None else clock
        try:
            self._cafe.refund(receipt_id, amount.decimal if amount else None)
        finally:
            self._cafe.now = clock

    def return_line(self, receipt_id: str, line: SoldLine) -> None:
        """Take some of an item back."""
        self._cafe.return_item(receipt_id, line.product_id, f"{line.quantity.normalize():f}")

    def open_venue(self, name: str, zone: str) -> str:
        """Open a venue."""
        return self._cafe.open_venue(name, zone)

    def void(self, receipt_id: str) -> None:
        """Void a check."""
        self._cafe.void(receipt_id)

    def spoil(self, receipt_id: str) -> None:
        """Make a check's total a number, which the contract does not allow."""
        self._cafe.checks[receipt_id]["total"] = 12.5  # type: ignore[typeddict-item]

    def spoil_refund(self, receipt_id: str) -> None:
        """Make what went back a number, which the contract does not allow."""
        self._cafe.checks[receipt_id]["refunded"] = 12.5  # type: ignore[typeddict-item]
        self._cafe.checks[receipt_id]["status"] = "closed"

    def hook(self, receipt_id: str) -> HookRequest:
        """Return the signed event that a check was closed."""
        body = self._cafe.event(receipt_id)
        return HookRequest("POST", self._cafe.signed(body), {}, body)

    def refund_hook(self, receipt_id: str) -> HookRequest:
        """Return the signed event that a check was refunded."""
        body = self._cafe.event(receipt_id, "check.refunded")
        return HookRequest("POST", self._cafe.signed(body), {}, body)

    def forget_secret(self, connector: Connector[BaseModel]) -> None:
        """Take the signing secret out of the settings."""
        connector.settings = connector.settings.model_copy(update={"signing_secret": None})

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return the same event, signed with a guessed secret."""
        return HookRequest(hook.method, self._cafe.signed(hook.body, secrets_=("guessed",)), {}, hook.body)

    def age(self, hook: HookRequest, seconds: int) -> HookRequest:
        """Return the same event, well signed, but so many seconds ago."""
        # real time: the signature is looked at by the clock of the machine
        at = int(time.time()) - seconds
        return HookRequest(hook.method, self._cafe.signed(hook.body, at=at), {}, hook.body)

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Make the next answers fail."""
        self._cafe.fail_next = [_FAILURES[fault]] * times

"""The sandbox as the conformance suite drives it.

Owns the translation between the suite's sales and Serve's checks; the checks themselves are `sandbox_cafe`'s.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import httpx

from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.testing import Fault, Sold, TillStub
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
    currency = "EUR"
    page_size = 3
    customers = (Customer(phone="+34600111222"), Customer(email="anna@example.com"))
    unknown_receipt = "chk_1"

    def __init__(self) -> None:
        self._sandbox = ServeSandbox(Cafe(page_size=self.page_size or 1, zone=self.zone, currency=self.currency))
        self._cafe = self._sandbox.cafe

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
        customer = sold.customer or Customer()
        check = self._cafe.open(phone=customer.phone, email=customer.email)
        codes = [sold.redeem_code] if sold.redeem_code else []
        if not sold.open:
            self._cafe.close(check, sold.paid.decimal, tip=sold.tip.decimal if sold.tip else "0", codes=codes)
        return check

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Give a check another sum."""
        self._cafe.correct(receipt_id, paid.decimal)

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        """Give back an amount, or everything."""
        self._cafe.refund(receipt_id, amount.decimal if amount else None)

    def void(self, receipt_id: str) -> None:
        """Void a check."""
        self._cafe.void(receipt_id)

    def spoil(self, receipt_id: str) -> None:
        """Make a check's total a number, which the contract does not allow."""
        self._cafe.checks[receipt_id]["total"] = 12.5  # type: ignore[typeddict-item]

    def hook(self, receipt_id: str) -> HookRequest:
        """Return the signed event that a check was closed."""
        body = self._cafe.event(receipt_id)
        return HookRequest("POST", self._cafe.signed(body), {}, body)

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

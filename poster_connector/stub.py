"""The sandbox as the conformance suite drives it.

Owns the translation between the suite's sales and Poster's receipts; the receipts themselves are `sandbox_account`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx
from pydantic import SecretStr

from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.testing import Fault, Sold, TillStub
from poster_connector.connector import PosterConnector
from poster_connector.sandbox import PosterSandbox
from poster_connector.sandbox_account import SECRET, Account, Failure
from poster_connector.settings import PosterApp

_FAILURES: Mapping[Fault, Failure] = {
    Fault.unavailable: "503",
    Fault.rate_limited: 700,
    Fault.garbage: b"<html>",
    Fault.refused: 11,
}


class PosterStub(TillStub):
    """One account of the sandbox, called without a network."""

    connector = PosterConnector
    zone = "Europe/Kyiv"
    currency = "UAH"
    page_size = 3
    till_has_no = {  # noqa: RUF012 - a class variable, declared so by the base
        "late_refund": "Poster lists receipts by the day they were closed: the look-back sees refunds of three days",
        "partial_refund": "Poster's receipts show whole returns only",
        "old_hook": "Poster sends again for days, with the first time in it",
    }
    customers = (Customer(phone="+380501112201"), Customer(phone="+380501112202", email="anna@example.com"))

    def __init__(self) -> None:
        self._account = Account(page_size=self.page_size or 1)
        self._sandbox = PosterSandbox(self._account)

    def settings(self) -> Mapping[str, str]:
        """Return the settings that open the account."""
        return self._sandbox.settings()

    def wrong_settings(self) -> Mapping[str, str]:
        """Return a token of the account's number with another secret."""
        return {"access_token": f"{self._account.number}:0000000000000000"}

    def app(self) -> PosterApp:
        """Return the operator's settings, with the secret that the sandbox signs with."""
        return PosterApp(api_url="http://poster.test/api", application_secret=SecretStr(SECRET))

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that ends in the sandbox."""
        return httpx.ASGITransport(app=self._sandbox.application())

    def sell(self, sold: Sold) -> str:
        """Sell as a cashier does, at the sale's own moment; return the receipt's id."""
        # receipts take their times from the clock of the account
        account, clock = self._account, self._account.now
        account.now = lambda: sold.at
        try:
            return str(self._sell_now(sold))
        finally:
            account.now = clock

    def _sell_now(self, sold: Sold) -> int:
        account = self._account
        receipt = account.open(self._client(sold.customer))
        account.add(receipt, "161")
        if not sold.open:
            # the sandbox's sums are hundredths, as all of Poster's
            account.close(receipt, paid=sold.paid.minor, comment=sold.redeem_code)
        if sold.tip is not None:
            account.receipts[receipt]["tip_sum"] = str(sold.tip.minor)
        return receipt

    def _client(self, customer: Customer | None) -> int:
        if not customer:
            return 0
        return self._account.client(customer.phone or "", email=customer.email or "")

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Give a receipt another sum."""
        self._account.correct(int(receipt_id), paid.minor)

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        """Give all money back: Poster knows no partial refund, so the amount says nothing."""
        self._account.refund(int(receipt_id))

    def void(self, receipt_id: str) -> None:
        """Remove a receipt."""
        self._account.remove(int(receipt_id))

    def spoil(self, receipt_id: str) -> None:
        """Make a receipt's sum a word."""
        self._account.receipts[int(receipt_id)]["payed_sum"] = "twelve"

    def hook(self, receipt_id: str) -> HookRequest:
        """Return the hook that a receipt was closed."""
        return _posted(self._account.hook(int(receipt_id), "closed"))

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return the same hook, signed with a guessed secret."""
        fields = json.loads(hook.body)
        return _posted(self._account.hook(int(fields["object_id"]), fields["action"], secret="guessed"))  # noqa: S106

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Make the next answers fail."""
        self._account.fail_next = [_FAILURES[fault]] * times


def _posted(body: bytes) -> HookRequest:
    return HookRequest("POST", {"content-type": "application/json"}, {}, body)

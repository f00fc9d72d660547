"""The sandbox as the conformance suite drives it.

Owns the translation between the suite's sales and Poster's receipts; the receipts themselves are `sandbox_account`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import BaseModel, SecretStr

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money, exponent
from connector_sdk.sale import Customer
from connector_sdk.testing import Fault, Sold, SoldLine, TillStub
from poster_connector.connector import PosterConnector
from poster_connector.sandbox import APPLICATION, PosterSandbox
from poster_connector.sandbox_account import SECRET, Account, Failure
from poster_connector.settings import PosterApp

_POSTERS_DIGITS = 2
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
    page_size = 3
    till_has_no = {  # noqa: RUF012 - a class variable, declared so by the base
        "late_refund": "Poster lists receipts by the day they were closed: the second look sees refunds of three days",
        "partial_refund": "Poster's receipts show whole returns only",
        "two_refunds": "Poster's receipts show whole returns only",
        "returned_line": "Poster's receipts show whole returns only",
        "old_hook": "Poster sends again for days, with the first time in it",
        "joint_hook": "each of Poster's hooks is about one receipt",
        "venue_zones": "Poster has one time zone for a whole account",
        "gift_card_bought": "Poster sells no gift cards of its own",
    }
    customers = (Customer(phone="+380501112201"), Customer(phone="+380501112202", email="anna@example.com"))
    products = ("161", "162")

    def __init__(self) -> None:
        self.currency = "UAH"
        self._open(self.currency)

    def _open(self, currency: str) -> None:
        self._account = Account(page_size=self.page_size or 1, currency=currency)
        self._sandbox = PosterSandbox(self._account)

    def trade_in(self, currency: str) -> None:
        """Open the account anew, in another currency."""
        if exponent(currency) > _POSTERS_DIGITS:
            self._cannot(f"an account in {currency}: Poster writes hundredths")
        self.currency = currency
        self._open(currency)

    def settings(self) -> Mapping[str, str]:
        """Return the settings that open the account."""
        return self._sandbox.settings()

    def wrong_settings(self) -> Mapping[str, str]:
        """Return a token of the account's number with another secret."""
        return {"access_token": f"{self._account.number}:0000000000000000"}

    def app(self) -> PosterApp:
        """Return the operator's settings, with the secret that the sandbox signs with."""
        return PosterApp(
            api_url="http://poster.test/api", application_id=APPLICATION, application_secret=SecretStr(SECRET)
        )

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
        if sold.gift_card_bought is not None:
            self._cannot("a gift card that is bought")
        account = self._account
        receipt = account.open(self._client(sold.customer), spot=int(sold.location_id or 1))
        for line in sold.lines or (SoldLine("161"),):
            account.add(receipt, line.product_id, quantity=f"{line.quantity.normalize():f}")
        if not sold.open:
            account.close(receipt, paid=self._hundredths(sold.paid), comment=sold.redeem_code)
        record = account.receipts[receipt]
        if sold.tip is not None:
            record["tip_sum"] = str(self._hundredths(sold.tip))
        if sold.by_gift_card is not None:
            record["payed_cert"] = str(self._hundredths(sold.by_gift_card))
        if sold.by_points is not None:
            record["payed_bonus"] = str(self._hundredths(sold.by_points))
        return receipt

    def _hundredths(self, amount: Money) -> int:
        """Write an amount as Poster does, in hundredths whatever the currency."""
        return int(amount.minor * 10 ** (_POSTERS_DIGITS - exponent(self.currency)))

    def _client(self, customer: Customer | None) -> int:
        if not customer:
            return 0
        return self._account.client(customer.phone or "", email=customer.email or "")

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Give a receipt another sum."""
        self._account.correct(int(receipt_id), self._hundredths(paid))

    def attach(self, receipt_id: str, customer: Customer) -> None:
        """Attach a client to a receipt."""
        self._account.attach(int(receipt_id), self._client(customer))

    def refund(self, receipt_id: str, amount: Money | None = None, at: datetime | None = None) -> None:
        """Give all money back: Poster knows no partial refund, so the amount says nothing."""
        self._account.refund(int(receipt_id))

    def open_venue(self, name: str, zone: str) -> str:
        """Open a spot, which has the account's zone."""
        self._account.spots.append(name)
        return str(len(self._account.spots))

    def void(self, receipt_id: str) -> None:
        """Remove a receipt."""
        self._account.remove(int(receipt_id))

    def spoil(self, receipt_id: str) -> None:
        """Make a receipt's sum a word."""
        self._account.receipts[int(receipt_id)]["payed_sum"] = "twelve"

    def spoil_refund(self, receipt_id: str) -> None:
        """Make what says that all was given back a word."""
        self._account.receipts[int(receipt_id)]["print_fiscal"] = "twelve"

    def hook(self, receipt_id: str) -> HookRequest:
        """Return the hook that a receipt was closed."""
        return _posted(self._account.hook(int(receipt_id), "closed"))

    def refund_hook(self, receipt_id: str) -> HookRequest:
        """Return the hook that a receipt was changed."""
        return _posted(self._account.hook(int(receipt_id), "changed"))

    def unsigned(self, hook: HookRequest) -> HookRequest:
        """Return the hook without its signature, which is a field of the body."""
        fields = json.loads(hook.body)
        del fields["verify"]
        return _posted(json.dumps(fields).encode())

    def forget_secret(self, connector: Connector[BaseModel]) -> None:
        """Take the application's secret away."""
        connector.app = connector.app.model_copy(update={"application_secret": None})

    def consent(self, url: str) -> Mapping[str, str]:
        """Press Allow on the consent page."""
        query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        back = self._sandbox.allow(query)
        return {name: values[0] for name, values in parse_qs(urlsplit(back).query).items()}

    def revoke_access(self) -> None:
        """Give the account another token."""
        self._account.token = f"{self._account.number}:{'f' * 32}"

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return the same hook, signed with a guessed secret."""
        fields = json.loads(hook.body)
        return _posted(self._account.hook(int(fields["object_id"]), fields["action"], secret="guessed"))  # noqa: S106

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        """Make the next answers fail."""
        self._account.fail_next = [_FAILURES[fault]] * times


def _posted(body: bytes) -> HookRequest:
    return HookRequest("POST", {"content-type": "application/json"}, {}, body)

"""The sandbox as the conformance suite drives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import SecretStr

from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.testing import Fault, Sold, TillStub
from poster_connector.connector import PosterConnector
from poster_connector.sandbox import SECRET, Account, PosterSandbox
from poster_connector.settings import PosterApp

_ANSWERS: Mapping[Fault, Any] = {
    Fault.unavailable: "503",
    Fault.rate_limited: 700,
    Fault.garbage: b"<html>",
    Fault.refused: 11,
}


class PosterStub(TillStub):
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
        return self._sandbox.settings()

    def wrong_settings(self) -> Mapping[str, str]:
        return {"access_token": f"{self._account.number}:0000000000000000"}

    def app(self) -> PosterApp:
        return PosterApp(api_url="http://poster.test/api", application_secret=SecretStr(SECRET))

    def transport(self) -> httpx.AsyncBaseTransport:
        return httpx.ASGITransport(app=self._sandbox.application())

    def sell(self, sold: Sold) -> str:
        account, clock, who = self._account, self._account.now, sold.customer
        account.now = lambda: sold.at
        try:
            receipt = account.open(account.client(who.phone or "", email=who.email or "") if who else 0)
            account.add(receipt, "161")
            if not sold.open:
                # the sandbox's sums are hundredths, as all of Poster's
                account.close(receipt, paid=sold.paid.minor, comment=sold.redeem_code)
            if sold.tip is not None:
                account.receipts[receipt]["tip_sum"] = str(sold.tip.minor)
        finally:
            account.now = clock
        return str(receipt)

    def correct(self, receipt_id: str, paid: Money) -> None:
        self._account.correct(int(receipt_id), paid.minor)

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        self._account.refund(int(receipt_id))

    def void(self, receipt_id: str) -> None:
        self._account.remove(int(receipt_id))

    def spoil(self, receipt_id: str) -> None:
        self._account.receipts[int(receipt_id)]["payed_sum"] = "twelve"

    def hook(self, receipt_id: str) -> HookRequest:
        return _posted(self._account.hook(int(receipt_id), "closed"))

    def forge(self, hook: HookRequest) -> HookRequest:
        said = json.loads(hook.body)
        return _posted(self._account.hook(int(said["object_id"]), said["action"], secret="guessed"))  # noqa: S106

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        self._account.fail_next = [_ANSWERS[fault]] * times


def _posted(body: bytes) -> HookRequest:
    return HookRequest("POST", {"content-type": "application/json"}, {}, body)

"""The sandbox as the conformance suite drives it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import httpx

from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.testing import Fault, Sold, TillStub
from serve_connector.connector import ServeConnector
from serve_connector.sandbox import Cafe, ServeSandbox
from serve_connector.settings import ServeApp

_ANSWERS: Mapping[Fault, Any] = {
    Fault.unavailable: 503,
    Fault.rate_limited: 429,
    Fault.garbage: b"<html>",
    Fault.refused: 401,
}


class ServeStub(TillStub):
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
        return self._sandbox.settings()

    def wrong_settings(self) -> Mapping[str, str]:
        return {"access_token": "of_somebody_else"}

    def app(self) -> ServeApp:
        return ServeApp(api_url="http://serve.test")

    def transport(self) -> httpx.AsyncBaseTransport:
        return httpx.ASGITransport(app=self._sandbox.application())

    def sell(self, sold: Sold) -> str:
        who, clock = sold.customer or Customer(), self._cafe.now
        self._cafe.now = lambda: sold.at
        try:
            receipt = self._cafe.open(phone=who.phone, email=who.email)
            codes = [sold.redeem_code] if sold.redeem_code else []
            if not sold.open:
                self._cafe.close(receipt, sold.paid.decimal, tip=sold.tip.decimal if sold.tip else "0", codes=codes)
        finally:
            self._cafe.now = clock
        return receipt

    def correct(self, receipt_id: str, paid: Money) -> None:
        self._cafe.correct(receipt_id, paid.decimal)

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        self._cafe.refund(receipt_id, amount.decimal if amount else None)

    def void(self, receipt_id: str) -> None:
        self._cafe.void(receipt_id)

    def spoil(self, receipt_id: str) -> None:
        self._cafe.checks[receipt_id]["total"] = 12.5

    def hook(self, receipt_id: str) -> HookRequest:
        body = self._cafe.event(receipt_id)
        return HookRequest("POST", self._cafe.signed(body), {}, body)

    def forge(self, hook: HookRequest) -> HookRequest:
        return HookRequest(hook.method, self._cafe.signed(hook.body, secrets_=("guessed",)), {}, hook.body)

    def age(self, hook: HookRequest, seconds: int) -> HookRequest:
        at = int(time.time()) - seconds
        return HookRequest(hook.method, self._cafe.signed(hook.body, at=at), {}, hook.body)

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        self._cafe.fail_next = [_ANSWERS[fault]] * times

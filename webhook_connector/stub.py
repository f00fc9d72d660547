"""A small fictional till that sends JSON with local times and decimal commas, as the conformance suite drives it.

Owns the till's orders, which it writes in German, so that no name fits one of ours by chance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypedDict
from zoneinfo import ZoneInfo

import httpx

from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.signatures import BodyHmac
from connector_sdk.testing import Sold, TillStub
from webhook_connector.connector import WebhookConnector

_SECRET = "a secret of the stub"  # noqa: S105 - of the stub only


class _Refund(TypedDict):
    """An amount that went back."""

    betrag: str


class _Guest(TypedDict):
    """Who bought."""

    telefon: str | None
    mail: str | None


class _Order(TypedDict):
    """An order as the till sends it; `stand` is its revision."""

    nr: str
    stand: int
    status: str
    zeit: str
    summe: str
    trinkgeld: str
    erstattet: list[_Refund]
    gast: _Guest
    gutscheine: list[str]


class WebhookStub(TillStub):
    """The till, which only sends."""

    connector = WebhookConnector
    zone = "Europe/Madrid"
    currency = "EUR"
    customers = (Customer(phone="+34600111222"), Customer(email="anna@example.com"))
    till_has_no = {  # noqa: RUF012 - a class variable, declared so by the base
        "refused_token": "nobody is asked: the till only sends",
        "old_hook": "the proof that most tills have, a signature of the body, has no time",
    }

    def __init__(self) -> None:
        self._orders: dict[str, _Order] = {}

    def settings(self) -> Mapping[str, str]:
        """Return the settings of a connection, with the mapping of the till's names."""
        return {
            "till_name": "Stub",
            "till_id": "till-stub",
            "currency": self.currency,
            "zone": self.zone,
            "country": "ES",
            "proof": "hmac",
            "secret": _SECRET,
            "proof_header": "X-Signature",
            "decimal_sign": "comma",
            "dates": "pattern",
            "date_pattern": "%d.%m.%Y %H:%M:%S",
            "closed_statuses": "bezahlt",
            "open_statuses": "offen",
            "voided_statuses": "storniert",
            "map_receipts": "bons",
            "map_receipt_id": "nr",
            "map_version": "stand",
            "map_status": "status",
            "map_closed_at": "zeit",
            "map_paid": "summe",
            "map_tip": "trinkgeld",
            "map_refunded": "erstattet[].betrag",
            "map_phone": "gast.telefon",
            "map_email": "gast.mail",
            "map_codes": "gutscheine",
        }

    def transport(self) -> httpx.AsyncBaseTransport:
        """Return a transport that fails: nobody is asked."""
        return httpx.MockTransport(lambda _request: httpx.Response(500))

    def sell(self, sold: Sold) -> str:
        """Write down an order and return its number."""
        number, customer = str(len(self._orders) + 1), sold.customer or Customer()
        tip = sold.tip or Money.zero(self.currency)
        self._orders[number] = {
            "nr": number,
            "stand": 1,
            "status": "offen" if sold.open else "bezahlt",
            "zeit": sold.at.astimezone(ZoneInfo(self.zone)).strftime("%d.%m.%Y %H:%M:%S"),
            # this till counts the tip into the sum, which the mapping takes off
            "summe": _with_comma(sold.paid + tip),
            "trinkgeld": _with_comma(tip),
            "erstattet": [],
            "gast": {"telefon": customer.phone, "mail": customer.email},
            "gutscheine": [sold.redeem_code] if sold.redeem_code else [],
        }
        return number

    def _change(self, receipt_id: str) -> _Order:
        """Return a copy of an order with the next revision, which takes its place: what was sent is not changed."""
        order = self._orders[receipt_id].copy()
        order["stand"] += 1
        self._orders[receipt_id] = order
        return order

    def correct(self, receipt_id: str, paid: Money) -> None:
        """Give an order another sum."""
        self._change(receipt_id)["summe"] = _with_comma(paid)

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        """Give back an amount, written with a minus, or everything."""
        order = self._change(receipt_id)
        back = _with_comma(amount) if amount is not None else order["summe"]
        order["erstattet"] = [*order["erstattet"], {"betrag": f"-{back}"}]

    def void(self, receipt_id: str) -> None:
        """Cancel an order."""
        self._change(receipt_id)["status"] = "storniert"

    def spoil(self, receipt_id: str) -> None:
        """Make an order's sum a word."""
        self._change(receipt_id)["summe"] = "zwölf"

    def hook(self, receipt_id: str) -> HookRequest:
        """Return a signed request with the order as it is now."""
        body = json.dumps({"bons": [self._orders[receipt_id]]}, ensure_ascii=False).encode()
        return HookRequest("POST", {"x-signature": BodyHmac(_SECRET).sign(body)}, {}, body)

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return the same request, signed with a guessed secret."""
        return HookRequest(hook.method, {"x-signature": BodyHmac("guessed").sign(hook.body)}, {}, hook.body)


def _with_comma(amount: Money) -> str:
    return amount.decimal.replace(".", ",")

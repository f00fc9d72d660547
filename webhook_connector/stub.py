"""A small fictional till that sends JSON with local times and decimal commas, as the conformance suite drives it.

Owns the till's orders, which it writes in German, so that no name fits one of ours by chance.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TypedDict
from zoneinfo import ZoneInfo

import httpx
from pydantic import BaseModel

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.signatures import BodyHmac
from connector_sdk.testing import Sold, SoldLine, TillStub
from webhook_connector.connector import WebhookConnector

_SECRET = "a secret of the stub"  # noqa: S105 - of the stub only


class _Refund(TypedDict):
    """An amount that went back."""

    betrag: str


class _Guest(TypedDict):
    """Who bought."""

    telefon: str | None
    mail: str | None


class _Item(TypedDict):
    """What was bought, how many of it, and how many came back."""

    artikel: str
    menge: str
    zurueck: str


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
    posten: list[_Item]


class WebhookStub(TillStub):
    """The till, which only sends."""

    connector = WebhookConnector
    zone = "Europe/Madrid"
    customers = (Customer(phone="+34600111222"), Customer(email="anna@example.com"))
    products = ("kaffee", "kuchen")
    till_has_no = {  # noqa: RUF012 - a class variable, declared so by the base
        "refused_token": "nobody is asked: the till only sends",
        "venue_zones": "nobody is asked for venues: the till only sends",
        "venue_opened": "nobody is asked for venues: the till only sends",
        "paid_by_other_means": "the sum that the cafe points at is what was paid in money",
        "gift_card_bought": "the sum that the cafe points at is what was paid for purchases",
        "old_hook": "the proof that most tills have, a signature of the body, has no time",
    }

    def __init__(self) -> None:
        self.currency = "EUR"
        self._orders: dict[str, _Order] = {}

    def trade_in(self, currency: str) -> None:
        """Trade in another currency from now on."""
        self.currency = currency

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
            "map_lines": "posten",
            "map_product": "artikel",
            "map_quantity": "menge",
            "map_returned": "zurueck",
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
            "posten": [
                {"artikel": line.product_id, "menge": _text(line.quantity), "zurueck": "0"} for line in sold.lines
            ],
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

    def attach(self, receipt_id: str, customer: Customer) -> None:
        """Write down who bought."""
        self._change(receipt_id)["gast"] = {"telefon": customer.phone, "mail": customer.email}

    def return_line(self, receipt_id: str, line: SoldLine) -> None:
        """Take some of an item back."""
        order = self._change(receipt_id)
        order["posten"] = [
            {**item, "zurueck": f"-{_text(line.quantity)}"} if item["artikel"] == line.product_id else item
            for item in order["posten"]
        ]

    def refund(self, receipt_id: str, amount: Money | None = None, at: datetime | None = None) -> None:
        """Give back an amount, written with a minus, or everything, the tip too."""
        order = self._change(receipt_id)
        back = _with_comma(amount) if amount is not None else order["summe"]
        order["erstattet"] = [*order["erstattet"], {"betrag": f"-{back}"}]

    def void(self, receipt_id: str) -> None:
        """Cancel an order."""
        self._change(receipt_id)["status"] = "storniert"

    def spoil(self, receipt_id: str) -> None:
        """Make an order's sum a word."""
        self._change(receipt_id)["summe"] = "zwölf"

    def spoil_refund(self, receipt_id: str) -> None:
        """Make what went back a word."""
        self._change(receipt_id)["erstattet"] = [{"betrag": "zwölf"}]

    def hook(self, receipt_id: str) -> HookRequest:
        """Return a signed request with the order as it is now."""
        return self.joint_hook([receipt_id])

    def joint_hook(self, receipt_ids: Sequence[str]) -> HookRequest:
        """Return a signed request with several orders as they are now."""
        orders = [self._orders[receipt_id] for receipt_id in receipt_ids]
        body = json.dumps({"bons": orders}, ensure_ascii=False).encode()
        return HookRequest("POST", {"x-signature": BodyHmac(_SECRET).sign(body)}, {}, body)

    def forget_secret(self, connector: Connector[BaseModel]) -> None:
        """Take the secret out of the settings."""
        connector.settings = connector.settings.model_copy(update={"secret": None})

    def forge(self, hook: HookRequest) -> HookRequest:
        """Return the same request, signed with a guessed secret."""
        return HookRequest(hook.method, {"x-signature": BodyHmac("guessed").sign(hook.body)}, {}, hook.body)


def _with_comma(amount: Money) -> str:
    return amount.decimal.replace(".", ",")


def _text(quantity: Decimal) -> str:
    return f"{quantity.normalize():f}".replace(".", ",")

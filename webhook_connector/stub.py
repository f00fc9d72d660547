"""A small fictional till that sends JSON with local times and decimal commas, as the conformance suite drives it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any
from zoneinfo import ZoneInfo

import httpx

from connector_sdk.hooks import HookRequest
from connector_sdk.money import Money
from connector_sdk.sale import Customer
from connector_sdk.signatures import BodyHmac
from connector_sdk.testing import Sold, TillStub
from webhook_connector.connector import WebhookConnector

_SECRET = "a secret of the stub"  # noqa: S105 - of the stub only


class WebhookStub(TillStub):
    connector = WebhookConnector
    zone = "Europe/Madrid"
    currency = "EUR"
    customers = (Customer(phone="+34600111222"), Customer(email="anna@example.com"))
    till_has_no = {  # noqa: RUF012 - a class variable, declared so by the base
        "refused_token": "nobody is asked: the till only sends",
        "old_hook": "the proof that most tills have, a signature of the body, has no time",
    }

    def __init__(self) -> None:
        self._orders: dict[str, dict[str, Any]] = {}

    def settings(self) -> Mapping[str, str]:
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
        return httpx.MockTransport(lambda _request: httpx.Response(500))

    def sell(self, sold: Sold) -> str:
        receipt, who = str(len(self._orders) + 1), sold.customer or Customer()
        tip = sold.tip or Money.zero(self.currency)
        self._orders[receipt] = {
            "nr": receipt,
            "stand": 1,
            "status": "offen" if sold.open else "bezahlt",
            "zeit": sold.at.astimezone(ZoneInfo(self.zone)).strftime("%d.%m.%Y %H:%M:%S"),
            "summe": _comma(sold.paid + tip),
            "trinkgeld": _comma(tip),
            "erstattet": [],
            "gast": {"telefon": who.phone, "mail": who.email},
            "gutscheine": [sold.redeem_code] if sold.redeem_code else [],
        }
        return receipt

    def _change(self, receipt_id: str, **more: Any) -> None:
        kept = self._orders[receipt_id]
        self._orders[receipt_id] = {**kept, **more, "stand": kept["stand"] + 1}

    def correct(self, receipt_id: str, paid: Money) -> None:
        self._change(receipt_id, summe=_comma(paid))

    def refund(self, receipt_id: str, amount: Money | None = None) -> None:
        kept = self._orders[receipt_id]
        back = _comma(amount) if amount is not None else kept["summe"]
        self._change(receipt_id, erstattet=[*kept["erstattet"], {"betrag": f"-{back}"}])

    def void(self, receipt_id: str) -> None:
        self._change(receipt_id, status="storniert")

    def spoil(self, receipt_id: str) -> None:
        self._change(receipt_id, summe="zwölf")

    def hook(self, receipt_id: str) -> HookRequest:
        body = json.dumps({"bons": [self._orders[receipt_id]]}, ensure_ascii=False).encode()
        return HookRequest("POST", {"x-signature": BodyHmac(_SECRET).sign(body)}, {}, body)

    def forge(self, hook: HookRequest) -> HookRequest:
        return HookRequest(hook.method, {"x-signature": BodyHmac("guessed").sign(hook.body)}, {}, hook.body)


def _comma(amount: Money) -> str:
    return amount.decimal.replace(".", ",")

"""Samovar, the made-up till of the how-tos: its connector is made of the pages' own blocks, its stub is written here.

Owns what the pages leave out: imports, settings of the till, and a stand-in that answers as the pages say.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

import httpx
from pydantic import BaseModel, SecretStr

from connector_sdk import Connector, Customer, Grant, HookRequest, Money
from connector_sdk.signatures import BodyHmac
from connector_sdk.testing import Fault, Faulty, Sold, SoldLine, TillStub
from tests.docs.steps import blocks

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
IMPORTS = """
from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cached_property
from urllib.parse import quote, urlencode

import httpx
from connector_sdk import *
from connector_sdk import token_endpoint
from connector_sdk.authorisation import Credentials
from connector_sdk.json_text import Json, encode_json, parse_json
from connector_sdk.signatures import BodyHmac
from pydantic import BaseModel, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

API_URL = "https://api.samovar.invalid"
STATES = {"OPEN": SaleStatus.open, "DONE": SaleStatus.closed, "CANCELLED": SaleStatus.voided}
"""
CLASS = """
class SamovarConnector(Connector[SamovarSettings]):
    info = ConnectorInfo(name="samovar", title="Samovar", hook_address=HookAddress.operator)

    async def aclose(self) -> None:
        await self._client.aclose()

    async def check(self) -> TillAccount:
        return TillAccount(**await self._client.read("account"))
"""
SECRET, CLIENT_SECRET = "secret-of-the-application", "secret-of-the-client"


def load() -> ModuleType:
    """Make the connector's module of the blocks of the pages: those that are indented belong into its class."""
    found = [block.text for page in ("oauth", "refunds", "thin-hooks") for block in blocks(HOWTO / f"{page}.md")
             if block.language == "python"]  # fmt: skip
    outside = [text for text in found if not text.startswith(" ")]
    inside = [text for text in found if text.startswith(" ")]
    module = ModuleType("samovar_of_the_pages")
    sys.modules[module.__name__] = module  # dataclasses and pydantic look for the module of a class
    source = "\n\n".join([IMPORTS, *outside, CLASS, *inside])
    exec(compile(source, "the how-tos", "exec"), vars(module))
    return module


SAMOVAR = load()


class SamovarStub(TillStub):
    """One account of Samovar, which is opened by consent only."""

    connector: ClassVar[type[Connector[BaseModel]]] = SAMOVAR.SamovarConnector
    zone = "Europe/Istanbul"
    page_size = 3
    customers = (Customer(phone="+905321112233"),)
    products = ("latte", "simit")
    till_has_no: ClassVar[Mapping[str, str]] = {
        "venue_zones": "Samovar has one venue an account",
        "venue_opened": "Samovar has one venue an account",
        "redeem_code": "Samovar has no field for codes",
        "paid_by_other_means": "Samovar takes money only",
        "gift_card_bought": "Samovar sells no gift cards",
        "old_hook": "its signatures have no time",
        "joint_hook": "each event is about one receipt",
        "refused_token": "the account is opened by consent only",
    }

    def __init__(self) -> None:
        self.currency = "TRY"
        self._receipts: dict[str, dict[str, Any]] = {}
        self._access = {"access-0": True}
        self._refresh = {"refresh-0": True}
        self._codes: set[str] = set()
        self._api = Faulty(httpx.MockTransport(self._answer))

    def settings(self) -> Mapping[str, str]:
        return {}

    def app(self) -> Any:
        return SAMOVAR.SamovarApp(
            application_id="app", application_secret=SecretStr(CLIENT_SECRET), hook_secret=SecretStr(SECRET)
        )

    def grant(self) -> Grant:
        secrets = {"access_token": SecretStr("access-0"), "refresh_token": SecretStr("refresh-0")}
        return Grant(secrets, datetime.now(UTC) + timedelta(days=30))

    def trade_in(self, currency: str) -> None:
        self.currency = currency

    # --- consent ------------------------------------------------------------------------------------------------------

    def consent(self, url: str) -> Mapping[str, str]:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
        self._codes.add("code-1")
        return {"code": "code-1", "state": asked["state"]}

    def expire_access(self) -> None:
        self._access.clear()

    def revoke_access(self) -> None:
        self._access.clear()
        self._refresh.clear()

    def _trade(self, form: Mapping[str, str]) -> httpx.Response:
        if form["client_secret"] != CLIENT_SECRET:
            return httpx.Response(401, json={"error": "invalid_client"})
        if form["grant_type"] == "refresh_token":
            good = self._refresh.pop(form["refresh_token"], False)  # each is good once
        else:
            good = form.get("code", "") in self._codes
            self._codes.discard(form.get("code", ""))
        if not good:
            return httpx.Response(400, json={"error": "invalid_grant"})
        access, refresh = f"access-{len(self._access) + 1}x", f"refresh-{datetime.now(UTC).timestamp()}"
        self._access[access] = self._refresh[refresh] = True
        return httpx.Response(200, json={"access_token": access, "refresh_token": refresh, "expires_in": 86400})

    # --- the cashier --------------------------------------------------------------------------------------------------

    def sell(self, sold: Sold) -> str:
        number = f"2-{1001 + len(self._receipts)}"
        tip = sold.tip or Money.zero(self.currency)
        self._receipts[number] = {
            "number": number,
            "type": "SALE",
            "of": None,
            "state": "OPEN" if sold.open else "DONE",
            "changed": sold.at.isoformat(),
            "closed": None if sold.open else sold.at.isoformat(),
            "total": (sold.paid + tip).decimal,
            "tip": tip.decimal,
            "phone": sold.customer.phone if sold.customer else None,
            "lines": [_line(f"L{at}", line) for at, line in enumerate(sold.lines)],
        }
        return number

    def correct(self, receipt_id: str, paid: Money) -> None:
        self._change(receipt_id, total=paid.decimal, tip="0")

    def attach(self, receipt_id: str, customer: Customer) -> None:
        self._change(receipt_id, phone=customer.phone)

    def void(self, receipt_id: str) -> None:
        self._change(receipt_id, state="CANCELLED")

    def spoil(self, receipt_id: str) -> None:
        self._change(receipt_id, total="much")

    def _change(self, number: str, **facts: Any) -> None:
        self._receipts[number] = {**self._receipts[number], **facts, "changed": datetime.now(UTC).isoformat()}

    def refund(self, receipt_id: str, amount: Money | None = None, at: datetime | None = None) -> None:
        receipt = self._receipts[receipt_id]
        total, tip = (amount.decimal, "0") if amount else (receipt["total"], receipt["tip"])
        self._return(receipt_id, total, tip, [], at)

    def return_line(self, receipt_id: str, line: SoldLine) -> None:
        (of,) = (sold["id"] for sold in self._receipts[receipt_id]["lines"] if sold["product"] == line.product_id)
        self._return(receipt_id, "1", "0", [{**_line("R0", line), "of": of}])

    def _return(self, of: str, total: str, tip: str, lines: list[dict[str, Any]], at: datetime | None = None) -> None:
        number = f"2-{1001 + len(self._receipts)}"
        when = (at or datetime.now(UTC)).isoformat()
        self._receipts[number] = {
            **self._receipts[of], "number": number, "type": "RETURN", "of": of, "changed": when, "closed": when,
            "total": total, "tip": tip, "lines": lines,
        }  # fmt: skip

    def spoil_refund(self, receipt_id: str) -> None:
        for raw in self._receipts.values():
            if raw["of"] == receipt_id:
                raw["total"] = "much"

    # --- hooks --------------------------------------------------------------------------------------------------------

    def hook(self, receipt_id: str) -> HookRequest:
        return self._event({"event": "receipt.closed", "account": "S1", "receipt": receipt_id})

    def refund_hook(self, receipt_id: str) -> HookRequest:
        number = next(raw["number"] for raw in self._receipts.values() if raw["of"] == receipt_id)
        return self._event({"event": "receipt.returned", "account": "S1", "receipt": number})

    def forge(self, hook: HookRequest) -> HookRequest:
        return HookRequest("POST", {"x-samovar-signature": BodyHmac("guessed").sign(hook.body)}, {}, hook.body)

    def forget_secret(self, connector: Connector[BaseModel]) -> None:
        connector.app = connector.app.model_copy(update={"hook_secret": None})

    def _event(self, event: dict[str, str]) -> HookRequest:
        body = json.dumps(event).encode()
        return HookRequest("POST", {"x-samovar-signature": BodyHmac(SECRET).sign(body)}, {}, body)

    # --- the API ------------------------------------------------------------------------------------------------------

    def transport(self) -> httpx.AsyncBaseTransport:
        return self._api

    def fail_next(self, fault: Fault, times: int = 1) -> None:
        self._api.fail(fault, times)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path == "/oauth/token":
            form = {name: values[0] for name, values in parse_qs(request.content.decode()).items()}
            return self._trade(form)
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in self._access:
            return httpx.Response(401, json={})
        if path == "/account":
            account = {"id": "S1", "name": "Samovar", "currency": self.currency, "zone": self.zone}
            return httpx.Response(200, json=account)
        if path == "/receipts":
            return httpx.Response(200, json=self._page(request.url.params))
        receipt = self._receipts.get(path.removeprefix("/receipts/"))
        return httpx.Response(200, json=receipt) if receipt else httpx.Response(404, json={})

    def _page(self, params: httpx.QueryParams) -> dict[str, Any]:
        since = datetime.fromisoformat(params["changed_from"])
        dated = [(datetime.fromisoformat(raw["changed"]), number) for number, raw in self._receipts.items()]
        numbers = [number for at, number in sorted(dated) if at >= since]
        start = int(params.get("cursor", "0"))
        end = start + self.page_size
        following = str(end) if end < len(numbers) else None
        return {"receipts": [self._receipts[number] for number in numbers[start:end]], "next": following}


def _line(identifier: str, line: SoldLine) -> dict[str, Any]:
    quantity = line.quantity
    return {
        "id": identifier,
        "product": line.product_id,
        "quantity": float(quantity) if quantity % 1 else int(quantity),
    }

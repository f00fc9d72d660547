"""Every connector's mapping against bodies that nobody would send: never an unhandled exception, never a wrong amount.

500 bodies each in the ordinary run; `make fuzz` tries 10,000.
"""

from __future__ import annotations

import copy
import json
import os
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from connector_sdk import BadPayload, Connector, HookRequest, Money, Sale, TillAccount
from connector_sdk.testing import Sold, TillStub
from poster_connector import PosterConnector
from poster_connector.mapping import sale_of as poster_sale
from poster_connector.settings import PosterSettings
from poster_connector.stub import PosterStub
from serve_connector import ServeConnector
from serve_connector.mapping import sale_of as serve_sale
from serve_connector.settings import ServeSettings
from serve_connector.stub import ServeStub
from webhook_connector import ready_made
from webhook_connector.mapping import sales_of
from webhook_connector.settings import WebhookSettings

BODIES = int(os.environ.get("FUZZ", "500"))
FUZZED = settings(max_examples=BODIES, suppress_health_check=list(HealthCheck), deadline=None)
POSTER = PosterSettings.model_validate({"access_token": "861052:0239", "card_numbers": True})
SERVE = ServeSettings.model_validate({"access_token": "x", "loyalty_codes": True})
SHOP = {"till_name": "S", "currency": "EUR", "zone": "Europe/Madrid", "secret": "12345678"}
READY = {
    ready.name: (WebhookSettings.model_validate({**ready.settings, **SHOP}), ready.sample) for ready in ready_made.ALL
}

NUMBERS = [
    "0",
    "-0",
    "1e400",
    "NaN",
    "Infinity",
    "12.505",
    "12,50",
    " 12.50 ",
    "٣",
    "9" * 60,
    "19.99",
    "0.29",
    "1000000.01",
]
TIMES = ["2026-13-01", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00"]
NESTED = st.recursive(
    st.none() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(-(10**40), 10**40),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["", "\x00", "\ud800", *NUMBERS, *TIMES]),
    st.decimals(0, 100_000, places=2).map(str),
    NESTED,
)


def paths_of(value: object, at: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Every place in a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(path for name, child in inside for path in paths_of(child, (*at, name)))]


@st.composite
def spoiled(draw: st.DrawFn, good: object) -> object:
    """A good body with one to four places replaced, left out, or said twice."""
    body = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 4))):
        path = draw(st.sampled_from(paths_of(body)[1:] or [()]))
        if not path:
            return draw(ODD)
        parent: Any = body  # it is walked by a path that was found in it
        for name in path[:-1]:
            parent = parent[name]
        if draw(st.booleans()):
            parent[path[-1]] = draw(ODD)
        elif isinstance(parent, list):
            parent.append(copy.deepcopy(parent[int(path[-1])]))
        else:
            del parent[path[-1]]
    return body


def exact(value: object, currency: str, scale: int = 0) -> Money | None:
    """The amount by another way: all digits, or nothing."""
    if isinstance(value, float | bool):
        return None
    try:
        return Money.from_decimal(Decimal(str(value)).scaleb(scale), currency)
    except InvalidOperation:
        return None


def sell(stub: TillStub) -> str:
    """Sell something to somebody; return the receipt's id."""
    return stub.sell(Sold(Money(1999, stub.currency), datetime(2026, 11, 20, 8, 15, tzinfo=UTC), stub.customers[0]))


_POSTER, _SERVE = PosterStub(), ServeStub()
POSTER_GOOD = _POSTER._account.receipts[int(sell(_POSTER))]
SERVE_GOOD = _SERVE._cafe.checks[sell(_SERVE)]


@FUZZED
@given(spoiled(POSTER_GOOD))
def test_poster(raw: Any) -> None:
    try:
        sale = poster_sale(raw, "UAH", POSTER)
    except BadPayload:
        return
    assert sale.paid == exact(raw["payed_sum"], "UAH", -2)


@FUZZED
@given(spoiled(SERVE_GOOD))
def test_serve(raw: Any) -> None:
    try:
        sale = serve_sale(raw, "EUR", SERVE)
    except BadPayload:
        return
    without = sum(
        Decimal(payment["amount"])
        for payment in raw.get("payments") or []
        if payment.get("kind") in ("gift_card", "points", "voucher")
    )
    # a gift card may have paid the tip too, and a tip may go back with the rest: neither was paid for what was bought
    off = max(Decimal(0), without - Decimal(raw.get("tip", "0")))
    paid = max(Decimal(0), Decimal(raw["total"]) - off)
    assert sale.paid == exact(paid, "EUR")
    if raw["status"] != "refunded":
        assert sale.refunded == exact(min(paid, Decimal(raw.get("refunded", "0"))), "EUR")


@pytest.mark.parametrize("name", sorted(READY))
def test_ready_made(name: str) -> None:
    chosen, sample = READY[name]

    @FUZZED
    @given(spoiled(json.loads(sample)))
    def bodies(raw: Any) -> None:
        body = json.dumps(raw).encode()
        try:
            sales, unreadable = sales_of(body, chosen)
        except BadPayload:
            return
        for record in unreadable:
            assert record.where
            assert record.why
        for sale in sales:
            _is_as_sent(sale, json.loads(body, parse_float=str, parse_int=str), name)

    bodies()


def _is_as_sent(sale: Sale, raw: dict[str, Any], name: str) -> None:
    paid = raw["total"] if name == "woocommerce" else raw["total_price"]
    tip = "0" if name == "woocommerce" else raw.get("total_tip_received") or "0"
    added = _total(paid) - _total(tip)
    assert sale.paid == exact(added, "EUR")


def _total(value: str | list[str]) -> Decimal:
    amounts = value if isinstance(value, list) else [value]
    return sum((Decimal("".join(amount.split()).replace(",", "")) for amount in amounts if amount), Decimal(0))


def _tills() -> list[Connector[Any]]:
    account = TillAccount(id="a", name="A", currency="EUR", zone="Europe/Madrid")
    poster, serve = PosterStub(), ServeStub()
    return [
        PosterConnector(POSTER, app=poster.app(), account=account, transport=poster.transport()),
        ServeConnector(SERVE, app=serve.app(), account=account, transport=serve.transport()),
    ]


TILLS = _tills()


@FUZZED
@given(st.binary(max_size=300) | ODD.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_at_all(body: bytes) -> None:
    for till in TILLS:
        try:
            till.receive(HookRequest("POST", {}, {}, body))
        except BadPayload:
            continue
    for chosen, _ in READY.values():
        try:
            sales_of(body, chosen)
        except BadPayload:
            continue

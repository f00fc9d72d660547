"""Mappings: which paths are allowed, how texts become money and times, and what does not fit is said with its field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from connector_sdk import BadPayload, Money, Sale, SaleStatus, expressions
from connector_sdk.expressions import compile_path, parse_json
from webhook_connector.mapping import sales_of
from webhook_connector.settings import WebhookSettings

BASE = {
    "till_name": "Bar",
    "currency": "EUR",
    "zone": "Europe/Madrid",
    "proof": "address",
    "map_receipt_id": "id",
    "map_closed_at": "at",
    "map_paid": "total",
    "map_phone": "phone",
}
BODY = {"id": 7, "at": "2026-11-20T08:15:30Z", "total": 12.50, "phone": "+34600111222"}


def settings(**changes: str) -> WebhookSettings:
    return WebhookSettings.model_validate(BASE | changes)


def mapped(body: object, **changes: str) -> Sale:
    """The one sale of a request."""
    (sale,), unreadable = sales_of(json.dumps(body).encode(), settings(**changes))
    assert unreadable == []
    return sale


def refused(body: object, **changes: str) -> tuple[str, str]:
    """Which field of a request does not fit, and why."""
    sales, (unreadable,) = sales_of(json.dumps(body).encode(), settings(**changes))
    assert sales == []
    return unreadable.where, unreadable.why


@pytest.mark.parametrize(
    "path",
    ["id", "order.id", "orders[0].id", "refunds[].amount", "a || b.c", "\"with space\".x", "*.amount",
     "r[?kind=='refund'].amount", "r[?kind=='refund' && ok!='no'].amount[]", "@"],
)  # fmt: skip
def test_paths_indexes_projections_text_filters_and_alternatives_are_allowed(path: str) -> None:
    compile_path(path)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("length(@)", "no functions"),
        ("sum(refunds[].amount)", "no functions"),
        ("[id, total]", "no lists of paths"),
        ("{a: id}", "no made-up objects"),
        ("a | b", "no pipes"),
        ("a || 'EUR'", "no fixed values"),
        ("a[0:2]", "no slices"),
        ("a && b", "no `&&` outside a filter"),
        ("!a", "no negations"),
        ("a == 'b'", "no comparisons"),
        ("a[?n > `5`]", "with a text only"),
        ("a[?n == `5`]", "numbers are texts here"),
        ("a[?length(n) == 'x']", "no functions"),
        ("a[?contains(n, 'x')]", "with a text only"),
        ("a[", "this is no path"),
        ("a..b", "this is no path"),
        ("x" * 301, "at most 300 characters"),
        ("(" * 140 + "a" + ")" * 140, ""),
    ],
)
def test_everything_else_is_refused_in_words(path: str, words: str) -> None:
    if not words:
        compile_path(path)  # brackets only: as deep as the length allows, and no harm
        return
    with pytest.raises(ValueError, match=r".") as caught:
        compile_path(path)
    assert words in str(caught.value)
    with pytest.raises(ValidationError):
        settings(map_version=path)


def test_a_path_that_costs_too_much_to_follow_is_refused_by_its_name() -> None:
    costly = "x[?" + "||".join(["a=='b'"] * 30) + "]||id"
    body = {**BODY, "x": [{"a": "c"}] * 10_000}
    where, why = refused(body, map_receipt_id=costly)
    assert where == "receipt_id"
    assert costly in why
    assert mapped({**BODY, "x": [{"a": "c"}] * 100}, map_receipt_id=costly).receipt_id == "7"


@pytest.mark.parametrize(
    ("value", "changes", "minor"),
    [
        (12.5, {}, 1250),
        ("12.50", {}, 1250),
        (19.99, {}, 1999),
        (0.29, {}, 29),
        ("1,234.50", {}, 123_450),
        ("1.234,50", {"decimal_sign": "comma"}, 123_450),
        ("1 234,50", {"decimal_sign": "comma"}, 123_450),
        ("12,5", {"decimal_sign": "comma"}, 1250),
        (1250, {"units": "minor"}, 1250),
        ([1.10, "2.20", 3.30], {}, 660),
        (["0.10"] * 30, {}, 300),
        (1250, {"currency": "JPY"}, 1250),
        ("1.234", {"currency": "KWD"}, 1234),
    ],
)
def test_amounts_are_exact(value: object, changes: dict[str, str], minor: int) -> None:
    currency = changes.get("currency", "EUR")
    assert mapped(BODY | {"total": value}, **changes).paid == Money(minor, currency)


@pytest.mark.parametrize(
    ("value", "changes"),
    [
        ("12,50", {}), ("1,23,4.5", {}), ("1e2", {}), ("12.505", {}), ("€12.50", {}), ("", {}), (None, {}), (True, {}),
        ({"a": 1}, {}), ("-3.00", {}), ("12.50", {"units": "minor"}), ("12.50", {"decimal_sign": "comma"}),
        (["1.00", "x"], {}), ("NaN", {}), ("٣", {}), ("9" * 40, {}), ("12.5", {"currency": "JPY"}),
    ],
)  # fmt: skip
def test_what_is_no_amount_is_refused_with_its_field(value: object, changes: dict[str, str]) -> None:
    where, why = refused(BODY | {"total": value}, **changes)
    assert where == "paid"
    assert why


def test_a_total_as_text_says_what_was_found() -> None:
    assert refused(BODY | {"total": "twelve"}) == ("paid", "“twelve” is no number with a decimal dot")


@pytest.mark.parametrize("field", ["map_paid", "map_closed_at", "map_version", "map_refunded", "map_tip"])
@pytest.mark.parametrize("somebody", ["anna@example.com", "+34 600-111-222", "600/111222", "123456x"])
def test_a_path_that_leads_to_somebody_by_mistake_tells_nobody(field: str, somebody: str) -> None:
    _, why = refused(BODY | {"who": somebody}, **{field: "who"})
    assert why.startswith("what was found is")
    assert somebody not in why


@pytest.mark.parametrize(
    ("text", "changes", "iso"),
    [
        ("2026-11-20T08:15:30Z", {}, "2026-11-20T08:15:30+00:00"),
        ("2026-11-20T09:15:30+01:00", {}, "2026-11-20T08:15:30+00:00"),
        ("2026-11-20 09:15:30", {}, "2026-11-20T08:15:30+00:00"),
        ("2026-07-20 10:15:30", {}, "2026-07-20T08:15:30+00:00"),
        ("2026-11-20 08:15:30", {"dates_zone": "UTC"}, "2026-11-20T08:15:30+00:00"),
        (1795162530, {"dates": "unix"}, "2026-11-20T08:15:30+00:00"),
        (1795162530123, {"dates": "unix_ms"}, "2026-11-20T08:15:30.123000+00:00"),
        ("20.11.2026 09:15", {"dates": "pattern", "date_pattern": "%d.%m.%Y %H:%M"}, "2026-11-20T08:15:00+00:00"),
    ],
)
def test_times_in_their_ways_and_zones(text: object, changes: dict[str, str], iso: str) -> None:
    closed_at = mapped(BODY | {"at": text}, **changes).closed_at
    assert closed_at is not None
    assert closed_at.isoformat() == iso


@pytest.mark.parametrize("text", ["yesterday", "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00", "1e400", 5])
def test_what_is_no_time_is_refused_with_its_field(text: object) -> None:
    for dates in ("iso", "unix", "unix_ms"):
        if not (dates != "iso" and text == 5):
            assert refused(BODY | {"at": text}, dates=dates)[0] == "closed_at"


def test_statuses() -> None:
    chosen = {
        "map_status": "s",
        "closed_statuses": "paid, done",
        "refunded_statuses": "refunded",
        "voided_statuses": "void",
    }
    where, why = refused(BODY | {"s": "completed"}, **chosen)  # another word for paid, perhaps: a person says
    assert (where, why) == ("status", "“completed” is a word that nobody has explained")
    chosen["open_statuses"] = "Waiting"
    by_status = {word: mapped(BODY | {"s": word}, **chosen) for word in ("Paid", "done", "refunded", "void", "waiting")}
    assert [sale.status for sale in by_status.values()] == [
        SaleStatus.closed, SaleStatus.closed, SaleStatus.closed, SaleStatus.voided, SaleStatus.open,
    ]  # fmt: skip
    assert by_status["refunded"].refunded == by_status["refunded"].paid == Money(1250, "EUR")


def test_several_receipts_in_one_request_and_one_of_them_bad() -> None:
    body = json.dumps({"orders": [BODY, BODY | {"id": 8, "total": None}, "x", BODY | {"id": 9}]}).encode()
    sales, unreadable = sales_of(body, settings(map_receipts="orders"))
    assert [sale.receipt_id for sale in sales] == ["7", "9"]
    assert [(record.receipt_id, record.where, record.why) for record in unreadable] == [
        ("8", "paid", "nothing is at total"),
        (None, "receipt", "is not an object"),
    ]
    assert unreadable[0].body == body


def test_tips_other_currencies_and_lists_where_one_value_is_wanted() -> None:
    assert mapped(BODY | {"tip": "2.00"}, map_tip="tip").paid == Money(1050, "EUR")
    assert refused(BODY | {"tip": "20.00"}, map_tip="tip") == ("tip", "is more than was paid")
    assert refused(BODY | {"c": "USD"}, map_currency="c") == ("currency", "is not EUR")
    assert refused(BODY | {"ids": [1, 2]}, map_receipt_id="ids[]") == ("receipt_id", "2 values are at ids[]")
    assert mapped(BODY | {"ids": [1, None, 1]}, map_receipt_id="ids[]").receipt_id == "1"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        (b"{", "body"),
        (b"[" * 70 + b"]" * 70, "body"),
        (b"[" * 100_000, "body"),
        (b'{"a": NaN}', "body"),
        (b"\xff", "body"),
    ],
)
def test_bodies_that_cannot_be_read(body: bytes, where: str) -> None:
    with pytest.raises(BadPayload) as caught:
        parse_json(body)
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"map_phone": ""}, "map_phone: say where the customer's phone"),
        ({"map_paid": ""}, "map_paid: this is needed"),
        ({"proof": "hmac"}, "secret: this proof needs a secret"),
        ({"proof": "hmac", "secret": "12345678"}, "proof_header: say which header"),
        ({"proof": "basic", "secret": "12345678"}, "proof_user"),
        ({"proof": "standard", "secret": "not base64!"}, "secret: it is base64"),
        ({"zone": "Mars/Base"}, "this is no time zone"),
        ({"map_lines": "items"}, "map_product"),
        ({"currency": "euro"}, "currency"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_words(changes: dict[str, str], words: str) -> None:
    with pytest.raises(ValidationError) as caught:
        settings(**changes)
    assert words in str(caught.value)


def test_what_many_receipts_cost_together_is_one_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    """The id of a receipt that costs too much is not followed once more for each of five hundred."""
    visits = 0
    visit = expressions._CountingInterpreter.visit

    # a node of a parsed path has no public type
    def counted(interpreter: expressions._CountingInterpreter, node: Any, *args: object, **kwargs: object) -> object:
        nonlocal visits
        visits += 1
        return visit(interpreter, node, *args, **kwargs)

    monkeypatch.setattr(expressions._CountingInterpreter, "visit", counted)
    costly = "x[?" + "||".join(["a!=b"] * 40) + "]||id"
    settings = WebhookSettings.model_validate(BASE | {"map_receipts": "all", "map_receipt_id": costly})
    row = {
        "id": "1",
        "x": [{"a": "1", "b": "1"}] * 100,
        "at": "2026-11-20T08:15:30Z",
        "total": "3.00",
        "phone": "600111222",
    }
    sales, unreadable = sales_of(json.dumps({"all": [row] * 200}).encode(), settings, expressions.Budget(50_000))
    assert len(sales) + len(unreadable) == 200
    assert visits < 55_000


def test_large_values_are_not_compared_with_each_other() -> None:
    assert expressions.follow_path("x[?a==b].id", {"x": [{"a": [1], "b": [1], "id": "1"}]}) == []
    assert expressions.follow_path("x[?a=='b'].id", {"x": [{"a": "b", "id": "1"}]}) == ["1"]
    assert expressions.follow_path("x[?a!='b'].id", {"x": [{"a": None, "id": "1"}]}) == ["1"]

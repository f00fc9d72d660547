"""Teaching by one request: what can be tapped becomes a path that reads it, formats are seen, nothing ever raises."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from connector_sdk.expressions import compile_path, follow_path, parse_json
from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Catalogue
from connector_sdk.signatures import BodyHmac, StandardWebhooks
from connector_sdk.teaching import ReadyMade
from webhook_connector import ready_made
from webhook_connector.teaching import TEACHING

ENGLISH = Catalogue(["connectors", "webhook_connector"])
SECRET = "dGhpcyBpcyBhIHNlY3JldA=="
ORDER: dict[str, object] = {
    "id": 1042,
    "total": "12,50",
    "done on": "24.11.2026 09:15:30",
    "state": "bezahlt",
    "guest": {"phone": "+34600111222"},
    "refunds": [{"value": "1,00"}, {"value": "0,50"}],
    "attributes": [{"key": "shift", "value": "early"}, {"key": "mail", "value": "anna@example.com"}],
    "payments": [{"sum": "12,50"}],
}
BODY = {"kind": "sale", "order": ORDER}


def sent(body: object) -> bytes:
    return json.dumps(body).encode()


def path_to(value: str, field: str, body: object = BODY, **values: str) -> str:
    return next(leaf.path for leaf in TEACHING.leaves(values, sent(body), field) if leaf.value == value)


def test_a_tap_becomes_a_path_that_leads_to_what_was_tapped() -> None:
    assert path_to("1042", "map_receipt_id") == "order.id"
    assert path_to("24.11.2026 09:15:30", "map_closed_at") == 'order."done on"'
    assert path_to("1,00", "map_refunded") == "order.refunds[].value"  # a list of amounts is added up
    assert path_to("anna@example.com", "map_email") == "order.attributes[?key=='mail'].value"
    assert path_to("done", "map_status", {"payments": [{"state": "done"}]}) == "payments[0].state"
    for leaf in TEACHING.leaves({}, sent(BODY), "map_phone"):
        value = follow_path(leaf.path, parse_json(sent(BODY)))
        assert leaf.value in (value if isinstance(value, list) else [value])


def test_what_looks_like_the_answer_is_pointed_out() -> None:
    for field, value in {
        "map_receipt_id": "1042", "map_paid": "12,50", "map_phone": "+34600111222", "map_status": "bezahlt",
    }.items():  # fmt: skip
        likely = [leaf.value for leaf in TEACHING.leaves({}, sent(BODY), field) if leaf.likely]
        assert likely[0] == value, field
    assert not any(leaf.likely for leaf in TEACHING.leaves({}, sent({"phone": "n/a"}), "map_phone"))


def test_several_receipts_in_one_request_are_asked_for_and_paths_begin_within_one() -> None:
    receipt = {"no": "1", "sum": "3.00", "at": "2026-11-20T08:15:30Z"}
    receipts = [receipt, {**receipt, "no": "2", "sum": "4.00"}]
    body = {"shop": "1", "receipts": receipts}
    assert TEACHING.questions({}, sent(body))[0].field == "map_receipts"
    assert TEACHING.questions({}, sent(BODY))[0].field == "map_receipt_id"
    (several,) = TEACHING.leaves({}, sent(body), "map_receipts")
    assert (several.path, several.value) == ("receipts", "2")
    assert path_to("1", "map_receipt_id", body, map_receipts="receipts") == "no"
    assert path_to("1", "map_receipt_id", receipts) == "no"  # a request that is a list itself
    unnamed = {"data": receipts, "page": "1"}
    assert TEACHING.questions({}, sent(unnamed))[0].field == "map_receipts"
    # answered as if there were one: only the first would be read, and everybody's sums added up
    values = {"map_receipt_id": "data[0].no", "map_paid": "data[].sum", "map_closed_at": "data[0].at", "map_phone": "x"}
    made = TEACHING.sketch(values, sent(unnamed))
    assert made.sales == ()
    assert "only the first of them would be read" in ENGLISH.word(made.wrong["map_receipts"])


def test_a_path_is_never_told_apart_by_whose_it_is() -> None:
    body = {"people": [{"name": "Anna Smith", "phone": "+34600111222"}, {"name": "Bob Waiter", "phone": "1"}],
            "codes": [{"code": "600111222", "v": "a"}, {"code": "600111333", "v": "b"}],
            "kinds": [{"type": "guest", "name": "A", "v": "7"}, {"type": "staff", "name": "B", "v": "8"}]}  # fmt: skip
    paths = {leaf.value: leaf.path for leaf in TEACHING.leaves({}, sent(body), "map_phone")}
    assert paths["+34600111222"] == "people[0].phone"
    assert paths["a"] == "codes[0].v"
    assert paths["7"] == "kinds[?type=='guest'].v"


def test_odd_texts_are_read_within_bounds() -> None:
    """Each of these once took minutes, or would have taken hours; how work grows is in `tests/growth`."""
    long = {"date": "1" * 100_000 + "\nx", "total": "1" * 100_000 + "x", "phone": "1 " * 50_000 + "x"}
    many = {"all": [{"key": f"k{number}", "n" * 300: "1", "b": "2", "c": "3"} for number in range(600)]}
    for body in (long, many, {"l": [many["all"]] * 30}):
        for field in FIELDS:
            for leaf in TEACHING.leaves({}, sent(body), field)[:5]:
                TEACHING.taken({}, sent(body), field, leaf.path)
    assert len(TEACHING.leaves({}, sent(many), "map_paid")) <= 400
    with pytest.raises(ValueError, match="at most 12 lists"):
        compile_path("l" + "[]" * 13)


@pytest.mark.parametrize(
    ("field", "value", "formats"),
    [
        ("map_paid", "12,50", {"decimal_sign": "comma", "units": "major"}),
        ("map_paid", "1.234,50", {"decimal_sign": "comma"}),
        ("map_paid", "12.50", {"decimal_sign": "dot"}),
        ("map_closed_at", "1763622930", {"dates": "unix"}),
        ("map_closed_at", "1763622930123", {"dates": "unix_ms"}),
        ("map_closed_at", "24.11.2026 09:15", {"dates": "pattern", "date_pattern": "%d.%m.%Y %H:%M"}),
        ("map_closed_at", "2026-11-24T09:15:30Z", {"dates": "iso"}),
        ("map_status", "paid", {"closed_statuses": "paid"}),
    ],
)
def test_formats_are_seen_from_what_was_tapped(field: str, value: str, formats: dict[str, str]) -> None:
    made = TEACHING.taken({}, sent({"x": value}), field, "x")
    assert {name: made[name] for name in formats} == formats


@pytest.mark.parametrize(
    "value",
    ["12.50", "9,5", "1250", "2026-11-24T09:15:30Z", "24.11.2026", "R-10422", "+34600111222", "anna@example.org"],
)
def test_what_every_receipt_has_of_its_own_cannot_be_the_status(value: str) -> None:
    body = {"x": value, "state": "paid", "code": 2}
    assert [leaf.path for leaf in TEACHING.leaves({}, sent(body), "map_status")] == ["state", "code"]
    assert TEACHING.taken({"zone": "UTC"}, sent(body), "map_status", "x") == {"zone": "UTC"}
    # of other questions it may be the answer
    assert "x" in [leaf.path for leaf in TEACHING.leaves({}, sent(body), "map_receipt_id")]


def taught() -> dict[str, str]:
    values: dict[str, str] = {"currency": "EUR", "zone": "Europe/Madrid"}
    for field, value in {
        "map_receipt_id": "1042", "map_paid": "12,50", "map_closed_at": "24.11.2026 09:15:30",
        "map_phone": "+34600111222", "map_status": "bezahlt", "map_refunded": "1,00",
    }.items():  # fmt: skip
        values = dict(TEACHING.taken(values, sent(BODY), field, path_to(value, field, BODY, **values)))
    return values


def test_six_taps_make_a_sale() -> None:
    (sale,) = TEACHING.sketch(taught(), sent(BODY)).sales
    assert (sale.receipt_id, str(sale.paid), str(sale.refunded)) == ("1042", "12.50 EUR", "1.50 EUR")
    assert sale.closed_at == datetime(2026, 11, 24, 8, 15, 30, tzinfo=UTC)
    assert sale.customer is not None
    assert sale.customer.phone == "+34600111222"


def test_what_is_missing_or_wrong_is_said_by_field_with_what_was_found() -> None:
    wrong = TEACHING.sketch({}, sent(BODY)).wrong
    assert set(wrong) == {"map_receipt_id", "map_paid", "map_closed_at", "map_phone"}
    made = TEACHING.sketch({**taught(), "map_paid": "order.state", "map_receipt_id": "order.nothing"}, sent(BODY))
    words = {field: ENGLISH.word(why) for field, why in made.wrong.items()}
    assert words == {
        "map_paid": "“bezahlt” is no number with a decimal comma",
        "map_receipt_id": "nothing is at order.nothing",
    }
    assert made.found["map_status"] == "closed"  # each field by itself
    assert ENGLISH.word(TEACHING.sketch(taught(), b"<html>").wrong[""]) == "is not JSON"


@pytest.mark.parametrize(
    ("sent_as", "asked", "readings"),
    [
        (1250, "units", {"major": "1250.00 EUR", "minor": "12.50 EUR"}),
        ("1.250", "decimal_sign", {"dot": "1.25 EUR", "comma": "1250.00 EUR"}),
        ("12.50", None, {}),
        ("1.234,50", None, {}),
        ("7", None, {}),
    ],
)
def test_an_amount_that_may_be_two_is_asked_about(sent_as: object, asked: str | None, readings: dict[str, str]) -> None:
    body = sent({"order": {**ORDER, "total": sent_as, "refunds": []}})
    values = dict(TEACHING.taken(taught(), body, "map_paid", "order.total"))
    questions = [question.field for question in TEACHING.questions(values, body) if question.needed]
    unanswered = [field for field in questions if not values.get(field)]
    assert unanswered == ([asked] if asked else [])
    if asked:
        assert {leaf.path: leaf.value for leaf in TEACHING.leaves(values, body, asked)} == readings
        for path, amount in readings.items():
            (sale,) = TEACHING.sketch(TEACHING.taken(values, body, asked, path), body).sales
            assert str(sale.paid) == amount


def test_answers_given_before_the_list_was_named_go_on_within_it() -> None:
    body = sent({"data": [{"no": "1", "sum": "3.00", "at": "2026-11-20T08:15:30Z"}]})
    values = {"map_receipt_id": "data[0].no", "map_paid": "data[].sum", "map_closed_at": "data[0].at", "map_phone": "x"}
    made = TEACHING.taken(values, body, "map_receipts", "data")
    assert {name: made[name] for name in values} == {
        "map_receipt_id": "no", "map_paid": "sum", "map_closed_at": "at", "map_phone": "x",
    }  # fmt: skip


def test_what_was_said_of_other_requests_counts_on_beside_what_is_said_of_this_one() -> None:
    made = TEACHING.taken({"map_paid": "order.total"}, sent({"order": {"sum": "3.00"}}), "map_paid", "order.sum")
    assert made["map_paid"] == "order.total || order.sum"
    corrected = TEACHING.taken(made, sent({"order": {"sum": "3.00", "gross": "4.00"}}), "map_paid", "order.gross")
    assert corrected["map_paid"] == "order.gross"  # a wrong tap is replaced


@pytest.mark.parametrize(
    "text",
    ["24.11.2026, 08:24", "24.11.26 08:24", "24-11-2026 08:24", "2026/11/24 08:24:00", "24/11/2026 8:24 AM",
     "20261124082400", "2026-11-24 08:24", "Tue, 24 Nov 2026 08:24:00 +0000"],
)  # fmt: skip
def test_the_ways_in_which_tills_write_times_are_seen(text: str) -> None:
    values = {**taught(), "zone": "UTC", "map_closed_at": ""}
    values = dict(TEACHING.taken(values, sent({"t": text}), "map_closed_at", "t"))
    body = sent({"order": ORDER, "t": text})
    (sale,) = TEACHING.sketch(values, body).sales
    assert sale.closed_at == datetime(2026, 11, 24, 8, 24, tzinfo=UTC)


Sign = Callable[[bytes, str], dict[str, str]]
"""Headers that prove a body by a secret."""
BASIC = "Basic " + base64.b64encode(b"till:secret").decode()


@pytest.mark.parametrize(
    ("headers", "seen"),
    [
        ({"x-sig": "a" * 64, "host": "h"}, {}),
        ({"x-signature": "a" * 64}, {"proof": "hmac", "proof_header": "x-signature", "proof_encoding": "hex"}),
        (
            {"x-wc-webhook-signature": BodyHmac(SECRET, "base64").sign(b"x")},
            {"proof": "hmac", "proof_header": "x-wc-webhook-signature", "proof_encoding": "base64"},
        ),
        ({"webhook-id": "1", "webhook-timestamp": "2", "webhook-signature": "v1,a"}, {"proof": "standard"}),
        ({"authorization": BASIC}, {"proof": "basic", "proof_user": "till"}),
        ({"authorization": "Basic !!"}, {"proof": "basic", "proof_user": ""}),
        ({"x-api-key": "abc"}, {"proof": "header", "proof_header": "x-api-key"}),
    ],
)
def test_how_a_request_seems_to_prove_itself_is_seen(headers: dict[str, str], seen: dict[str, str]) -> None:
    if seen.get("proof_header") is None and "x-sig" in headers:
        seen = {}
    assert TEACHING.proof(HookRequest("POST", headers, {}, b"x")) == seen


@pytest.mark.parametrize(
    ("values", "sign"),
    [
        ({"proof": "hmac", "proof_header": "X-Sig"}, lambda body, secret: {"x-sig": BodyHmac(secret).sign(body)}),
        ({"proof": "header", "proof_header": "X-Key"}, lambda _body, secret: {"x-key": secret}),
        (
            {"proof": "basic", "proof_user": "till"},
            lambda _body, secret: {"authorization": "Basic " + base64.b64encode(f"till:{secret}".encode()).decode()},
        ),
        (
            {"proof": "standard"},
            lambda body, secret: StandardWebhooks(secret).sign(body, "m1", datetime(2026, 1, 1, tzinfo=UTC)),
        ),
    ],
)
def test_another_secret_than_the_tills_is_noticed_however_old_the_request(values: dict[str, str], sign: Sign) -> None:
    good = {**values, "secret": SECRET}
    assert TEACHING.unproven(good, HookRequest("POST", sign(b"{}", SECRET), {}, b"{}")) is None
    other = "b3RoZXIgc2VjcmV0IQ=="
    assert TEACHING.unproven(good, HookRequest("POST", sign(b"{}", other), {}, b"{}")) is not None
    assert TEACHING.unproven(good, HookRequest("POST", {}, {}, b"{}")) is None  # it was pasted
    unsigned = TEACHING.unproven(good, HookRequest("POST", {"host": "till"}, {}, b"{}"))
    assert unsigned is not None  # connected like this, every sale of it would be refused
    assert "has no header" in ENGLISH.word(unsigned)


KEYS = st.sampled_from(["id", "total", "a b", "key", "value", "rece'ipts", "\u00e9", "", "$", "receipts", '"'])
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=5),
    max_leaves=25,
)
FIELDS = [question.field for question in TEACHING.questions({"map_receipts": "x"}, b"{}")]
VALUES = st.dictionaries(st.sampled_from([*FIELDS, "units", "dates", "currency", "zone", "decimal_sign"]), st.text())


@given(ANY, VALUES, st.sampled_from(FIELDS))
def test_no_body_and_no_settings_make_teaching_raise_and_every_path_is_allowed(
    body: object, values: dict[str, str], field: str
) -> None:
    for raw in (sent(body), json.dumps(body).encode()[:7], b"\xff"):
        TEACHING.questions(values, raw)
        for leaf in TEACHING.leaves(values, raw, field):
            compile_path(leaf.path)
            answered = TEACHING.taken(values, raw, field, leaf.path)
            TEACHING.sketch(answered, raw)
        TEACHING.sketch(values, raw)
        TEACHING.unproven(values, HookRequest("POST", {"authorization": "Basic \u00e9"}, {}, raw))


@pytest.mark.parametrize("ready", ready_made.ALL, ids=lambda ready: ready.name)
def test_ready_made_mappings_are_sketched_too(ready: ReadyMade) -> None:
    made = TEACHING.sketch({**ready.settings, "currency": "EUR", "zone": "Europe/Madrid"}, ready.sample)
    assert made.wrong == {}
    assert len(made.sales) == 1

"""The way of a Serve check, end to end: sandbox, host and 7stamp over real HTTP, pushed and read back."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from connector_sdk.money import Money
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.store import inbox
from serve_connector.sandbox import SECRET, ServeSandbox
from serve_connector.sandbox_cafe import Payment
from tests.installation import ANNA, KEY, Installation, build

EURO_1 = StampRule(kind="by_amount", amount=Money.from_decimal("1.00", "EUR"), unknown_customer=UnknownCustomer.issue)


@pytest.fixture
async def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch, serve=ServeSandbox()) as installation:
        yield installation


async def push(
    installation: Installation,
    body: bytes,
    headers: dict[str, str] | None = None,
    *,
    at: int | None = None,
    secrets: Sequence[str] = (),
) -> int:
    """Send an event to the connection's own address and return the status of the answer."""
    path = str(installation.host.services.connections.hook_url(installation.connection)).removeprefix(
        installation.host.public_url
    )
    answer = await installation.hook(
        body, path=path, headers=headers or installation.cafe.signed(body, secrets_=secrets, at=at)
    )
    return answer.status_code


async def test_a_pushed_check_becomes_stamps_without_asking_the_till(serve: Installation) -> None:
    await serve.connect(EURO_1)
    check = serve.cafe.sell("12.50", phone=ANNA, tip="1.00")
    calls = serve.cafe.calls
    assert await push(serve, serve.cafe.event(check)) == 200
    assert serve.cafe.calls == calls
    await serve.sync()
    assert serve.stamps(ANNA) == 12
    assert (serve.applied()[0]["code"]) == f"serve:acc_31:{check}:1"


async def test_what_is_read_back_is_what_was_pushed(serve: Installation) -> None:
    await serve.connect(EURO_1)
    check = serve.cafe.sell("12.50", phone=ANNA, codes=("FREECOFFEE",))
    await push(serve, serve.cafe.event(check))
    before = await serve.sync()
    assert (before["sales_seen"], before["sales_changed"]) == (1, 0)


async def test_a_partial_refund_by_amount_shrinks_the_stamps(serve: Installation) -> None:
    await serve.connect(EURO_1)
    check = serve.cafe.sell("12.50", phone=ANNA)
    await push(serve, serve.cafe.event(check))
    await serve.sync()
    serve.cafe.refund(check, "5.00")
    await push(serve, serve.cafe.event(check, "check.refunded"))
    await serve.sync()
    assert serve.stamps(ANNA) == 7


async def test_per_order_the_stamp_stays_until_the_check_is_wholly_refunded(serve: Installation) -> None:
    await serve.connect()
    check = serve.cafe.sell("12.50", phone=ANNA)
    serve.cafe.refund(check, "5.00")
    await push(serve, serve.cafe.event(check, "check.refunded"))
    await serve.sync()
    assert serve.stamps(ANNA) == 1
    serve.cafe.refund(check)
    await push(serve, serve.cafe.event(check, "check.refunded"))
    await serve.sync()
    assert serve.stamps(ANNA) == 0


async def test_a_voided_check_gives_its_stamps_back(serve: Installation) -> None:
    await serve.connect()
    check = serve.cafe.sell(phone=ANNA)
    await push(serve, serve.cafe.event(check))
    await serve.sync()
    serve.cafe.void(check)
    await push(serve, serve.cafe.event(check, "check.voided"))
    await serve.sync()
    assert serve.stamps(ANNA) == 0


async def test_revisions_that_come_out_of_order_and_twice_change_nothing(serve: Installation) -> None:
    await serve.connect(EURO_1)
    check = serve.cafe.sell("12.50", phone=ANNA)
    old = serve.cafe.event(check)
    serve.cafe.correct(check, "9.00")
    new = serve.cafe.event(check, "check.updated")
    for body in (new, old, new, old):
        assert await push(serve, body) == 200
    await serve.sync()
    assert [(operation["kind"], operation["count"]) for operation in serve.applied()] == [("stamps_added", 9)]


async def test_what_was_missed_is_read_back(serve: Installation) -> None:
    await serve.connect()
    serve.cafe.page_size = 2
    for _ in range(5):
        serve.cafe.sell(phone=ANNA)
    result = await serve.sync()
    assert result["sales_seen"] == 5
    assert serve.stamps(ANNA) == 5


async def test_a_guest_by_email_or_by_the_number_that_the_settings_allow(serve: Installation) -> None:
    await serve.connect()
    serve.cafe.sell(email="anna@example.com")
    await serve.sync()
    card = next(card for card in serve.sevenstamp.state.cards.values() if card.email == "anna@example.com")
    check = serve.cafe.open(phone=None)
    serve.cafe.checks[check]["guest"] = {"id": "g", "phone": None, "email": None, "loyalty_code": card.number}
    serve.cafe.close(check, "3.00")
    await serve.sync()
    assert len(serve.applied()) == 1
    await serve.host.services.connections.edit(serve.connection.id, {"loyalty_codes": "true"})
    serve.cafe.correct(check, "3.10")
    await serve.sync()
    assert [operation["card_id"] for operation in serve.applied()] == [card.id, card.id]


async def test_a_promo_code_uses_the_voucher(serve: Installation) -> None:
    await serve.connect()
    assert serve.host.sevenstamp is not None
    check = serve.cafe.sell("3.00", phone=ANNA, codes=("FREECOFFEE9",))
    await push(serve, serve.cafe.event(check))
    await serve.sync()
    (redemption,) = [operation for operation in await serve.operations() if operation.redeem_code]
    assert (redemption.redeem_code, redemption.receipt_id) == ("FREECOFFEE9", check)


@pytest.mark.parametrize(
    ("secrets", "seconds_ago", "status"),
    [
        ((SECRET, "another"), 0, 200),
        (("another", SECRET), 0, 200),
        (("another",), 0, 401),
        ((SECRET,), 290, 200),
        ((SECRET,), 400, 401),
        ((SECRET,), -400, 401),
    ],
)
async def test_signatures_rotate_and_do_not_keep(
    serve: Installation, secrets: tuple[str, ...], seconds_ago: int, status: int
) -> None:
    await serve.connect()
    body = serve.cafe.event(serve.cafe.sell(phone=ANNA))
    assert await push(serve, body, secrets=secrets, at=int(time.time()) - seconds_ago) == status


async def test_what_is_tampered_with_is_refused_and_the_skew_is_logged(
    serve: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    await serve.connect()
    body = serve.cafe.event(serve.cafe.sell(phone=ANNA))
    assert await push(serve, body.replace(b"12.50", b"99.50"), serve.cafe.signed(body)) == 401
    assert await push(serve, body, {"content-type": "application/json"}) == 401
    await push(serve, body, at=int(time.time()) - 4000)
    assert any("seconds old" in record.message for record in caplog.records)
    await serve.host.services.connections.edit(serve.connection.id, {"signing_secret": "another"})
    assert await push(serve, body) == 401


async def test_without_a_signing_secret_nothing_pushed_is_believed(serve: Installation) -> None:
    settings = {"access_token": serve.cafe.token}
    rule = StampRule(unknown_customer=UnknownCustomer.issue)
    serve.connection = await serve.host.services.onboarding.connect("serve", settings, KEY, lambda _account: rule)
    assert await push(serve, serve.cafe.event(serve.cafe.sell(phone=ANNA))) == 503


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"currency": "USD"}, "currency"),
        ({"total": 12.5}, "total"),
        ({"total": "12.505"}, "total"),
        ({"refunded": "-1.00"}, "refunded"),
        ({"status": "gone"}, "status"),
        ({"closed_at": "2026-11-20T08:15:30"}, "closed_at"),
        ({"revision": "3"}, "revision"),
        ({"items": [{"id": "li", "quantity": "1e400", "total": "1"}]}, "items.0.quantity"),
        ({"items": [{"id": "li", "quantity": "1e3", "total": "1"}]}, "items.0.quantity"),
        ({"items": [{"id": "li", "quantity": "1_0", "total": "1"}]}, "items.0.quantity"),
        ({"items": [{"id": "li", "quantity": " 7", "total": "1"}]}, "items.0.quantity"),
        ({"items": [{"id": "li", "quantity": "٣", "total": "1"}]}, "items.0.quantity"),
        ({"payments": [{"kind": "points", "amount": "9E1"}]}, "payments.0.amount"),
        ({"id": None}, "id"),
    ],
)
async def test_a_check_that_cannot_be_read_is_kept_with_its_field(
    serve: Installation, change: dict[str, object], where: str
) -> None:
    await serve.connect()
    event = json.loads(serve.cafe.event(serve.cafe.sell(phone=ANNA)))
    event["check"] |= change
    assert await push(serve, json.dumps(event).encode()) == 200
    reasons = await serve.host.store.read(lambda tx: inbox.unreadable.without_bodies(tx, serve.connection.id))
    assert [reason.where for reason in reasons] == [where]


@pytest.mark.parametrize(
    ("payments", "stamps"),
    [
        ([{"kind": "gift_card", "amount": "13.50"}], 0),  # the total and the tip
        ([{"kind": "gift_card", "amount": "99.00"}], 0),  # never below zero
        ([{"kind": "gift_card", "amount": "5.00"}, {"kind": "card", "amount": "8.50"}], 8),
        ([{"kind": "gift_card", "amount": "0.50"}, {"kind": "card", "amount": "13.00"}], 12),  # only a part of the tip
    ],
)
async def test_a_gift_card_may_pay_the_tip_too(serve: Installation, payments: list[Payment], stamps: int) -> None:
    await serve.connect(EURO_1)
    check = serve.cafe.sell("12.50", phone=ANNA)
    serve.cafe.checks[check] |= {"tip": "1.00", "payments": payments, "revision": 9}
    await serve.sync()
    assert serve.stamps(ANNA) == stamps
    assert await serve.host.services.review.list_unread(serve.connection.id) == []


async def test_points_and_gift_cards_are_no_money(serve: Installation) -> None:
    await serve.connect(EURO_1)
    check = serve.cafe.sell("12.50", phone=ANNA)
    payments: list[Payment] = [{"kind": "gift_card", "amount": "10.00"}, {"kind": "card", "amount": "2.50"}]
    serve.cafe.checks[check] |= {"payments": payments, "revision": 9}
    await serve.sync()
    assert serve.stamps(ANNA) == 2

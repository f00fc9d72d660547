"""Orders, payments, refunds and returns change together at the stand-in Square as they do at Square."""

from __future__ import annotations

from datetime import timedelta

import pytest

from square_connector.sandbox_catalogue import BEANS, CROISSANT, FLAT_WHITE
from square_connector.sandbox_seller import RefundTerms
from square_connector.sandbox_ticket import Line, Tender, Ticket
from square_connector.sandbox_values import write_time
from tests.square.shapes import shape
from tests.square.stand_in import NOON, StandIn

SUM = {"amount": 1, "currency": "EUR"}
FIVE_SUMS = {
    "total_money": SUM,
    "tax_money": SUM,
    "discount_money": SUM,
    "tip_money": SUM,
    "service_charge_money": SUM,
}
A_RETURN_OF_LINES = {
    "id": "order2",
    "location_id": "LONE",
    "source": {},
    "returns": [
        {
            "uid": "ret-1",
            "source_order_id": "order1",
            "return_line_items": [
                {
                    "uid": "rli-1",
                    "source_line_item_uid": "li-1",
                    "catalog_object_id": "VARONE",
                    "catalog_version": 1763000000000,
                    "name": "Tea",
                    "variation_name": "Regular",
                    "quantity": "1",
                    "item_type": "ITEM",
                    "base_price_money": SUM,
                    "variation_total_price_money": SUM,
                    "gross_return_money": SUM,
                    "total_discount_money": SUM,
                    "total_tax_money": SUM,
                    "total_money": SUM,
                }
            ],
            "return_amounts": FIVE_SUMS,
        }
    ],
    "return_amounts": FIVE_SUMS,
    "net_amounts": FIVE_SUMS,
    "refunds": [
        {
            "id": "payment1_r1",
            "location_id": "LONE",
            "transaction_id": "order1",
            "tender_id": "payment1",
            "created_at": "2026-11-20T15:02:10Z",
            "reason": "Returned goods",
            "amount_money": SUM,
            "status": "APPROVED",
        }
    ],
    "created_at": "2026-11-20T15:02:09.310Z",
    "updated_at": "2026-11-20T15:02:13.000Z",
    "closed_at": "2026-11-20T15:02:10.020Z",
    "state": "COMPLETED",
    "version": 3,
    "total_money": SUM,
    "total_tax_money": SUM,
    "total_discount_money": SUM,
    "total_tip_money": SUM,
    "total_service_charge_money": SUM,
}
A_REFUND = {
    "id": "payment1_r1",
    "status": "COMPLETED",
    "location_id": "LONE",
    "unlinked": False,
    "destination_type": "CARD",
    "amount_money": SUM,
    "payment_id": "payment1",
    "order_id": "order2",
    "reason": "Returned goods",
    "created_at": "2026-11-20T15:02:10.000Z",
    "updated_at": "2026-11-20T15:02:13.400Z",
}

TWO_TENDERS = Ticket(
    lines=[Line(FLAT_WHITE, "2", discount=80, tax=72, note="oat milk"), Line(CROISSANT, discount=30, tax=27)],
    tenders=[Tender("SQUARE_GIFT_CARD", 500), Tender(tip=200)],
    ticket_name="Table 4",
)


# --- sales ----------------------------------------------------------------------------------------------------------


async def test_a_tender_includes_the_tip_and_its_payment_excludes_it() -> None:
    till = StandIn()
    order = await till.order(till.seller.sell(TWO_TENDERS))
    gift, card = order["tenders"]
    assert order["total_money"]["amount"] == 800 - 80 + 72 + 300 - 30 + 27 + 200
    assert (gift["amount_money"]["amount"], card["amount_money"]["amount"], card["tip_money"]["amount"]) == (
        500,
        789,
        200,
    )
    assert (order["total_tip_money"]["amount"], order["net_amount_due_money"]["amount"]) == (200, 0)
    payment = (await till.get(f"/v2/payments/{card['id']}"))["payment"]
    assert (payment["amount_money"]["amount"], payment["total_money"]["amount"]) == (589, 789)
    assert (payment["status"], payment["order_id"]) == ("COMPLETED", order["id"])


async def test_a_gift_card_is_a_card_to_its_payment_and_a_kind_of_its_own_to_the_order() -> None:
    till = StandIn()
    order = await till.order(till.seller.sell(TWO_TENDERS))
    payment = (await till.get(f"/v2/payments/{order['tenders'][0]['id']}"))["payment"]
    assert (order["tenders"][0]["type"], payment["source_type"]) == ("SQUARE_GIFT_CARD", "CARD")
    assert payment["card_details"]["card"]["card_brand"] == "SQUARE_GIFT_CARD"


async def test_a_line_names_its_variation_its_sums_and_its_note() -> None:
    till = StandIn()
    order = await till.order(till.seller.sell(TWO_TENDERS))
    line = order["line_items"][0]
    assert (line["catalog_object_id"], line["quantity"], line["note"]) == (FLAT_WHITE, "2", "oat milk")
    assert (line["gross_sales_money"]["amount"], line["total_money"]["amount"]) == (800, 792)
    assert (order["ticket_name"], order["total_discount_money"]["amount"]) == ("Table 4", 110)


async def test_beans_are_sold_by_weight_and_gift_cards_and_custom_amounts_without_a_variation() -> None:
    till = StandIn()
    lines = [Line(BEANS, "0.250", unit="METRIC_KILOGRAM"), Line.gift_card(2000), Line.custom_amount(150)]
    beans, card, custom = (await till.order(till.seller.sell(Ticket(lines=lines))))["line_items"]
    assert (beans["quantity"], beans["total_money"]["amount"]) == ("0.250", 800)
    assert beans["quantity_unit"]["measurement_unit"] == {"weight_unit": "METRIC_KILOGRAM"}
    assert (card["item_type"], custom["item_type"]) == ("GIFT_CARD", "CUSTOM_AMOUNT")
    assert "catalog_object_id" not in {*card, *custom}


@pytest.mark.parametrize("kind", ["CARD", "CASH", "SQUARE_ACCOUNT", "WALLET", "BUY_NOW_PAY_LATER", "OTHER"])
async def test_each_kind_of_tender_pays_the_whole_order(kind: str) -> None:
    till = StandIn()
    order = await till.order(till.seller.sell(Ticket(tenders=[Tender(kind)])))
    assert (order["tenders"][0]["type"], order["net_amount_due_money"]["amount"]) == (kind, 0)
    assert (await till.get(f"/v2/payments/{order['tenders'][0]['id']}"))["payment"]["total_money"]["amount"] == 400


async def test_an_order_of_nothing_to_pay_has_a_tender_of_no_sale_without_a_payment() -> None:
    till = StandIn()
    order = await till.order(till.seller.sell(Ticket(lines=[Line(price=0)], tenders=[Tender("NO_SALE")])))
    assert (order["tenders"][0]["type"], order["tenders"][0]["amount_money"]["amount"]) == ("NO_SALE", 0)
    assert till.seller.payments == {}


async def test_an_order_left_open_has_no_tender_and_one_paid_ahead_has_nothing_due() -> None:
    till = StandIn()
    left_open = await till.order(till.seller.open())
    assert (left_open["state"], "tenders" in left_open, left_open["net_amount_due_money"]["amount"]) == (
        "OPEN",
        False,
        400,
    )
    ahead = till.seller.pay_ahead()
    record = await till.order(ahead)
    assert (record["state"], len(record["tenders"]), record["net_amount_due_money"]["amount"]) == ("OPEN", 1, 0)
    assert (record["fulfillments"][0]["state"], "closed_at" in record) == ("PROPOSED", False)
    till.seller.complete(ahead)
    record = await till.order(ahead)
    assert (record["state"], record["fulfillments"][0]["state"]) == ("COMPLETED", "COMPLETED")


async def test_a_final_order_is_neither_cancelled_nor_paid_again() -> None:
    till = StandIn()
    sold = till.seller.sell()
    for change in (till.seller.cancel, till.seller.complete, till.seller.pay):
        with pytest.raises(ValueError, match="final"):
            change(sold)
    assert (await till.order(sold))["state"] == "COMPLETED"


async def test_cancelling_voids_what_is_only_authorised_and_leaves_what_was_paid() -> None:
    till = StandIn()
    order = till.seller.open()
    till.seller.pay(order, [Tender(amount=100, card_status="AUTHORIZED"), Tender("CASH", 300)])
    payment, cash = (tender["id"] for tender in (await till.order(order))["tenders"])
    assert (await till.get(f"/v2/payments/{payment}"))["payment"]["status"] == "APPROVED"
    till.seller.cancel(order)
    record = await till.order(order)
    assert (record["state"], record["tenders"][0]["card_details"]["status"]) == ("CANCELED", "VOIDED")
    assert (await till.get(f"/v2/payments/{payment}"))["payment"]["status"] == "CANCELED"
    assert (await till.get(f"/v2/payments/{cash}"))["payment"]["status"] == "COMPLETED"


async def test_a_card_that_was_declined_pays_nothing() -> None:
    till = StandIn()
    order = await till.order(till.seller.sell(Ticket(tenders=[Tender(card_status="FAILED"), Tender("CASH")])))
    assert [tender["amount_money"]["amount"] for tender in order["tenders"]] == [400, 400]
    assert order["net_amount_due_money"]["amount"] == 0
    assert [payment["status"] for payment in till.seller.payments_of(order["id"])] == ["FAILED", "COMPLETED"]


async def test_an_authorised_payment_is_captured_later() -> None:
    till = StandIn()
    order = till.seller.sell(Ticket(tenders=[Tender(card_status="AUTHORIZED")]))
    payment = till.seller.payments_of(order)[0]["id"]
    till.seller.capture(payment)
    assert (await till.order(order))["tenders"][0]["card_details"]["status"] == "CAPTURED"
    assert (await till.get(f"/v2/payments/{payment}"))["payment"]["status"] == "COMPLETED"


async def test_the_customer_may_stand_on_the_order_the_tender_or_the_payment_only() -> None:
    till = StandIn()
    guest = till.seller.add_customer("+353201234567")
    on_order = await till.order(till.seller.sell(Ticket(customer=guest)))
    assert (on_order["customer_id"], "customer_id" in on_order["tenders"][0]) == (guest, False)
    on_tender = await till.order(till.seller.sell(Ticket(tenders=[Tender(customer=guest)])))
    assert ("customer_id" in on_tender, on_tender["tenders"][0]["customer_id"]) == (False, guest)
    later = await till.order(till.seller.sell())
    payment = later["tenders"][0]["id"]
    assert "customer_id" not in (await till.get(f"/v2/payments/{payment}"))["payment"]
    till.seller.attach_customer_to_payment(payment, guest)
    assert (await till.get(f"/v2/payments/{payment}"))["payment"]["customer_id"] == guest
    assert await till.order(later["id"]) == later, "the order does not change with it"


# --- changes --------------------------------------------------------------------------------------------------------


async def test_every_change_moves_the_version_and_the_time() -> None:
    till = StandIn()
    order = till.seller.open()
    records = [await till.order(order)]
    seller, guest = till.seller, till.seller.add_customer("+353201234567")
    for change in (
        lambda: seller.pay(order),
        lambda: seller.complete(order),
        lambda: seller.correct(order, 500),
        lambda: seller.attach_customer(order, guest),
        lambda: seller.refund_amount(order, 100),
        lambda: seller.set_state(order, "PAUSED"),
        lambda: seller.spoil(order),
    ):
        till.clock.move(seconds=1)
        change()
        records.append(await till.order(order))
    assert [record["version"] for record in records] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert [record["updated_at"] for record in records] == [
        write_time(NOON + timedelta(seconds=number)) for number in range(8)
    ]
    assert {record["created_at"] for record in records} == {write_time(NOON)}


async def test_an_order_without_a_version_changes_its_time_only() -> None:
    till = StandIn()
    order = till.seller.sell(Ticket(versioned=False))
    till.clock.move(seconds=1)
    till.seller.refund_amount(order, 100)
    record = await till.order(order)
    assert ("version" in record, record["updated_at"]) == (False, write_time(till.clock()))


async def test_a_correction_changes_tender_payment_and_totals_but_no_tip() -> None:
    till = StandIn()
    order = till.seller.sell(Ticket(tenders=[Tender(tip=100)]))
    till.seller.correct(order, 700)
    record = await till.order(order)
    assert (record["total_money"]["amount"], record["net_amounts"]["total_money"]["amount"]) == (800, 800)
    assert record["tenders"][0]["amount_money"]["amount"] == 800
    payment = (await till.get(f"/v2/payments/{record['tenders'][0]['id']}"))["payment"]
    assert (payment["amount_money"]["amount"], payment["total_money"]["amount"]) == (700, 800)


async def test_a_spoiled_order_has_words_for_sums() -> None:
    till = StandIn()
    order = till.seller.sell()
    till.seller.spoil(order)
    record = await till.order(order)
    assert (record["total_money"]["amount"], record["tenders"][0]["amount_money"]["amount"]) == ("twelve", "twelve")


async def test_lines_may_be_missing_right_after_the_payment_and_be_there_later() -> None:
    till = StandIn()
    order = till.seller.sell()
    till.seller.hide_lines(order)
    assert "line_items" not in await till.order(order)
    assert "line_items" not in (await till.search())["orders"][0]
    till.clock.move(seconds=3)
    till.seller.show_lines(order)
    record = await till.order(order)
    assert (len(record["line_items"]), record["updated_at"]) == (1, write_time(till.clock()))


async def test_an_offline_sale_is_unknown_until_it_comes_with_its_old_time() -> None:
    till = StandIn()
    order = till.seller.sell_offline(NOON - timedelta(hours=70))
    assert await till.search() == {}
    assert await till.refusal("GET", f"/v2/orders/{order}") == (404, "NOT_FOUND")
    assert await till.get("/v2/payments") == {}
    assert till.sandbox.take_hooks() == []
    till.seller.deliver(order)
    record = await till.order(order)
    assert (record["created_at"], record["updated_at"]) == (write_time(NOON - timedelta(hours=70)), write_time(NOON))
    assert record["closed_at"] == record["created_at"]
    assert len(till.sandbox.take_hooks()) == 2


async def test_an_offline_sale_may_come_with_all_its_old_times() -> None:
    till = StandIn()
    sold_at = NOON - timedelta(hours=70)
    order = till.seller.sell_offline(sold_at)
    till.seller.deliver_unmoved(order)
    assert (await till.order(order))["updated_at"] == write_time(sold_at)
    assert (await till.get(f"/v2/payments/{till.seller.payments_of(order)[0]['id']}"))["payment"][
        "updated_at"
    ] == write_time(sold_at)
    assert len(till.sandbox.take_hooks()) == 2


# --- refunds --------------------------------------------------------------------------------------------------------


async def test_a_refund_of_lines_makes_a_return_order_with_the_documented_members() -> None:
    till = StandIn()
    sale = till.seller.sell(TWO_TENDERS)
    gift = till.seller.payments_of(sale)[0]["id"]
    refunded = till.seller.refund_lines(sale, {"li-1": "1"}, RefundTerms(tender=gift))
    order = await till.order(refunded.return_order)
    assert shape(order) == shape(A_RETURN_OF_LINES)
    returned = order["returns"][0]
    assert returned["source_order_id"] == sale
    assert returned["return_line_items"][0]["source_line_item_uid"] == "li-1"
    assert returned["return_line_items"][0]["total_money"]["amount"] == 400 - 40 + 36
    assert order["net_amounts"]["total_money"]["amount"] == -396
    refund = (await till.get(f"/v2/refunds/{refunded.refunds[0]}"))["refund"]
    assert shape(refund) == shape(A_REFUND)
    assert (refund["payment_id"], refund["order_id"]) == (gift, refunded.return_order)


async def test_a_refund_moves_the_sale_but_not_its_sums_and_names_itself_only_on_the_payment() -> None:
    till = StandIn()
    sale = till.seller.sell()
    before = await till.order(sale)
    till.clock.move(minutes=1)
    refunded = till.seller.refund_amount(sale, 150)
    after = await till.order(sale)
    assert (after["version"], after["updated_at"]) == (before["version"] + 1, write_time(till.clock()))
    moved = {"version", "updated_at"}
    assert {name for name in after if after[name] != before.get(name)} == moved
    payment = (await till.get(f"/v2/payments/{before['tenders'][0]['id']}"))["payment"]
    assert (payment["refunded_money"]["amount"], payment["refund_ids"]) == (150, list(refunded.refunds))


async def test_a_refund_by_amount_is_one_custom_amount_without_version_and_totals() -> None:
    till = StandIn()
    sale = till.seller.sell(Ticket(tenders=[Tender(tip=100)]))
    order = await till.order(till.seller.refund_amount(sale, 250, RefundTerms(tip=50)).return_order)
    (line,) = order["returns"][0]["return_line_items"]
    assert (line["item_type"], line["total_money"]["amount"]) == ("CUSTOM_AMOUNT", 200)
    assert "source_line_item_uid" not in line
    amounts = order["return_amounts"]
    assert (amounts["total_money"]["amount"], amounts["tip_money"]["amount"]) == (250, 50)
    assert not order.keys() & {"version", "total_money", "line_items"}


async def test_refunding_everything_gives_back_what_is_left_to_each_tender() -> None:
    till = StandIn()
    sale = till.seller.sell(TWO_TENDERS)
    till.seller.refund_lines(sale, {"li-1": "1"})
    refunded = till.seller.refund_everything(sale)
    order = await till.order(refunded.return_order)
    quantities = {line["source_line_item_uid"]: line["quantity"] for line in order["returns"][0]["return_line_items"]}
    assert quantities == {"li-1": "1", "li-2": "1"}
    assert (order["return_amounts"]["tip_money"]["amount"], len(refunded.refunds)) == (200, 2)
    for payment in till.seller.payments_of(sale):
        answer = (await till.get(f"/v2/payments/{payment['id']}"))["payment"]
        assert answer["refunded_money"] == answer["total_money"]


async def test_a_tip_is_given_back_once() -> None:
    till = StandIn()
    sale = till.seller.sell(Ticket(tenders=[Tender(tip=100)]))
    till.seller.refund_amount(sale, 150, RefundTerms(tip=60))
    order = await till.order(till.seller.refund_everything(sale).return_order)
    amounts = order["return_amounts"]
    assert (amounts["total_money"]["amount"], amounts["tip_money"]["amount"]) == (350, 40)


async def test_a_refund_goes_back_to_the_tender_that_was_named() -> None:
    till = StandIn()
    sale = till.seller.sell(TWO_TENDERS)
    gift, card = till.seller.payments_of(sale)
    refunded = till.seller.refund_amount(sale, 100, RefundTerms(tender=card["id"]))
    assert (await till.get(f"/v2/refunds/{refunded.refunds[0]}"))["refund"]["payment_id"] == card["id"]
    assert "refund_ids" not in (await till.get(f"/v2/payments/{gift['id']}"))["payment"]
    with pytest.raises(ValueError, match="500 left"):
        till.seller.refund_amount(sale, 501, RefundTerms(tender=gift["id"]))


async def test_no_more_is_refunded_than_there_is() -> None:
    till = StandIn()
    sale = till.seller.sell()
    with pytest.raises(ValueError, match="400 left"):
        till.seller.refund_amount(sale, 401)
    with pytest.raises(ValueError, match="1 left of line"):
        till.seller.refund_lines(sale, {"li-1": "2"})
    with pytest.raises(ValueError, match="no line li-9"):
        till.seller.refund_lines(sale, {"li-9": "1"})
    assert await till.get("/v2/refunds") == {}
    assert await till.order_ids() == [sale], "nothing was made of what was refused"


@pytest.mark.parametrize(
    ("status", "in_order", "given"), [("COMPLETED", "APPROVED", 150), ("FAILED", "FAILED", 0), ("REJECTED",) * 2 + (0,)]
)
async def test_a_pending_refund_is_decided_later(status: str, in_order: str, given: int) -> None:
    till = StandIn()
    sale = till.seller.sell()
    refunded = till.seller.refund_amount(sale, 150, RefundTerms(status="PENDING"))
    refund, payment = refunded.refunds[0], till.seller.payments_of(sale)[0]["id"]
    assert (await till.get(f"/v2/refunds/{refund}"))["refund"]["status"] == "PENDING"
    assert "refunded_money" not in (await till.get(f"/v2/payments/{payment}"))["payment"]
    version = (await till.order(sale))["version"]
    changed_at = write_time(till.clock.move(hours=1))
    till.seller.finish_refund(refund, status)
    record = (await till.get(f"/v2/refunds/{refund}"))["refund"]
    assert (record["status"], record["updated_at"]) == (status, changed_at)
    assert (await till.order(refunded.return_order))["refunds"][0]["status"] == in_order
    answer = (await till.get(f"/v2/payments/{payment}"))["payment"]
    assert answer.get("refunded_money", {"amount": 0})["amount"] == given
    assert (await till.order(sale))["version"] == version + 1


async def test_a_refund_that_failed_can_be_made_again() -> None:
    till = StandIn()
    sale = till.seller.sell()
    till.seller.refund_amount(sale, 400, RefundTerms(status="FAILED"))
    refunded = till.seller.refund_amount(sale, 400)
    assert (await till.get(f"/v2/refunds/{refunded.refunds[0]}"))["refund"]["status"] == "COMPLETED"


async def test_an_unlinked_refund_names_neither_a_sale_nor_a_payment() -> None:
    till = StandIn()
    refunded = till.seller.refund_unlinked(till.new_york, 292)
    order = await till.order(refunded.return_order)
    assert "source_order_id" not in order["returns"][0]
    assert "tender_id" not in order["refunds"][0]
    refund = (await till.get(f"/v2/refunds/{refunded.refunds[0]}"))["refund"]
    assert (refund["unlinked"], "payment_id" in refund) == (True, False)
    assert refund["amount_money"] == {"amount": 292, "currency": "USD"}


async def test_an_exchange_is_a_sale_and_a_return_in_one_order() -> None:
    till = StandIn()
    sale = till.seller.sell(Ticket(lines=[Line(FLAT_WHITE, "2")]))
    version = (await till.order(sale))["version"]
    dearer = await till.order(till.seller.exchange(sale, {"li-1": "1"}, [Line(BEANS, price=1000)]))
    assert (len(dearer["line_items"]), dearer["returns"][0]["source_order_id"]) == (1, sale)
    assert (dearer["tenders"][0]["amount_money"]["amount"], "refunds" in dearer) == (600, False)
    assert (dearer["net_amounts"]["total_money"]["amount"], dearer["state"]) == (600, "COMPLETED")
    assert (await till.order(sale))["version"] == version + 1
    cheaper = await till.order(till.seller.exchange(sale, {"li-1": "1"}, [Line(CROISSANT)]))
    assert (cheaper["refunds"][0]["amount_money"]["amount"], "tenders" in cheaper) == (100, False)
    assert cheaper["net_amounts"]["total_money"]["amount"] == -100

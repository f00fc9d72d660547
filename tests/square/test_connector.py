"""Square's connector at its stand-in: what counts as a sale, what went back, who bought, and what is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from pydantic import SecretStr

from connector_sdk import (
    AccountChanged,
    BadPayload,
    Consent,
    Customer,
    Forged,
    Hint,
    Hints,
    HookRequest,
    Ignored,
    MissingRight,
    Sale,
    SaleStatus,
    TillUnavailable,
)
from square_connector import SquareConnector, oauth
from square_connector import sandbox as square
from square_connector.mapping import menu_of
from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_catalogue import CROISSANT, FLAT_WHITE
from square_connector.sandbox_records import Place
from square_connector.sandbox_seller import RefundTerms, Seller
from square_connector.sandbox_ticket import Line, Tender, Ticket
from square_connector.sandbox_webhooks import SignedHook
from square_connector.settings import SquareApp, SquareSettings
from square_connector.wire import judge

NOW = datetime.now(UTC)


class Shop:
    """A seller, and the connector that reads it."""

    def __init__(self, *places: Place, **settings: object) -> None:
        self.seller = Seller(places=places) if places else Seller()
        self.sandbox = SquareSandbox(self.seller)
        self.sandbox.post_to("https://host.test/hooks/tills/square")
        self.settings = settings
        self.app = SquareApp(
            api_url="http://square.test",
            application_id=square.APPLICATION_ID,
            application_secret=SecretStr(square.SECRET),
            signature_key=SecretStr(square.SIGNATURE_KEY),
        )

    async def till(self) -> SquareConnector:
        settings = SquareSettings.model_validate({**self.sandbox.settings(), **self.settings})
        transport = httpx.ASGITransport(app=self.sandbox.application())
        account = await SquareConnector(settings, app=self.app, transport=transport).check()
        return SquareConnector(settings, app=self.app, account=account, transport=transport)

    async def everywhere(self, order: str) -> Sale:
        """The order by every way that reads it, which must be the same."""
        till = await self.till()
        since = NOW - timedelta(hours=1)
        read = {
            "poll": [sale async for page in till.poll(since) for sale in page.sales],
            "history": [sale async for page in till.history(since) for sale in page.sales],
            "fetch": [sale for sale in [await till.fetch(order)] if sale is not None],
        }
        sales = [sale for found in read.values() for sale in found if sale.receipt_id == order]
        assert len(sales) == 3, {way: len(found) for way, found in read.items()}
        assert sales[0] == sales[1] == sales[2]
        return sales[0]

    async def nowhere(self, order: str) -> bool:
        till = await self.till()
        ids = [sale.receipt_id async for page in till.poll(NOW - timedelta(hours=1)) for sale in page.sales]
        return order not in ids


def hook_of(signed: SignedHook, url: str = "https://host.test/hooks/tills/square") -> HookRequest:
    return HookRequest("POST", dict(signed.headers), {}, signed.body, url)


# --- what is a sale ---------------------------------------------------------------------------------------------------


async def test_what_was_paid_is_money_without_tips_gift_cards_and_what_loads_one() -> None:
    shop = Shop()
    order = shop.seller.sell(
        Ticket(
            [Line(price=1000), Line.gift_card(2500)],
            [Tender("SQUARE_GIFT_CARD", amount=300), Tender("CASH", amount=1200), Tender(tip=150)],
        )
    )
    sale = await shop.everywhere(order)
    assert sale.paid.minor == 1000 + 2500 - 300 - 2500
    assert [line.product_id for line in sale.lines] == [FLAT_WHITE]


async def test_a_house_account_is_money_and_a_receipt_without_payment_is_a_gift() -> None:
    shop = Shop()
    assert (
        await shop.everywhere(shop.seller.sell(Ticket([Line(price=700)], [Tender("SQUARE_ACCOUNT")])))
    ).paid.minor == 700
    free = await shop.everywhere(shop.seller.sell(Ticket([Line(price=700, discount=700)], [Tender("NO_SALE")])))
    assert free.gift
    assert free.lines[0].gift


@pytest.mark.parametrize("card_status", ["AUTHORIZED", "VOIDED", "FAILED"])
async def test_a_card_that_was_not_charged_paid_nothing(card_status: str) -> None:
    shop = Shop()
    order = shop.seller.pay_ahead(Ticket([Line(price=900)], [Tender(card_status=card_status)]))
    assert (await shop.everywhere(order)).paid.minor == 0


async def test_paid_ahead_is_open_until_it_is_handed_over_and_a_cart_is_nothing() -> None:
    shop = Shop()
    order = shop.seller.pay_ahead()
    assert (await shop.everywhere(order)).status is SaleStatus.open
    shop.seller.complete(order)
    assert (await shop.everywhere(order)).status is SaleStatus.closed
    cart = shop.seller.open(Ticket([], []))
    assert await shop.nowhere(cart)
    cancelled = shop.seller.open()
    shop.seller.cancel(cancelled)
    assert (await shop.everywhere(cancelled)).status is SaleStatus.voided


async def test_a_receipt_counts_once_its_lines_are_there() -> None:
    shop = Shop()
    order = shop.seller.sell()
    shop.seller.hide_lines(order)
    assert (await shop.everywhere(order)).status is SaleStatus.open
    shop.seller.show_lines(order)
    assert (await shop.everywhere(order)).status is SaleStatus.closed


async def test_a_state_that_nobody_has_seen_is_kept_and_named() -> None:
    shop = Shop()
    order, other = shop.seller.sell(), shop.seller.sell()
    shop.seller.set_state(order, "PONDERING")
    till = await shop.till()
    pages = [page async for page in till.poll(NOW - timedelta(hours=1))]
    (unread,) = [item for page in pages for item in page.unreadable]
    assert (unread.receipt_id, unread.where) == (order, "state")
    assert "PONDERING" in unread.why
    assert json.loads(unread.body)["order"]["id"] == order
    assert other in [sale.receipt_id for page in pages for sale in page.sales]
    with pytest.raises(BadPayload, match="PONDERING"):
        await till.fetch(order)


async def test_a_field_that_no_sale_can_hold_is_named() -> None:
    shop = Shop()
    order = shop.seller.sell()
    shop.seller.orders[order]["location_id"] = "L" * 5000
    with pytest.raises(BadPayload) as raised:
        await (await shop.till()).fetch(order)
    assert raised.value.where == "location_id"


def test_a_right_that_is_missing_in_a_read_is_named_with_what_does_not_work() -> None:
    error = {"code": "INSUFFICIENT_SCOPES", "detail": "This seller did not grant CUSTOMERS_READ."}
    with pytest.raises(MissingRight, match=r"CUSTOMERS_READ \(read customers"):
        judge(403, {"errors": [error]})


def test_a_product_is_of_the_category_it_is_reported_under_and_else_of_its_first() -> None:
    variations = [{"id": "V1"}]
    category = {"type": "CATEGORY", "id": "B", "category_data": {"name": "Hot"}}
    facts = {"name": "Tea", "categories": [{"id": "A"}, {"id": "B"}], "variations": variations}
    reported = {"type": "ITEM", "item_data": {**facts, "reporting_category": {"id": "B"}}}
    listed = {"type": "ITEM", "item_data": facts}
    items = menu_of([category, reported, listed])
    assert [(item.category_id, item.category_name) for item in items] == [("B", "Hot"), ("A", None)]


async def test_an_account_has_the_country_of_its_main_place_and_the_names_of_all() -> None:
    shop = Shop()
    account, places = (await shop.till()).account, list(shop.seller.locations.values())
    assert account.country == places[0]["country"]
    assert [venue.name for venue in account.locations] == [place["name"] for place in places]


async def test_a_pasted_token_shares_its_accounts_limit_once_it_is_checked() -> None:
    shop = Shop()
    account = (await shop.till()).account
    settings = SquareSettings(access_token=SecretStr("pasted"))
    one, other = (SquareConnector(settings, app=shop.app, account=account) for _ in range(2))
    assert one._limit() is other._limit()
    # whoever pastes a token that nobody has checked must not use up anybody's turns
    one, other = (SquareConnector(settings, app=shop.app) for _ in range(2))
    assert one._limit() is not other._limit()


async def test_weights_are_read_and_codes_are_found_in_notes_tickets_and_discounts() -> None:
    shop = Shop(redeem_codes=True)
    lines = [
        Line(quantity="0.250", price=4000, unit="METRIC_KILOGRAM", note="voucher FREECOFFEE9"),
        Line(CROISSANT, discount=10, discount_name="BIRTHDAY24"),
    ]
    sale = await shop.everywhere(shop.seller.sell(Ticket(lines, ticket_name="TABLE 4 SUMMER-26")))
    assert [str(line.quantity) for line in sale.lines] == ["0.25", "1"]
    assert set(sale.redeem_codes) == {"FREECOFFEE9", "BIRTHDAY24", "SUMMER-26"}
    without = Shop(redeem_codes=False)
    assert not (await without.everywhere(without.seller.sell(Ticket(lines)))).redeem_codes


# --- what went back ---------------------------------------------------------------------------------------------------


async def test_a_refund_of_items_is_less_money_and_fewer_kept() -> None:
    shop = Shop()
    order = shop.seller.sell(Ticket([Line(quantity="3", price=400), Line(CROISSANT, price=300)]))
    lines = shop.seller.answered_order(order)["line_items"]
    shop.seller.refund_lines(order, {lines[0]["uid"]: "1"})
    sale = await shop.everywhere(order)
    assert (sale.paid.minor, sale.refunded.minor) == (1500, 400)
    assert [str(line.quantity - line.refunded_quantity) for line in sale.lines] == ["2", "1"]


async def test_a_gift_card_that_is_given_back_is_no_refund_of_the_coffee_beside_it() -> None:
    shop = Shop()
    order = shop.seller.sell(Ticket([Line(price=400), Line.gift_card(5000)]))
    coffee, card = shop.seller.answered_order(order)["line_items"]
    shop.seller.refund_lines(order, {card["uid"]: "1"})
    sale = await shop.everywhere(order)
    assert (sale.paid.minor, sale.refunded.minor) == (400, 0)
    shop.seller.refund_lines(order, {coffee["uid"]: "1"})
    assert (await shop.everywhere(order)).refunded.minor == 400


async def test_a_refund_counts_once_it_is_completed_also_when_the_order_stays_as_it_was() -> None:
    shop = Shop()
    order = shop.seller.sell(Ticket([Line(price=1000)]))
    refunded = shop.seller.refund_amount(order, 400, RefundTerms(status="PENDING"))
    before = await shop.everywhere(order)
    assert before.refunded.minor == 0
    record = dict(shop.seller.orders[order])
    shop.seller.finish_refund(refunded.refunds[0])
    # as if completing it had left the order alone, which no document says
    shop.seller.orders[order].update({name: record[name] for name in ("updated_at", "version") if name in record})
    after = await shop.everywhere(order)
    assert after.refunded.minor == 400
    assert (after.version or 0) > (before.version or 0)


async def test_a_poll_finds_the_sale_of_a_refund_that_left_its_order_as_it_was() -> None:
    shop = Shop()
    with shop.seller.clock_at(NOW - timedelta(days=2)):
        order = shop.seller.sell(Ticket([Line(price=1000)]))
    record = dict(shop.seller.orders[order])
    shop.seller.refund_amount(order, 400)
    shop.seller.orders[order].update({name: record[name] for name in ("updated_at", "version") if name in record})
    till = await shop.till()
    polled = [sale async for page in till.poll(NOW - timedelta(minutes=5)) for sale in page.sales]
    assert [sale.refunded.minor for sale in polled if sale.receipt_id == order] == [400]


@pytest.mark.parametrize("status", ["FAILED", "REJECTED"])
async def test_a_refund_that_fails_leaves_the_sale_as_it_was(status: str) -> None:
    shop = Shop()
    order = shop.seller.sell(Ticket([Line(price=1000)]))
    refunded = shop.seller.refund_amount(order, 400, RefundTerms(status="PENDING"))
    shop.seller.finish_refund(refunded.refunds[0], status)
    sale = await shop.everywhere(order)
    assert sale.refunded.minor == 0
    assert all(line.refunded_quantity == 0 for line in sale.lines)


async def test_a_tip_that_goes_back_takes_no_stamps() -> None:
    shop = Shop()
    order = shop.seller.sell(Ticket([Line(price=1000)], [Tender(tip=300)]))
    shop.seller.refund_amount(order, 500, RefundTerms(tip=300))
    assert (await shop.everywhere(order)).refunded.minor == 200


async def test_the_refund_of_a_gift_cards_part_is_no_money() -> None:
    shop = Shop()
    order = shop.seller.sell(Ticket([Line(price=1000)], [Tender("SQUARE_GIFT_CARD", amount=400), Tender()]))
    gift_card = shop.seller.payments_of(order)[0]["id"]
    shop.seller.refund_amount(order, 400, RefundTerms(tender=gift_card))
    sale = await shop.everywhere(order)
    assert (sale.paid.minor, sale.refunded.minor) == (600, 0)


async def test_an_exchange_is_a_sale_of_what_was_taken_and_a_return_of_what_was_brought() -> None:
    shop = Shop()
    order = shop.seller.sell(Ticket([Line(price=500)]))
    uid = shop.seller.answered_order(order)["line_items"][0]["uid"]
    exchanged = shop.seller.exchange(order, {uid: "1"}, [Line(CROISSANT, price=800)])
    sale = await shop.everywhere(exchanged)
    assert (sale.paid.minor, [line.product_id for line in sale.lines]) == (300, [CROISSANT])


async def test_a_refund_that_names_no_sale_is_kept_for_a_person() -> None:
    shop = Shop()
    location = next(iter(shop.seller.locations))
    refunded = shop.seller.refund_unlinked(location, 500)
    till = await shop.till()
    with pytest.raises(BadPayload, match="names no sale"):
        await till.fetch(refunded.return_order)
    assert await shop.nowhere(refunded.return_order)


async def test_a_refund_of_a_sale_of_last_month_is_found_by_the_next_poll_with_the_one_before() -> None:
    shop = Shop()
    with shop.seller.clock_at(NOW - timedelta(days=30)):
        order = shop.seller.sell(Ticket([Line(price=1000)]))
    with shop.seller.clock_at(NOW - timedelta(days=20)):
        shop.seller.refund_amount(order, 300)
    shop.seller.refund_amount(order, 200)
    till = await shop.till()
    polled = [sale async for page in till.poll(NOW - timedelta(minutes=5)) for sale in page.sales]
    assert [(sale.receipt_id, sale.refunded.minor) for sale in polled] == [(order, 500)]


# --- late, offline, and many places -----------------------------------------------------------------------------------


async def test_a_till_that_was_offline_for_three_days_is_found_by_the_second_look() -> None:
    shop = Shop()
    order = shop.seller.sell_offline(NOW - timedelta(hours=71))
    shop.seller.deliver_unmoved(order)
    till = await shop.till()
    since = NOW - timedelta(days=3)
    assert order in [sale.receipt_id async for page in till.history(since) for sale in page.sales]


async def test_thirty_venues_are_read_in_slices_of_ten_and_each_keeps_its_zone() -> None:
    zones = ("Europe/Dublin", "America/New_York", "Asia/Tokyo")
    shop = Shop(*(Place(f"Venue {at}", zones[at % 3], "EUR", "IE") for at in range(30)))
    orders = {shop.seller.sell(Ticket(location=location)): location for location in shop.seller.locations}
    shop.seller.close_location(list(shop.seller.locations)[29])
    till = await shop.till()
    assert len(till.account.locations) == 29
    assert {till.account.zone_of(location.id) for location in till.account.locations} == set(zones)
    shop.sandbox.calls.clear()
    read = {
        sale.receipt_id: sale.location_id async for page in till.poll(NOW - timedelta(hours=1)) for sale in page.sales
    }
    assert read == {
        order: location for order, location in orders.items() if location != list(shop.seller.locations)[29]
    }
    searches = [call for call in shop.sandbox.calls if call.path == "/v2/orders/search"]
    assert [len(call.body["location_ids"]) for call in searches] == [10, 10, 9]
    assert {call.square_version for call in shop.sandbox.calls} == {"2025-08-20"}


# --- who bought -------------------------------------------------------------------------------------------------------


async def _customer(shop: Shop, order: str) -> Customer | None:
    sale = await shop.everywhere(order)
    till = await shop.till()
    assert sale.customer is None or sale.customer.till_id is not None
    return await till.customer(sale.customer.till_id or "") if sale.customer else None


async def test_the_customer_of_the_order_its_tender_or_its_payment_bought() -> None:
    shop = Shop()
    anna = shop.seller.add_customer("+353861112201", email="anna@example.com")
    for order in (
        shop.seller.sell(Ticket(customer=anna)),
        shop.seller.sell(Ticket(tenders=[Tender(customer=anna)])),
    ):
        assert await _customer(shop, order) == Customer(phone="+353861112201", email="anna@example.com")
    order = shop.seller.sell()
    assert (await shop.everywhere(order)).customer is None
    shop.seller.attach_customer_to_payment(shop.seller.payments_of(order)[0]["id"], anna)
    assert await _customer(shop, order) == Customer(phone="+353861112201", email="anna@example.com")


async def test_two_who_share_a_bill_are_nobody_and_so_is_a_profile_that_square_made_itself() -> None:
    shop = Shop()
    anna, borys = shop.seller.add_customer("+353861112201"), shop.seller.add_customer("+353861112202")
    shared = shop.seller.sell(Ticket([Line(price=900)], [Tender(amount=400, customer=anna), Tender(customer=borys)]))
    assert (await shop.everywhere(shared)).customer is None
    instant = shop.seller.sell(Ticket(customer=shop.seller.add_instant_profile()))
    assert not await _customer(shop, instant)


async def test_a_customer_who_was_merged_is_the_one_they_became() -> None:
    shop = Shop()
    old, new = shop.seller.add_customer("+353861112201"), shop.seller.add_customer(email="anna@example.com")
    order = shop.seller.sell(Ticket(customer=old))
    shop.seller.merge_customers(old, new)
    customer = await _customer(shop, order)
    assert customer is not None
    assert customer.email == "anna@example.com"


@pytest.mark.parametrize(("setting", "number"), [(True, "123456"), (False, None)])
async def test_a_reference_id_is_a_7stamp_number_only_where_the_cafe_says_so(setting: bool, number: str | None) -> None:
    shop = Shop(reference_ids=setting)
    order = shop.seller.sell(Ticket(customer=shop.seller.add_customer("+353861112201", reference_id="123456")))
    customer = await _customer(shop, order)
    assert customer is not None
    assert customer.number == number


# --- hooks ------------------------------------------------------------------------------------------------------------


async def test_each_event_asks_for_what_it_is_about() -> None:
    shop = Shop()
    till = await shop.till()
    order = shop.seller.sell()
    refunded = shop.seller.refund_everything(order)
    api_order = shop.seller.sell(Ticket(source="Online"))
    shop.seller.open_location(Place("Harbour", "Europe/Dublin", "EUR", "IE"))
    shop.seller.add_customer("+353861112209")
    received = {}
    for signed in shop.sandbox.take_hooks():
        kind = json.loads(signed.body)["type"]
        assert SquareConnector.route(shop.app, hook_of(signed)).id == shop.seller.merchant_id  # type: ignore[union-attr]
        received.setdefault(kind, []).append(till.receive(hook_of(signed)))
    assert Hints((Hint(order, closed=True),)) in received["payment.created"] + received["payment.updated"]
    assert Hints((Hint(refunded.return_order),)) in received["refund.created"]
    assert Hints((Hint(api_order),)) in received["order.updated"]
    assert received["location.created"] == [AccountChanged(recheck=True)]
    assert all(isinstance(said, Ignored) for said in received.get("customer.created", []))


async def test_an_end_of_access_is_believed_as_of_its_time() -> None:
    shop = Shop()
    till = await shop.till()
    shop.seller.take_events()
    now = datetime.now(UTC)
    shop.sandbox.square_application.revoke_seller(shop.seller.merchant_id)
    (signed,) = shop.sandbox.take_hooks()
    changed = till.receive(hook_of(signed))
    assert isinstance(changed, AccountChanged)
    assert not changed.authorised
    assert changed.at is not None
    assert abs(changed.at - now) < timedelta(minutes=5)


async def test_a_hook_for_another_address_or_body_is_forged() -> None:
    shop = Shop()
    signed = shop.sandbox.hook(shop.seller.sell())
    SquareConnector.route(shop.app, hook_of(signed))
    for forged in (
        hook_of(signed, "https://host.test/hooks/tills/square/"),
        hook_of(signed, "http://host.test/hooks/tills/square"),
        replace(hook_of(signed), body=signed.body + b" "),
        replace(hook_of(signed), headers={"x-square-hmacsha256-signature": ""}),
    ):
        with pytest.raises(Forged):
            SquareConnector.route(shop.app, forged)


# --- access -----------------------------------------------------------------------------------------------------------


async def test_rights_that_were_not_granted_are_named_with_what_will_not_work() -> None:
    shop = Shop()
    shop.sandbox.square_application.grants[0].scopes = ("ORDERS_READ", "MERCHANT_PROFILE_READ", "PAYMENTS_READ")
    with pytest.raises(MissingRight, match=r"CUSTOMERS_READ \(read customers: no stamps.*ITEMS_READ") as raised:
        await shop.till()
    assert "ORDERS_READ" not in str(raised.value)


@pytest.mark.parametrize(("sandbox", "session"), [(False, True), (True, False)])
def test_the_owner_signs_in_anew_but_for_squares_sandbox_which_refuses_that(sandbox: bool, session: bool) -> None:
    url = "https://connect.squareupsandbox.com" if sandbox else "https://connect.squareup.com"
    app = SquareApp(api_url=url, application_id="app", application_secret=SecretStr("s"))
    address = oauth.authorise_url(app, Consent("https://host.test/connect/return", "st", "ch"))
    assert ("session=false" in address) is session
    assert "code_challenge" not in address  # the code flow has its secret
    pkce = oauth.authorise_url(app.model_copy(update={"application_secret": None}), Consent("https://h", "st", "ch"))
    assert "code_challenge=ch" in pkce


async def test_a_cursor_that_ended_lets_the_read_begin_anew() -> None:
    shop = Shop()
    shop.seller.page_size = 1
    for _ in range(3):
        shop.seller.sell()
    till = await shop.till()

    async def read() -> AsyncIterator[object]:
        async for page in till.poll(NOW - timedelta(hours=1)):
            shop.sandbox.cursors.forget()
            yield page

    with pytest.raises(TillUnavailable, match="begins anew"):
        [page async for page in read()]

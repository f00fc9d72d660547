"""The stand-in Square lists, finds, pages and refuses as the wire document says."""

from __future__ import annotations

from datetime import timedelta

import pytest

from connector_sdk.sandbox import TillSandbox
from square_connector.sandbox import (
    GARBAGE,
    RATE_LIMITED,
    RATE_LIMITED_WITH_WAIT,
    UNAUTHORIZED,
    UNAVAILABLE,
    Failure,
    SquareSandbox,
)
from square_connector.sandbox_answers import ENDPOINTS, Endpoint
from square_connector.sandbox_records import Place
from square_connector.sandbox_seller import RefundTerms
from square_connector.sandbox_ticket import Ticket
from square_connector.sandbox_values import JsonObject, write_time
from tests.square.shapes import shape
from tests.square.stand_in import NOON, StandIn, all_but

BY_UPDATE = {"sort_field": "UPDATED_AT", "sort_order": "ASC"}
A_LOCATION = {
    "id": "LONE",
    "name": "Corner",
    "address": {"locality": "Town", "country": "US"},
    "timezone": "America/New_York",
    "capabilities": ["CREDIT_CARD_PROCESSING"],
    "status": "ACTIVE",
    "created_at": "2025-03-01T10:00:00Z",
    "merchant_id": "MLONE",
    "country": "US",
    "language_code": "en-US",
    "currency": "USD",
    "business_name": "Corner Coffee",
    "type": "PHYSICAL",
    "business_hours": {},
}
A_MERCHANT = {
    "id": "MLONE",
    "business_name": "Corner Coffee",
    "country": "US",
    "language_code": "en-US",
    "currency": "USD",
    "status": "ACTIVE",
    "main_location_id": "LONE",
    "created_at": "2025-03-01T09:58:00Z",
}


def updated_between(begin: str, end: str, **sort: str) -> JsonObject:
    """A query for orders by when they were updated."""
    return {
        "filter": {"date_time_filter": {"updated_at": {"start_at": begin, "end_at": end}}},
        "sort": {"sort_field": "UPDATED_AT", **sort},
    }


# --- who may call ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: f"{endpoint.method} {endpoint.path}")
async def test_each_endpoint_is_refused_without_its_own_scope_only(endpoint: Endpoint) -> None:
    till = StandIn()
    path = endpoint.path.replace("{id}", "none")
    others = till.token_for(*all_but(endpoint.scope))
    assert await till.refusal(endpoint.method, path, {}, others) == (403, "INSUFFICIENT_SCOPES")
    async with till.client(till.token_for(endpoint.scope)) as client:
        assert (await client.request(endpoint.method, path, json={})).status_code in (200, 400, 404)


async def test_a_token_that_opens_nothing_has_expired_or_was_revoked_is_told_which() -> None:
    till = StandIn()
    assert await till.refusal("GET", "/v2/locations", token="another") == (401, "UNAUTHORIZED")
    till.clock.move(days=30)
    assert await till.refusal("GET", "/v2/locations") == (401, "ACCESS_TOKEN_EXPIRED")
    till.sandbox.square_application.revoke_seller(till.seller.merchant_id)
    assert await till.refusal("GET", "/v2/locations") == (401, "ACCESS_TOKEN_REVOKED")


async def test_an_error_has_the_documented_members() -> None:
    till = StandIn()
    async with till.client(till.token_for()) as client:
        answer = (await client.get("/v2/orders/none")).json()
    assert answer == {
        "errors": [
            {
                "category": "AUTHENTICATION_ERROR",
                "code": "INSUFFICIENT_SCOPES",
                "detail": "This seller did not grant ORDERS_READ.",
            }
        ]
    }


async def test_the_next_calls_fail_as_they_were_told_to_and_the_one_after_does_not() -> None:
    till = StandIn()
    till.sandbox.fail_next = [UNAVAILABLE, RATE_LIMITED, RATE_LIMITED_WITH_WAIT, UNAUTHORIZED, GARBAGE]
    async with till.client() as client:
        answers = [await client.get("/v2/locations") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [503, 429, 429, 401, 200, 200]
    assert [answer.headers.get("retry-after") for answer in answers[1:3]] == [None, "1"]
    assert answers[1].json()["errors"][0]["code"] == "RATE_LIMITED"
    assert answers[4].content == b"<html>"
    assert "locations" in answers[5].json()


async def test_a_failure_for_one_path_waits_for_it() -> None:
    till = StandIn()
    till.sandbox.fail_next = [Failure(503, path="/v2/refunds")]
    assert await till.get("/v2/locations")
    assert await till.refusal("GET", "/v2/refunds") == (503, "INTERNAL_SERVER_ERROR")
    assert await till.get("/v2/refunds") == {}


async def test_calls_are_recorded_with_their_body_and_version_even_where_they_are_refused() -> None:
    till = StandIn()
    await till.search(limit=3)
    await till.refusal("GET", "/v2/refunds?limit=2", token="another")
    first, second = till.sandbox.calls
    assert (first.method, first.path, first.body["limit"]) == ("POST", "/v2/orders/search", 3)
    assert (second.path, second.query, second.square_version) == ("/v2/refunds", {"limit": "2"}, "2026-08-19")


# --- merchant and locations -----------------------------------------------------------------------------------------


async def test_the_merchant_and_each_location_have_the_documented_members() -> None:
    till = StandIn()
    merchants = await till.get("/v2/merchants")
    assert shape(merchants) == {"merchant": [shape(A_MERCHANT)]}
    assert merchants["merchant"][0]["main_location_id"] == till.main
    locations = (await till.get("/v2/locations"))["locations"]
    assert [shape(location) for location in locations] == [shape(A_LOCATION)] * 3
    assert [(location["timezone"], location["currency"], location["country"]) for location in locations] == [
        ("Europe/Dublin", "EUR", "IE"),
        ("Europe/Paris", "EUR", "FR"),
        ("America/New_York", "USD", "US"),
    ]


async def test_a_new_location_sells_in_its_own_currency_and_a_closed_one_stays_listed() -> None:
    till = StandIn()
    tokyo = till.seller.open_location(Place("Tokyo bar", "Asia/Tokyo", "JPY", "JP"))
    till.seller.close_location(till.paris)
    statuses = {place["id"]: place["status"] for place in (await till.get("/v2/locations"))["locations"]}
    assert (statuses[tokyo], statuses[till.paris]) == ("ACTIVE", "INACTIVE")
    order = await till.order(till.seller.sell(Ticket(location=tokyo)))
    assert order["tenders"][0]["amount_money"] == {"amount": 400, "currency": "JPY"}


# --- the search for orders ------------------------------------------------------------------------------------------


async def test_orders_come_newest_first_unless_asked_otherwise() -> None:
    till = StandIn()
    orders = []
    for _ in range(3):
        orders.append(till.seller.sell())
        till.clock.move(minutes=1)
    assert await till.order_ids() == orders[::-1]
    assert await till.order_ids(query={"sort": BY_UPDATE}) == orders


async def test_both_ends_of_a_time_range_are_inclusive() -> None:
    till = StandIn()
    first = till.seller.sell()
    last_at = till.clock.move(minutes=1)
    last = till.seller.sell()
    begin, end = write_time(NOON), write_time(last_at)
    assert await till.order_ids(query=updated_between(begin, end, sort_order="ASC")) == [first, last]
    later = write_time(NOON + timedelta(milliseconds=1))
    assert await till.order_ids(query=updated_between(later, end)) == [last]
    assert await till.order_ids(query=updated_between(begin, write_time(last_at - timedelta(milliseconds=1)))) == [
        first
    ]


async def test_times_are_compared_as_times_however_they_are_written() -> None:
    till = StandIn()
    till.seller.fraction_digits = 0
    order = till.seller.sell()
    assert (await till.order(order))["updated_at"] == "2026-11-20T12:00:00Z"
    assert await till.order_ids(query=updated_between("2026-11-20T14:00:00+02:00", "2026-11-20T12:00:00.000001Z")) == [
        order
    ]
    assert await till.order_ids(query=updated_between("2026-11-20T12:00:00.000001Z", "2026-11-20T13:00:00Z")) == []


async def test_an_update_moves_an_order_to_the_end_of_the_list_by_update() -> None:
    till = StandIn()
    first = till.seller.sell()
    till.clock.move(minutes=1)
    second = till.seller.sell()
    till.clock.move(minutes=1)
    till.seller.correct(first, 500)
    assert await till.order_ids(query={"sort": BY_UPDATE}) == [second, first]
    assert await till.order_ids() == [second, first], "by creation, and newest first"


async def test_orders_are_found_by_state_and_location() -> None:
    till = StandIn()
    sold, left_open = till.seller.sell(), till.seller.open(Ticket(location=till.paris))
    cancelled = till.seller.open(Ticket(location=till.new_york))
    till.seller.cancel(cancelled)
    for states, orders in (
        (["COMPLETED"], {sold}),
        (["OPEN", "CANCELED"], {left_open, cancelled}),
        ([], {sold, left_open, cancelled}),
    ):
        ids = await till.order_ids(query={"filter": {"state_filter": {"states": states}}})
        assert set(ids) == orders
    assert await till.order_ids(location_ids=[till.paris]) == [left_open]


async def test_orders_by_closing_need_closed_states() -> None:
    till = StandIn()
    till.seller.open()
    sold = till.seller.sell()
    query: JsonObject = {"sort": {"sort_field": "CLOSED_AT"}, "filter": {"state_filter": {"states": ["COMPLETED"]}}}
    assert await till.order_ids(query=query) == [sold]
    for states in ([], ["OPEN", "COMPLETED"]):
        query["filter"] = {"state_filter": {"states": states}}
        body = {"location_ids": [till.main], "query": query}
        assert await till.refusal("POST", "/v2/orders/search", body) == (400, "BAD_REQUEST")


async def test_entries_name_order_version_and_location_only() -> None:
    till = StandIn()
    order = till.seller.sell()
    unversioned = till.seller.sell(Ticket(versioned=False))
    entries = (await till.search(return_entries=True))["order_entries"]
    assert {entry["order_id"]: entry for entry in entries} == {
        order: {"order_id": order, "version": 3, "location_id": till.main},
        unversioned: {"order_id": unversioned, "location_id": till.main},
    }


async def test_nothing_found_is_an_answer_without_members() -> None:
    assert await StandIn().search() == {}


@pytest.mark.parametrize(
    "members",
    [
        {"location_ids": []},
        {"location_ids": [f"L{number}" for number in range(11)]},
        {"limit": 1001},
        {"limit": 0},
        {"query": {"filter": {"date_time_filter": {"updated_at": {}}}}},
        {"query": updated_between("yesterday", "2026-11-20T12:00:00Z")},
        {"query": updated_between("2026-11-20T12:00:00", "2026-11-20T13:00:00")},
        {"query": {"filter": {"date_time_filter": {"updated_at": {}, "created_at": {}}}}},
        {"query": {"sort": {"sort_field": "updated_at"}}},
        {"query": {"sort": {"sort_order": "asc"}}},
        {"query": {"filter": {"customer_filter": {}}}},
    ],
)
async def test_a_search_that_breaks_a_documented_limit_is_refused(members: JsonObject) -> None:
    till = StandIn()
    body = {"location_ids": [till.main], **members}
    assert await till.refusal("POST", "/v2/orders/search", body) == (400, "BAD_REQUEST")


async def test_ten_locations_and_a_thousand_orders_are_within_the_limits() -> None:
    till = StandIn()
    order = till.seller.sell()
    locations = [till.main, *(f"L{number}" for number in range(9))]
    assert await till.order_ids(location_ids=locations, limit=1000) == [order]


# --- pages ----------------------------------------------------------------------------------------------------------


async def test_cursors_lead_through_all_pages_and_the_last_has_none() -> None:
    till = StandIn()
    orders = [till.seller.sell() for _ in range(5)]
    body: JsonObject = {"limit": 2, "query": {"sort": BY_UPDATE}}
    pages = [await till.search(**body)]
    while "cursor" in pages[-1]:
        pages.append(await till.search(**body, cursor=pages[-1]["cursor"]))
    assert [len(page["orders"]) for page in pages] == [2, 2, 1]
    assert [order["id"] for page in pages for order in page["orders"]] == orders


async def test_cursors_lead_backwards_too() -> None:
    till = StandIn()
    orders = [till.seller.sell() for _ in range(3)]
    first = await till.search(limit=2)
    second = await till.search(limit=2, cursor=first["cursor"])
    assert [order["id"] for page in (first, second) for order in page["orders"]] == orders[::-1]


async def test_a_page_that_is_exactly_full_is_the_last() -> None:
    till = StandIn()
    till.seller.sell()
    till.seller.sell()
    assert "cursor" not in await till.search(limit=2)


async def test_a_cursor_is_good_for_its_own_query_only_and_until_it_is_forgotten() -> None:
    till = StandIn()
    for _ in range(3):
        till.seller.sell()
    body: JsonObject = {"location_ids": list(till.seller.locations), "limit": 1}
    body["cursor"] = (await till.search(limit=1))["cursor"]
    for changed in ({"query": {"sort": BY_UPDATE}}, {"location_ids": [till.main]}, {"cursor": "another"}):
        assert await till.refusal("POST", "/v2/orders/search", body | changed) == (400, "INVALID_CURSOR")
    assert len((await till.post("/v2/orders/search", body))["orders"]) == 1
    till.sandbox.cursors.forget()
    assert await till.refusal("POST", "/v2/orders/search", body) == (400, "INVALID_CURSOR")


async def test_an_order_that_changes_between_two_pages_by_update_comes_again_at_the_end() -> None:
    till = StandIn()
    orders = []
    for _ in range(3):
        orders.append(till.seller.sell())
        till.clock.move(minutes=1)
    body: JsonObject = {"limit": 2, "query": {"sort": BY_UPDATE}}
    first = await till.search(**body)
    till.seller.correct(orders[0], 500)
    assert await till.order_ids(**body, cursor=first["cursor"]) == [orders[2], orders[0]]


async def test_a_seller_may_have_smaller_pages_than_are_asked_for() -> None:
    till = StandIn(page_size=2)
    for _ in range(3):
        till.seller.sell()
    page = await till.search(limit=500)
    assert len(page["orders"]) == 2
    assert "cursor" in page


# --- single records -------------------------------------------------------------------------------------------------


async def test_a_batch_skips_unknown_orders_and_holds_a_hundred() -> None:
    till = StandIn()
    order = till.seller.sell()
    ids = [order, *(f"unknown{number}" for number in range(99))]
    assert [
        record["id"] for record in (await till.post("/v2/orders/batch-retrieve", {"order_ids": ids}))["orders"]
    ] == [order]
    body = {"order_ids": [*ids, "one more"]}
    assert await till.refusal("POST", "/v2/orders/batch-retrieve", body) == (400, "BAD_REQUEST")


@pytest.mark.parametrize("path", ["/v2/orders/x", "/v2/payments/x", "/v2/refunds/x", "/v2/customers/x"])
async def test_what_nobody_has_is_not_found(path: str) -> None:
    assert await StandIn().refusal("GET", path) == (404, "NOT_FOUND")


async def test_the_list_of_payments_is_that_of_one_location_and_may_lag() -> None:
    till = StandIn()
    main, paris = till.seller.sell(), till.seller.sell(Ticket(location=till.paris))
    listed = [payment["order_id"] for payment in (await till.get("/v2/payments"))["payments"]]
    assert listed == [main], "the main location's only"
    listed = [payment["order_id"] for payment in (await till.get("/v2/payments", location_id=till.paris))["payments"]]
    assert listed == [paris]
    till.seller.list_lag_seconds = 5
    assert await till.get("/v2/payments") == {}
    till.clock.move(seconds=5)
    assert len((await till.get("/v2/payments"))["payments"]) == 1


async def test_payments_and_refunds_are_listed_by_when_they_were_made() -> None:
    till = StandIn()
    sales = [till.seller.sell()]
    till.clock.move(minutes=1)
    sales.append(till.seller.sell())
    for sale in sales:
        till.seller.refund_amount(sale, 100)
        till.clock.move(minutes=1)
    ends = {"begin_time": write_time(NOON + timedelta(minutes=1)), "end_time": write_time(NOON + timedelta(minutes=1))}
    assert [payment["order_id"] for payment in (await till.get("/v2/payments", **ends))["payments"]] == [sales[1]]
    (refund,) = (await till.get("/v2/refunds", **ends))["refunds"]
    assert refund["payment_id"] == till.seller.payments_of(sales[0])[0]["id"]


async def test_a_cursor_of_one_list_is_none_of_another() -> None:
    till = StandIn()
    for _ in range(2):
        till.seller.refund_amount(till.seller.sell(), 100)
    cursor = (await till.get("/v2/payments", limit=1))["cursor"]
    assert await till.refusal("GET", f"/v2/refunds?limit=1&cursor={cursor}") == (400, "INVALID_CURSOR")
    assert (await till.get("/v2/payments", limit=1, cursor=cursor))["payments"]


async def test_refunds_are_listed_by_location_and_status() -> None:
    till = StandIn()
    pending = RefundTerms(status="PENDING")
    main = till.seller.refund_amount(till.seller.sell(), 100, pending).refunds
    paris = till.seller.refund_amount(till.seller.sell(Ticket(location=till.paris)), 100).refunds
    for query, refunds in (
        ({"location_id": till.paris}, paris),
        ({"status": "PENDING"}, main),
        ({"status": "COMPLETED"}, paris),
    ):
        listed = (await till.get("/v2/refunds", **query))["refunds"]
        assert tuple(refund["id"] for refund in listed) == refunds


async def test_refunds_are_listed_by_when_they_changed() -> None:
    till = StandIn()
    sales = [till.seller.sell() for _ in range(3)]
    refunds = []
    for sale in sales:
        till.clock.move(minutes=1)
        refunds += till.seller.refund_amount(sale, 100).refunds
    query = {"sort_field": "UPDATED_AT", "sort_order": "ASC", "limit": 1}
    begin = write_time(NOON + timedelta(minutes=2))
    page = await till.get("/v2/refunds", updated_at_begin_time=begin, **query)
    assert [refund["id"] for refund in page["refunds"]] == [refunds[1]], "the begin is inclusive"
    page = await till.get("/v2/refunds", updated_at_begin_time=begin, cursor=page["cursor"], **query)
    assert ([refund["id"] for refund in page["refunds"]], "cursor" in page) == ([refunds[2]], False)
    everything = await till.get("/v2/refunds")
    assert [refund["id"] for refund in everything["refunds"]] == refunds[::-1], "newest first by default"
    assert await till.refusal("GET", "/v2/refunds?limit=101") == (400, "BAD_REQUEST")
    assert await till.refusal("GET", "/v2/refunds?sort_field=SIZE") == (400, "BAD_REQUEST")


async def test_the_catalogue_comes_in_pages_of_a_hundred_and_by_type() -> None:
    till = StandIn()
    category = till.seller.catalogue.add_category("Cakes")
    added = [till.seller.catalogue.add_item(f"Cake {number}", 350, category) for number in range(120)]
    first = await till.get("/v2/catalog/list", types="ITEM,CATEGORY")
    second = await till.get("/v2/catalog/list", types="ITEM,CATEGORY", cursor=first["cursor"])
    assert (len(first["objects"]), "cursor" in second) == (100, False)
    objects = [*first["objects"], *second["objects"]]
    assert {entry["type"] for entry in objects} == {"ITEM", "CATEGORY"}
    last = objects[-1]["item_data"]
    assert (last["variations"][0]["id"], last["reporting_category"]["id"]) == (added[-1], category)
    assert await till.refusal("GET", f"/v2/catalog/list?types=ITEM&cursor={first['cursor']}") == (400, "INVALID_CURSOR")
    categories = (await till.get("/v2/catalog/list", types="CATEGORY"))["objects"]
    assert [entry["category_data"]["name"] for entry in categories] == ["Coffee", "Pastry", "Cakes"]


async def test_a_customer_has_what_is_known_and_an_instant_profile_no_contact() -> None:
    till = StandIn()
    guest = till.seller.add_customer("(202) 555-0142", email="guest@example.com", reference_id="482913")
    profile = (await till.get(f"/v2/customers/{guest}"))["customer"]
    assert (profile["phone_number"], profile["reference_id"], profile["creation_source"]) == (
        "(202) 555-0142",
        "482913",
        "DIRECTORY",
    )
    instant = (await till.get(f"/v2/customers/{till.seller.add_instant_profile()}"))["customer"]
    assert instant["creation_source"] == "INSTANT_PROFILE"
    assert not instant.keys() & {"phone_number", "email_address", "reference_id"}


def test_a_customer_is_known_again_by_phone_or_else_by_email() -> None:
    seller = StandIn().seller
    first, second = seller.customer_of("+353201234567"), seller.customer_of(None, "guest@example.com")
    assert (seller.customer_of("+353201234567"), seller.customer_of(None, "guest@example.com")) == (first, second)
    assert len({first, second, seller.customer_of("+353201234568"), seller.customer_of(None, "other@example.com")}) == 4


async def test_an_old_customer_id_answers_with_the_profile_that_it_was_merged_to() -> None:
    till = StandIn()
    first, second = till.seller.add_customer("+353201234567"), till.seller.add_customer(email="guest@example.com")
    order = till.seller.sell(Ticket(customer=first))
    merged = till.seller.merge_customers(first, second)
    profile = (await till.get(f"/v2/customers/{first}"))["customer"]
    assert (profile["id"], profile["phone_number"], profile["email_address"]) == (
        merged,
        "+353201234567",
        "guest@example.com",
    )
    assert (await till.order(order))["customer_id"] == first, "an order keeps the id that it has"


# --- as the host's commands use it ----------------------------------------------------------------------------------


def test_it_is_a_sandbox_of_the_sdk_and_says_how_to_point_a_host_at_it() -> None:
    sandbox: TillSandbox = SquareSandbox()
    variables = sandbox.environment("http://127.0.0.1:9")
    assert variables["SQUARE_API_URL"] == "http://127.0.0.1:9"
    assert all(name.startswith("SQUARE_") and value for name, value in variables.items())


async def test_two_weeks_fill_both_zones_and_tell_nobody() -> None:
    till = StandIn()
    till.sandbox.two_weeks(["+353201234567"])
    orders = till.seller.answered_orders()
    assert {order["location_id"] for order in orders} == set(till.seller.locations)
    assert min(order["created_at"] for order in orders) < write_time(NOON - timedelta(days=13))
    assert max(order["created_at"] for order in orders) < write_time(NOON)
    assert till.sandbox.take_hooks() == []
    assert till.seller.now() == NOON


async def test_a_busy_morning_sells_at_every_location_and_posts_what_it_does() -> None:
    till = StandIn()
    bodies: list[bytes] = []

    class Over(Exception):
        """The morning is over."""

    async def post(body: bytes, _headers: object) -> None:
        bodies.append(body)

    async def pause() -> None:
        till.clock.move(seconds=30)
        if len(bodies) > 200:
            raise Over

    with pytest.raises(Over):
        await till.sandbox.busy_morning(["+353201234567", "+353201234568"], post, pause)
    posted = b"".join(bodies)
    for kind in (b"payment.created", b"payment.updated", b"refund.updated", b"order.updated"):
        assert kind in posted
    assert {order["location_id"] for order in till.seller.orders.values()} == set(till.seller.locations)


async def test_a_script_sells_and_refunds_by_commands_and_reads_why_it_is_not_understood() -> None:
    till = StandIn()
    sold = await till.post("/_sandbox/sell", {"paid": 1500, "phone": "+353201234567", "tip": 100})
    tender = (await till.order(sold["receipt_id"]))["tenders"][0]
    assert tender["amount_money"]["amount"] == 1600
    refunded = await till.post("/_sandbox/refund", {"receipt_id": sold["receipt_id"], "amount": 600})
    refund = (await till.get(f"/v2/refunds/{refunded['refunds'][0]}"))["refund"]
    assert (refund["amount_money"]["amount"], refund["order_id"]) == (600, refunded["return_order"])
    for command, values in (("dance", {}), ("sell", {"paid": []}), ("refund", {}), ("correct", {"receipt_id": "x"})):
        async with till.client() as client:
            assert (await client.post(f"/_sandbox/{command}", json=values)).status_code == 422

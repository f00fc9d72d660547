"""The stand-in Square posts the webhooks that the wire document says, signed over the URL as subscribed."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
import respx

from square_connector.sandbox import APPLICATION_ID, SECRET, SquareSandbox
from square_connector.sandbox_application import SCOPES
from square_connector.sandbox_records import Place
from square_connector.sandbox_seller import RefundTerms, Seller
from square_connector.sandbox_ticket import Ticket
from square_connector.sandbox_values import JsonObject
from square_connector.sandbox_webhooks import (
    NOTIFICATION_URL,
    SIGNATURE_HEADER,
    SIGNATURE_KEY,
    SignedHook,
    deliver,
    retry_of,
    sign_body,
)
from tests.square.shapes import shape
from tests.square.stand_in import StandIn, all_but

AN_ORDER_HOOK = {
    "merchant_id": "MLONE",
    "type": "order.updated",
    "event_id": "00000000-0000-4000-8000-000000000001",
    "created_at": "2026-11-20T13:15:31.220Z",
    "data": {
        "type": "order_updated",
        "id": "order1",
        "object": {
            "order_updated": {
                "order_id": "order1",
                "version": 4,
                "location_id": "LONE",
                "state": "COMPLETED",
                "created_at": "2026-11-20T13:11:02.114Z",
                "updated_at": "2026-11-20T13:15:30.902Z",
            }
        },
    },
}
A_REVOCATION = {
    "merchant_id": "MLONE",
    "type": "oauth.authorization.revoked",
    "event_id": "00000000-0000-4000-8000-000000000004",
    "created_at": "2026-11-22T10:00:01.000Z",
    "data": {
        "type": "revocation",
        "id": "00000000-0000-4000-8000-0000000000f4",
        "object": {"revocation": {"revoked_at": "2026-11-22T10:00:00.000Z", "revoker_type": "MERCHANT"}},
    },
}
A_LOCATION_HOOK = {
    "merchant_id": "MLONE",
    "type": "location.updated",
    "event_id": "00000000-0000-4000-8000-000000000005",
    "created_at": "2026-11-22T10:05:00.000Z",
    "data": {"type": "location", "id": "LONE"},
    "location_id": "LONE",
}


def bodies_of(till: StandIn) -> list[JsonObject]:
    """Return the bodies of the webhooks that are now posted."""
    return [json.loads(hook.body) for hook in till.sandbox.take_hooks()]


def types(till: StandIn) -> list[str]:
    """Return the types of the webhooks that are now posted."""
    return [body["type"] for body in bodies_of(till)]


# --- what is posted -------------------------------------------------------------------------------------------------


def test_a_sale_at_the_till_is_told_by_its_payments_only() -> None:
    till = StandIn()
    order = till.seller.sell()
    bodies = bodies_of(till)
    assert [body["type"] for body in bodies] == ["payment.created", "payment.updated"]
    payments = [body["data"]["object"]["payment"] for body in bodies]
    assert [payment["status"] for payment in payments] == ["APPROVED", "COMPLETED"]
    assert payments[1] == till.seller.payments_of(order)[0]
    assert bodies[1]["data"]["id"] == payments[1]["id"]


def test_an_order_of_the_api_is_told_by_itself_too_and_thinly() -> None:
    till = StandIn()
    order = till.seller.pay_ahead()
    bodies = [body for body in bodies_of(till) if body["type"] == "order.updated"]
    assert [shape(body) for body in bodies] == [shape(AN_ORDER_HOOK)] * 2
    assert bodies[-1]["data"]["object"]["order_updated"] == {
        "order_id": order,
        "version": 2,
        "location_id": till.main,
        "state": "OPEN",
        "created_at": "2026-11-20T12:00:00.120Z",
        "updated_at": "2026-11-20T12:00:00.120Z",
    }


def test_a_hook_says_what_was_true_when_it_happened() -> None:
    till = StandIn()
    order = till.seller.sell()
    till.seller.correct(order, 900)
    amounts = [body["data"]["object"]["payment"]["amount_money"]["amount"] for body in bodies_of(till)]
    assert amounts == [400, 400, 900]


def test_a_refund_is_told_by_itself_and_by_its_payment() -> None:
    till = StandIn()
    order = till.seller.sell()
    till.seller.take_events()
    refunded = till.seller.refund_amount(order, 100, RefundTerms(status="PENDING"))
    assert types(till) == ["refund.created", "payment.updated"]
    till.seller.finish_refund(refunded.refunds[0])
    bodies = bodies_of(till)
    assert [body["type"] for body in bodies] == ["refund.updated", "payment.updated"]
    assert bodies[0]["data"]["object"]["refund"]["status"] == "COMPLETED"
    assert bodies[1]["data"]["object"]["payment"]["refunded_money"]["amount"] == 100


def test_a_location_is_told_by_its_id_only() -> None:
    till = StandIn()
    location = till.seller.open_location(Place("Fourth bar", "Europe/Paris", "EUR", "FR"))
    till.seller.rename_location(location, "Harbour bar")
    bodies = bodies_of(till)
    assert [body["type"] for body in bodies] == ["location.created", "location.updated"]
    assert [shape(body) for body in bodies] == [shape(A_LOCATION_HOOK)] * 2
    assert {body["location_id"] for body in bodies} == {location}


def test_a_merge_is_told_by_the_new_profile_and_each_old_one() -> None:
    till = StandIn()
    first, second = till.seller.add_customer("+353201234567"), till.seller.add_customer("+353201234568")
    till.seller.take_events()
    merged = till.seller.merge_customers(first, second)
    bodies = bodies_of(till)
    assert [(body["type"], body["data"]["id"]) for body in bodies] == [
        ("customer.created", merged),
        ("customer.deleted", first),
        ("customer.deleted", second),
    ]
    for body in bodies:
        merge = body["data"]["object"]["event_context"]["merge"]
        assert merge == {"from_customer_ids": [first, second], "to_customer_id": merged}


def test_a_revocation_is_told_though_no_scope_is_left() -> None:
    till = StandIn()
    till.sandbox.square_application.revoke_seller(till.seller.merchant_id)
    till.seller.sell()
    (body,) = bodies_of(till)
    assert shape(body) == shape(A_REVOCATION)
    assert body["data"]["object"]["revocation"]["revoker_type"] == "MERCHANT"


@pytest.mark.parametrize(
    ("scope", "missing"),
    [
        ("ORDERS_READ", {"order"}),
        ("PAYMENTS_READ", {"payment", "refund"}),
        ("CUSTOMERS_READ", {"customer"}),
        ("MERCHANT_PROFILE_READ", {"location"}),
    ],
)
def test_webhooks_come_only_with_their_scope(scope: str, missing: set[str]) -> None:
    till = StandIn()
    till.sandbox.square_application.revoke_seller(till.seller.merchant_id)
    till.seller.take_events()
    till.token_for(*all_but(scope))
    till.seller.refund_everything(till.seller.sell(Ticket(customer=till.seller.add_customer())))
    till.seller.pay_ahead()
    till.seller.close_location(till.paris)
    kinds = {kind.partition(".")[0] for kind in types(till)}
    assert kinds == {"order", "payment", "refund", "customer", "location"} - missing
    assert scope in SCOPES


def test_the_consent_of_one_seller_brings_no_webhook_of_another() -> None:
    sandbox = SquareSandbox(Seller("MLONE", "Corner"), Seller("MLTWO", "Harbour"))
    sandbox.square_application.revoke_seller("MLONE")
    for seller in sandbox.sellers:
        seller.take_events()
        seller.sell()
    assert {json.loads(hook.body)["merchant_id"] for hook in sandbox.take_hooks()} == {"MLTWO"}


# --- how it is signed -----------------------------------------------------------------------------------------------


def test_the_signature_is_what_another_tool_computes() -> None:
    # printf '%s%s' URL BODY | openssl dgst -sha256 -hmac KEY -binary | base64
    body = b'{"type":"location.updated","data":{"id":"L1"}}'
    signature = sign_body(body, "a-key-of-this-test", "https://till.example/hooks")
    assert signature == "G9UvXEHqB2Etuw1LORgmpEIjQeY2ubTicaYeGdLMSBU="


def test_a_hook_is_signed_over_the_url_as_subscribed_and_a_forged_one_differs() -> None:
    till = StandIn()
    order = till.seller.sell()
    till.sandbox.subscription.delivery_url = "http://127.0.0.1:9/elsewhere"
    hook, forged = till.sandbox.hook(order), till.sandbox.hook(order, key="guessed")
    assert hook.headers[SIGNATURE_HEADER] == sign_body(hook.body, SIGNATURE_KEY, NOTIFICATION_URL)
    assert forged.headers[SIGNATURE_HEADER] == sign_body(forged.body, "guessed", NOTIFICATION_URL)
    till.sandbox.subscription.notification_url = "https://other.example/hooks"
    assert till.sandbox.hook(order).headers[SIGNATURE_HEADER] != hook.headers[SIGNATURE_HEADER]


def test_a_hook_about_an_order_is_its_payments_or_its_own_where_there_is_none() -> None:
    till = StandIn()
    sold, left_open = till.seller.sell(), till.seller.open()
    assert json.loads(till.sandbox.hook(sold).body)["data"]["object"]["payment"]["order_id"] == sold
    assert json.loads(till.sandbox.hook(left_open).body)["data"]["id"] == left_open


# --- how it is delivered --------------------------------------------------------------------------------------------


def test_a_duplicate_has_the_event_id_of_the_first() -> None:
    till = StandIn()
    till.sandbox.subscription.duplicates_next = 1
    till.seller.sell()
    created, duplicate, updated = bodies_of(till)
    assert created == duplicate
    assert updated["event_id"] != created["event_id"]


def test_a_retry_has_the_body_and_signature_of_the_first_and_says_its_number() -> None:
    till = StandIn()
    hook = till.sandbox.hook(till.seller.sell())
    retry = retry_of(hook, 2, "http_timeout")
    assert retry.body == hook.body
    assert {**hook.headers, "square-retry-number": "2", "square-retry-reason": "http_timeout"} == retry.headers


async def test_a_hook_is_posted_again_until_it_is_taken() -> None:
    posted: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        posted.append(request)
        if len(posted) == 1:
            raise httpx.ReadTimeout("slow")
        return httpx.Response(500 if len(posted) == 2 else 204)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        assert await deliver(SignedHook({}, b"{}"), "https://host.test/hooks", [0, 0, 0], client)
    retries = [
        (request.headers.get("square-retry-number"), request.headers.get("square-retry-reason")) for request in posted
    ]
    assert retries == [(None, None), ("1", "http_timeout"), ("2", "http_error")]


async def test_a_hook_that_nobody_takes_is_given_up() -> None:
    posted: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        posted.append(request)
        raise httpx.ConnectError("nobody listens")

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        assert not await deliver(SignedHook({}, b"{}"), "https://host.test/hooks", [0], client)
    assert len(posted) == 2


@respx.mock
async def test_a_served_sandbox_posts_what_a_command_did_by_itself() -> None:
    till = StandIn()
    both = asyncio.Event()
    bodies: list[JsonObject] = []

    def take(request: httpx.Request) -> httpx.Response:
        assert request.headers[SIGNATURE_HEADER] == sign_body(request.content)
        bodies.append(json.loads(request.content))
        if len(bodies) == 2:
            both.set()
        return httpx.Response(200)

    respx.post("http://host.test/hooks").mock(side_effect=take)
    await till.post("/_sandbox/hooks", {"url": "http://host.test/hooks"})
    await till.post("/_sandbox/sell", {})
    await asyncio.wait_for(both.wait(), 5)
    assert {body["type"] for body in bodies} == {"payment.created", "payment.updated"}


@respx.mock
async def test_a_served_sandbox_posts_that_the_application_gave_its_access_up() -> None:
    till = StandIn()
    posted = asyncio.Event()
    bodies: list[JsonObject] = []

    def take(request: httpx.Request) -> httpx.Response:
        bodies.append(json.loads(request.content))
        posted.set()
        return httpx.Response(200)

    respx.post("http://host.test/hooks").mock(side_effect=take)
    till.sandbox.subscription.delivery_url = "http://host.test/hooks"
    form = {"client_id": APPLICATION_ID, "merchant_id": till.seller.merchant_id}
    async with till.client() as client:
        await client.post("/oauth2/revoke", json=form, headers={"authorization": f"Client {SECRET}"})
    await asyncio.wait_for(posted.wait(), 5)
    assert bodies[0]["data"]["object"]["revocation"]["revoker_type"] == "APPLICATION"


@respx.mock
async def test_without_an_address_nothing_is_posted_and_nothing_is_kept_for_later() -> None:
    till = StandIn()
    await till.post("/_sandbox/sell", {})
    assert not respx.calls
    assert bodies_of(till) == []

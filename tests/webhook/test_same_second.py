"""Two states of an order within one second have the same revision: the second one counts, and none loses in silence."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest

from connector_sdk.signatures import BodyHmac
from tests.installation import Installation
from tests.webhook.test_way_of_a_request import READY, SECRET, SHOP, connect, fresh, send

PHONE = "+34600111222"
HEADERS = {"woocommerce": "X-WC-Webhook-Signature", "shopify": "X-Shopify-Hmac-Sha256"}
STATES: dict[str, dict[str, dict[str, object]]] = {
    "woocommerce": {
        "pending": {"status": "pending", "refunds": []},
        "paid": {"status": "processing", "refunds": []},
        "refunded": {"status": "refunded", "refunds": []},
        "cancelled": {"status": "cancelled", "refunds": []},
    },
    "shopify": {
        "pending": {"financial_status": "pending", "refunds": []},
        "paid": {"financial_status": "paid", "refunds": []},
        "refunded": {"financial_status": "refunded", "refunds": []},
        "cancelled": {"financial_status": "voided", "refunds": []},
    },
}


async def sell(installation: Installation, shop: str, *states: str) -> list[str]:
    """Send states of one order, all of one second; return the journal."""
    await connect(installation, {**READY[shop].settings, **SHOP})
    first = fresh(READY[shop].sample)
    for state in states:
        body = json.dumps({**json.loads(first), **STATES[shop][state]}).encode()
        assert await send(installation, body, {HEADERS[shop]: BodyHmac(SECRET, "base64").sign(body)}) == 200
        await installation.sync()
    return await installation.journal()


@pytest.mark.parametrize("shop", STATES)
async def test_an_order_paid_within_the_second_gives_its_stamps(installation: Installation, shop: str) -> None:
    await sell(installation, shop, "pending", "paid")
    assert installation.stamps(PHONE) > 0


@pytest.mark.parametrize("shop", STATES)
@pytest.mark.parametrize("end", ["refunded", "cancelled"])
async def test_an_order_taken_back_within_the_second_keeps_no_stamp(
    installation: Installation, shop: str, end: str
) -> None:
    await sell(installation, shop, "paid", end)
    assert len(installation.applied("stamps_added")) == len(installation.applied("stamps_reversed")) == 1
    assert installation.stamps(PHONE) == 0


@pytest.mark.parametrize("shop", STATES)
async def test_a_state_that_would_undo_a_refund_changes_nothing_and_the_journal_says_so_once(
    installation: Installation, shop: str
) -> None:
    lines = await sell(installation, shop, "paid", "refunded", "pending", "pending")
    assert installation.stamps(PHONE) == 0
    assert len([line for line in lines if "would undo a refund" in line]) == 1


async def test_an_older_revision_changes_nothing_and_the_journal_says_so_once(installation: Installation) -> None:
    await connect(installation, {**READY["woocommerce"].settings, **SHOP})
    now = json.loads(fresh(READY["woocommerce"].sample, refunds=[]))
    before = (datetime.now(UTC) - timedelta(minutes=5)).strftime("%Y-%m-%dT%H:%M:%S")
    older = {**now, "status": "cancelled", "date_modified_gmt": before}
    for state in (now, older, older):
        body = json.dumps(state).encode()
        assert await send(installation, body, {"X-WC-Webhook-Signature": BodyHmac(SECRET, "base64").sign(body)}) == 200
    await installation.sync()
    assert installation.stamps(PHONE) == 29
    assert len([line for line in await installation.journal() if "an older state of it arrived" in line]) == 1

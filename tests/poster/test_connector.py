"""Reading Poster through its sandbox over HTTP: windows, cursors, orders, errors, menu and account."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from pydantic import SecretStr

from connector_sdk import BadPayload, MissingRight, NotAuthorised, RateLimited, Sale, TillUnavailable
from connectors.cli.servers import serving
from poster_connector import PosterConnector
from poster_connector.sandbox import Account, PosterSandbox
from poster_connector.sandbox_account import Failure
from poster_connector.settings import PosterApp, PosterSettings


@pytest.fixture
async def sandbox() -> AsyncIterator[tuple[Account, str]]:
    till = PosterSandbox()
    async with serving(till) as origin:
        yield till.account, f"{origin}/api"


async def connected(sandbox: tuple[Account, str], **settings: bool) -> PosterConnector:
    """A connector of the sandbox's account, as the host makes it after its check."""
    account, url = sandbox
    values = PosterSettings.model_validate({"access_token": account.token, **settings})
    before = PosterConnector(values, app=PosterApp(api_url=url))
    till_account = await before.check()
    await before.aclose()
    return PosterConnector(values, app=PosterApp(api_url=url), account=till_account)


async def polled(till: PosterConnector, since: datetime) -> list[Sale]:
    return [sale async for page in till.poll(since) for sale in page.sales]


async def looked_back(till: PosterConnector, since: datetime) -> list[Sale]:
    return [sale async for page in till.history(since) for sale in page.sales]


async def test_the_account(sandbox: tuple[Account, str]) -> None:
    account = (await connected(sandbox)).account
    assert (account.id, account.name, account.currency, account.zone, account.country) == (
        "861052", "Cafe Lviv", "UAH", "Europe/Kyiv", "UA",
    )  # fmt: skip
    assert [(location.id, location.name) for location in account.locations] == [("1", "Main hall"), ("2", "Terrace")]


@pytest.mark.parametrize("newest_first", [True, False])
@pytest.mark.parametrize("page_size", [1, 3, 50])
async def test_every_receipt_comes_once_in_both_list_orders(
    sandbox: tuple[Account, str], newest_first: bool, page_size: int
) -> None:
    account, _ = sandbox
    account.newest_first, account.page_size = newest_first, page_size
    sold = {str(account.sell(0, 100 + number)) for number in range(7)}
    till = await connected(sandbox)
    receipt_ids = [sale.receipt_id for sale in await polled(till, datetime.now(UTC) - timedelta(hours=1))]
    assert sorted(receipt_ids) == sorted(sold)


@pytest.mark.parametrize("zone", ["Europe/Kyiv", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
async def test_the_window_is_the_accounts_business_days_in_slices_poster_accepts(
    sandbox: tuple[Account, str], zone: str
) -> None:
    account, _ = sandbox
    account.zone = zone
    just_after_midnight = datetime.now(ZoneInfo(zone)).replace(hour=0, minute=1)
    account.now = lambda: just_after_midnight - timedelta(minutes=3)
    before = account.sell(0)
    till = await connected(sandbox)
    sales = await polled(till, just_after_midnight - timedelta(minutes=30))
    assert [sale.receipt_id for sale in sales] == [str(before)]
    for days in (1, 10, 40):
        slices = till._slices(datetime.now(UTC) - timedelta(days=days), datetime.now(UTC))
        assert all((last - first).days <= 2 for first, last in slices)
        assert all(a[1] + timedelta(days=1) == b[0] for a, b in pairwise(slices))


async def test_the_fast_poll_takes_what_was_closed_since_and_the_look_back_everything(
    sandbox: tuple[Account, str],
) -> None:
    account, _ = sandbox
    account.now = lambda: datetime.now(UTC) - timedelta(hours=30)
    old, removed, refunded = account.sell(0), account.sell(0), account.sell(0)
    account.now = lambda: datetime.now(UTC)
    still_open = account.open()
    new = account.sell(0)
    account.remove(removed)
    account.refund(refunded)
    till = await connected(sandbox)
    assert [sale.receipt_id for sale in await polled(till, datetime.now(UTC) - timedelta(hours=1))] == [str(new)]
    sales = await looked_back(till, datetime.now(UTC) - timedelta(days=2))
    assert {sale.receipt_id: sale.status for sale in sales} == {
        str(old): "closed", str(removed): "voided", str(refunded): "voided", str(still_open): "open",
        str(new): "closed",
    }  # fmt: skip


async def test_a_tablet_that_was_offline_is_found_by_the_look_back(sandbox: tuple[Account, str]) -> None:
    account, _ = sandbox
    late = account.sell(0)
    account.offline.add(late)
    till = await connected(sandbox)
    assert await looked_back(till, datetime.now(UTC)) == []
    account.offline.clear()
    assert [sale.receipt_id for sale in await looked_back(till, datetime.now(UTC))] == [str(late)]


async def test_a_receipt_reads_the_same_by_list_and_by_id(sandbox: tuple[Account, str]) -> None:
    account, _ = sandbox
    receipt = account.sell(account.client("+380501112233"), comment="FREECOFFEE")
    till = await connected(sandbox, categories=True)
    (listed,) = await polled(till, datetime.now(UTC) - timedelta(hours=1))
    assert await till.fetch(str(receipt)) == listed
    assert listed.lines[0].category_id == "4"
    assert await till.fetch("999") is None


async def test_customers_and_menu(sandbox: tuple[Account, str]) -> None:
    account, _ = sandbox
    till = await connected(sandbox)
    customer = await till.customer(str(account.client("+380501112233")))
    assert customer is not None
    assert customer.phone == "+380501112233"
    assert await till.customer("999") is None
    menu = {item.product_id: (item.name, item.category_name) for item in await till.menu()}
    assert menu["161"] == ("Cappuccino", "Coffee")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (10, NotAuthorised),
        (11, NotAuthorised),
        (12, NotAuthorised),
        (20, MissingRight),
        (54, MissingRight),
        (52, BadPayload),
        (700, RateLimited),
        (999, TillUnavailable),
        (b"<html>", TillUnavailable),
        (b"{}", TillUnavailable),
        (b'{"error": 11, "message": "Bad"}', NotAuthorised),
        (b'{"response": {}}', TillUnavailable),
        ("500", TillUnavailable),
    ],
)
async def test_errors_in_both_shapes(sandbox: tuple[Account, str], failure: Failure, error: type[Exception]) -> None:
    till = await connected(sandbox)
    sandbox[0].fail_next = [failure] * 3
    with pytest.raises(error):
        await till.fetch("1")


async def test_a_token_without_a_right_says_which(sandbox: tuple[Account, str]) -> None:
    account, url = sandbox
    till = PosterConnector(PosterSettings(access_token=SecretStr(account.token)), app=PosterApp(api_url=url))
    account.fail_next = ["200", 54]
    with pytest.raises((MissingRight, TillUnavailable)):
        await till.check()
    account.fail_next = []
    assert (await till.check()).id == "861052"

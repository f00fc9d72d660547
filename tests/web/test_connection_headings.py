"""A connection's page says what is true of the newest sale, and tells of many old receipts in one line."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest

from connectors.store import inbox
from tests.installation import ANNA, Installation
from tests.web.browser import Browser, open_browsers
from tests.web.test_voucher_at_a_till import words


@pytest.fixture
async def browser(installation: Installation) -> AsyncIterator[Browser]:
    async with open_browsers(installation) as browsers:
        yield await browsers.new().sign_in()


async def page(installation: Installation, browser: Browser) -> str:
    return words(await browser.get(f"/connections/{installation.connection.id}"))


async def test_receipts_from_before_the_connection_are_one_line(installation: Installation, browser: Browser) -> None:
    cafe = installation.cafe
    for _ in range(5):
        cafe.sell(cafe.client(ANNA))
    await installation.connect()
    cafe.sell(cafe.client(ANNA))
    await installation.sync()
    shown = await page(installation, browser)
    assert "5 older receipts were left alone: they are from before this connection began." in shown
    assert "earned no stamps" not in shown
    assert "1 stamp is on the card" in shown


async def test_older_lines_are_reached_behind_many_that_became_one(
    installation: Installation, browser: Browser
) -> None:
    for _ in range(150):
        installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.connect()
    await installation.sync()
    address = f"/connections/{installation.connection.id}"
    first = await browser.get(address)
    assert "older receipts were left alone" in words(first)
    older = re.search(r"\?before=\d+", first.text)
    assert older
    assert "Connected" in words(await browser.get(f"{address}{older[0]}"))


async def test_the_heading_names_a_newest_sale_that_could_not_be_read(
    installation: Installation, browser: Browser
) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    installation.cafe.receipts[receipt]["payed_sum"] = "a lot"
    await installation.sync()
    shown = await page(installation, browser)
    assert "The last sale could not be read" in shown
    assert "Every sale has arrived" not in shown
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    shown = await page(installation, browser)
    assert "The last sale could not be read" not in shown
    assert "1 request could not be read Look at it" in shown


async def test_the_heading_is_the_same_whatever_lines_are_shown_beneath_it(
    installation: Installation, browser: Browser
) -> None:
    await installation.connect()
    for _ in range(25):
        installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    installation.cafe.receipts[installation.cafe.sell(installation.cafe.client(ANNA))]["payed_sum"] = "a lot"
    await installation.sync()
    newest = await browser.get(f"/connections/{installation.connection.id}")
    older = re.search(r"\?before=\d+", newest.text)
    assert older
    for query in ("", older[0]):
        shown = words(await browser.get(f"/connections/{installation.connection.id}{query}"))
        assert "The last sale could not be read" in shown, query


async def test_the_heading_says_how_the_last_sale_came(installation: Installation, browser: Browser) -> None:
    await installation.connect()
    await installation.sync()
    shown = await page(installation, browser)
    assert "Every sale has arrived" in shown
    assert "Last look:" in shown
    receipt = installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.hook(installation.cafe.hook(receipt, "closed"))
    connection = installation.connection
    hints = await installation.host.store.write(lambda tx: inbox.hints.lease(tx, 10, connection.id))
    await installation.host.reader.follow_hints(connection, hints)
    await installation.host.services.sync.deliver(connection.id, 0)
    assert "The till told us of a sale" in await page(installation, browser)


async def test_receipts_of_today_that_nobody_has_are_told_with_their_stamps(
    installation: Installation, browser: Browser
) -> None:
    await installation.connect()
    assert "without a customer" not in await page(installation, browser)
    cafe = installation.cafe
    cafe.sell(cafe.client(ANNA))
    receipts = [cafe.sell(0) for _ in range(4)]
    cafe.refund(receipts[0])
    cafe.receipts[receipts[1]]["date_close"] = str(int(cafe.receipts[receipts[1]]["date_close"]) - 86_400_000)
    await installation.sync()
    assert "2 receipts without a customer: 2 stamps not given" in await page(installation, browser)
    shown = await browser.get(f"/connections/{installation.connection.id}")
    (link,) = re.findall(r'class="care" href="([^"]+)"', shown.text)
    listed = await browser.get(link.replace("&amp;", "&"))
    assert listed.text.count("nobody attached: 1 stamp not given") == 2

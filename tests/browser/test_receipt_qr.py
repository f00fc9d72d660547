"""A receipt on which nobody was attached gives its stamps all the same: by its QR code, without a script."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from axe_playwright_python.async_playwright import Axe
from playwright.async_api import Page, Response, expect

from connector_sdk.rule import Mode, StampRule, UnknownCustomer
from tests.served_installation import NARROW, ServedInstallation, serve_installation, signed_in

CONSENT = "I agree that Cafe Lviv keeps my phone for its stamp card."
NEWCOMER = "+380 50 111 22 99"
MOST_BYTES = 30 * 1024
RULE = StampRule(mode=Mode.both, unknown_customer=UnknownCustomer.hold)


class Weight:
    """What a page and everything that it loads come to."""

    def __init__(self, page: Page) -> None:
        self.bytes = 0
        self.scripts = 0
        page.on("response", self._add)
        self._responses: list[Response] = []

    def _add(self, response: Response) -> None:
        self._responses.append(response)

    async def of_page(self) -> int:
        responses, self._responses = self._responses, []
        self.scripts += sum("javascript" in response.headers.get("content-type", "") for response in responses)
        return sum([len(await response.body()) for response in responses if response.status == 200])


async def test_a_stranger_scans_a_receipt_and_has_a_card_with_its_stamp(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serve_installation(tmp_path, monkeypatch) as served:
        connection = await served.installation.connect(RULE)
        await served.installation.host.services.claims.set_consent(connection, CONSENT)
        number = served.installation.cafe.sell(0, paid=4500)
        await served.installation.sync()
        await _claim(served, number)


async def _claim(served: ServedInstallation, number: int) -> None:
    installation, connection = served.installation, served.installation.connection
    installation.sevenstamp.state.goal = 8
    counter = await signed_in(await served.page(viewport=NARROW))
    await counter.goto("/till")
    await counter.wait_for_url(f"**/till/{connection.id}")
    await expect(counter.get_by_text("nobody attached: 1 stamp not given")).to_be_visible()
    await _look(counter, "counter")
    await counter.get_by_text("Show the QR code").click()
    await expect(counter.get_by_role("img", name=re.compile("QR code of receipt"))).to_be_visible()
    await _look(counter, "counter-qr")
    link = await counter.get_by_role("link", name="What the customer sees").get_attribute("href")
    assert link is not None

    # another person's phone, which runs no script
    phone = await served.page(viewport=NARROW, java_script_enabled=False)
    weight = Weight(phone)
    await phone.goto(link)
    await expect(phone.get_by_role("heading", name="1 stamp is waiting for you")).to_be_visible()
    assert await weight.of_page() <= MOST_BYTES
    await _look_with_scripts(served, phone.url, "claim")
    await phone.get_by_label(re.compile("Your phone or email")).fill(NEWCOMER)
    await phone.get_by_role("button", name="Get my stamp").click()
    await expect(phone.get_by_text("Say that you agree first.")).to_be_visible()
    await phone.get_by_label(CONSENT).check()
    await phone.keyboard.press("Tab")
    await phone.get_by_role("button", name="Get my stamp").press("Enter")
    await expect(phone.get_by_role("heading", name="1 stamp is on your card")).to_be_visible()
    await expect(phone.get_by_text("1 of 8 stamps")).to_be_visible()
    await expect(phone.get_by_text("7 more to your gift.")).to_be_visible()
    wallet = await phone.get_by_role("link", name="Add the card to your wallet").get_attribute("href")
    assert weight.scripts == 0
    await _look_with_scripts(served, phone.url, "claimed")
    (card,) = installation.sevenstamp.state.cards.values()
    assert (card.phone, card.stamps, wallet) == ("+380501112299", 1, f"https://wallet.invalid/{card.id}")

    # the cafe sees it; whoever scans it again is refused, and told nothing of the card
    await counter.goto(await served.receipt(number))
    await expect(counter.get_by_text("the customer took its stamps with the receipt")).to_be_visible()
    await expect(counter.get_by_text(CONSENT)).to_be_visible()
    other = await served.page(viewport=NARROW, java_script_enabled=False)
    await other.goto(link)
    await expect(other.get_by_role("heading", name="These stamps are on a card already")).to_be_visible()
    assert card.number[-4:] not in await other.content()
    await _look_with_scripts(served, other.url, "claimed-before")

    # refunded: taken back, and both are told so
    installation.cafe.refund(number)
    await installation.sync()
    await phone.reload()
    await expect(phone.get_by_role("heading", name="The stamps were taken back")).to_be_visible()
    await other.reload()
    await expect(other.get_by_role("heading", name="This receipt was refunded")).to_be_visible()
    assert card.stamps == 0


async def _look(page: Page, name: str) -> None:
    """Nothing is sideways, and nobody is shut out."""
    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = await Axe().run(page)
    assert found.response["violations"] == [], found.generate_report()
    if folder := os.environ.get("PICTURES"):
        await page.screenshot(path=f"{folder}/{name}.png", full_page=True)


async def _look_with_scripts(served: ServedInstallation, address: str, name: str) -> None:
    """The same of a page that was opened without scripts, where axe cannot run."""
    twin = await served.page(viewport=NARROW)
    await twin.goto(address)
    await _look(twin, name)
    await twin.close()

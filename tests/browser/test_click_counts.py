"""How many clicks the moments of an owner's week take; to connect and to double Tuesdays are counted elsewhere."""

from __future__ import annotations

import re

import pytest
from playwright.async_api import expect

from connector_sdk.rule import StampRule
from connectors.domain.connection import Health
from tests.browser.clicks import Clicks
from tests.browser.test_journeys import issue_card
from tests.installation import ANNA, BORYS
from tests.served_installation import NARROW, ServedInstallation, signed_in

REFUSED = 11  # Poster's code for a token that is none
pytestmark = pytest.mark.slow


@pytest.fixture
async def till(served: ServedInstallation) -> str:
    """The address of a till's page."""
    await served.installation.connect(StampRule())
    return f"/connections/{served.installation.connection.id}"


async def test_whether_a_receipt_got_its_stamp_is_seen_with_two(served: ServedInstallation, till: str) -> None:
    cafe = served.installation.cafe
    await issue_card(served, ANNA)
    receipt = cafe.sell(cafe.client(ANNA))
    await served.installation.sync()
    page, clicks = await signed_in(await served.page(viewport=NARROW)), Clicks()
    await page.goto(till)
    await page.get_by_label(re.compile("Find a receipt")).fill(str(receipt))
    await clicks.on(page.get_by_role("button", name="Find"))
    await clicks.on(page.get_by_role("link", name=str(receipt)))
    await expect(page.get_by_role("heading", name=re.compile("1 stamp on the card ending"))).to_be_visible()
    assert clicks.count == 2


async def test_a_missing_stamp_is_given_with_three(served: ServedInstallation, till: str) -> None:
    cafe = served.installation.cafe
    card = await issue_card(served, ANNA)
    receipt = cafe.sell(cafe.client(BORYS))
    await served.installation.sync()
    page, clicks = await signed_in(await served.page(viewport=NARROW)), Clicks()
    await page.goto(till)
    await clicks.on(page.get_by_role("link", name=re.compile(f"Receipt {receipt}")))
    await page.get_by_label("Six digits, phone, email or name").fill(card)
    await clicks.on(page.get_by_role("button", name="Find the card"))
    # its number was typed: that it ends so is no question
    await expect(page.get_by_text(f"The card ending {card[-4:]} was found.")).to_be_visible()
    await clicks.on(page.get_by_role("button", name="Give 1 stamp"))
    await expect(page.get_by_text(f"1 stamp goes to the card ending {card[-4:]}.")).to_be_visible()
    assert clicks.count == 3
    # the wrong card: taken back with one more, and it can be given again
    await clicks.on(page.get_by_role("button", name="Take them back"))
    await expect(page.get_by_role("status")).to_contain_text("Taken back.")
    await expect(page.get_by_label("Six digits, phone, email or name")).to_be_visible()
    assert clicks.count == 4


async def test_a_refused_token_is_replaced_with_two(served: ServedInstallation, till: str) -> None:
    cafe = served.installation.cafe
    cafe.fail_next = [REFUSED]
    await served.installation.sync_quietly()
    page, clicks = await signed_in(await served.page(viewport=NARROW)), Clicks()
    await page.goto(till)
    await clicks.on(page.get_by_role("link", name="Paste a new token"))
    await page.get_by_label("Access token").fill(cafe.token)
    await clicks.on(page.get_by_role("button", name="Check and save Poster"))
    await expect(page.get_by_role("status")).to_contain_text(re.compile("."))
    connection = await served.installation.host.services.connections.get(served.installation.connection.id)
    assert connection.health is Health.active
    assert clicks.count == 2


async def test_a_colleague_is_let_in_at_the_counter_with_three(served: ServedInstallation, till: str) -> None:
    page, clicks = await signed_in(await served.page(viewport=NARROW)), Clicks()
    await page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    await clicks.on(page.get_by_role("link", name="People"))
    await page.get_by_label("Their name").fill("Olena")
    await clicks.on(page.get_by_role("button", name="Make an invitation"))
    await clicks.on(page.get_by_role("button", name="Copy"))
    invitation = await page.evaluate("navigator.clipboard.readText()")
    assert clicks.count == 3
    colleague = await served.page(viewport=NARROW)
    await colleague.goto(invitation)
    await colleague.get_by_role("button", name="Come in on this device").click()
    await expect(colleague.get_by_role("heading", name="At the counter")).to_be_visible()
    await colleague.get_by_role("button", name="Account").click()
    await expect(colleague.get_by_role("button", name="Sign out")).to_be_visible()
    await expect(colleague.get_by_role("link", name="Devices")).to_have_count(0)
    await page.goto("/people")
    await expect(page.get_by_role("heading", name="1 colleague may come in")).to_be_visible()
    await expect(page.get_by_text(re.compile("Last used"))).to_be_visible()


async def test_of_a_receipt_only_what_happened_last_stands_among_what_happened(
    served: ServedInstallation, till: str
) -> None:
    cafe = served.installation.cafe
    await issue_card(served, ANNA)
    receipt = cafe.sell(cafe.client(ANNA))
    await served.installation.sync()
    page = await signed_in(await served.page(viewport=NARROW))
    await page.goto(till)
    await expect(page.get_by_role("link", name=re.compile(f"Receipt {receipt}"))).to_have_count(1)
    await expect(page.get_by_text(f"Receipt {receipt}: 1 stamp is on the card")).to_be_visible()

"""A cafe with Square in two time zones, in a real browser: its button, its hours, a new venue, and access that ends."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, time
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from playwright.async_api import Page, expect

from connector_sdk.rule import Multiplier, StampRule, UnknownCustomer
from square_connector.sandbox import SquareSandbox
from square_connector.sandbox_records import Place
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_ticket import Ticket
from tests.installation import ANNA, BORYS
from tests.served_installation import NARROW, WIDE, ServedInstallation, serve_installation, signed_in

DUBLIN, NEW_YORK = "Europe/Dublin", "America/New_York"


@pytest.fixture
async def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ServedInstallation]:
    places = (
        Place("Dublin bar", DUBLIN, "EUR", "IE"),
        Place("New York bar", NEW_YORK, "EUR", "US"),
        Place("Kiosk", DUBLIN, "EUR", "IE"),
    )
    square = SquareSandbox(Seller(places=places))
    async with serve_installation(tmp_path, monkeypatch, square=square) as one:
        square.post_to(f"{one.origin}/hooks/tills/square")
        square.subscription.delivery_url = square.subscription.notification_url
        yield one


class _Till:
    """The counter, whose hooks go to the host by themselves."""

    def __init__(self, served: ServedInstallation) -> None:
        self.sandbox: SquareSandbox = served.installation.till
        self.seller = self.sandbox.seller
        self.locations = dict(zip(("Dublin", "New York", "Kiosk"), self.seller.locations, strict=True))

    def sell(self, place: str, phone: str) -> str:
        customer = self.seller.customer_of(phone)
        order = self.seller.sell(Ticket(location=self.locations[place], customer=customer))
        self.sandbox.post_hooks()
        return order

    def refund(self, order: str) -> None:
        self.seller.refund_everything(order)
        self.sandbox.post_hooks()

    def open_venue(self, name: str) -> None:
        self.locations[name] = self.seller.open_location(Place(name, NEW_YORK, "EUR", "US"))
        self.sandbox.post_hooks()

    def end_access(self) -> None:
        self.sandbox.square_application.revoke_seller(self.seller.merchant_id)
        self.sandbox.post_hooks()


def double_in_this_hour_of(zone: str) -> StampRule:
    """Twice the stamps from now on for an hour, as a clock in that zone shows it; nowhere else is it that hour."""
    hour = datetime.now(UTC).astimezone(ZoneInfo(zone)).hour
    # two hours, so that a test that runs past the full hour sees no other rule
    window = Multiplier(times=2, start=time(hour), end=time((hour + 2) % 24))
    return StampRule(multipliers=(window,), unknown_customer=UnknownCustomer.issue)


async def stamps(page: Page, order: str, count: str) -> None:
    await expect(page.get_by_text(re.compile(rf"Receipt {order}: {count} (is|are) on the card"))).to_be_visible()


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_a_cafe_in_two_zones_connects_square_opens_a_venue_and_consents_again(
    served: ServedInstallation, viewport: dict[str, int]
) -> None:
    page, till = await signed_in(await served.page(viewport=viewport)), _Till(served)
    services = served.installation.host.services

    # its button, and Square's own page
    await page.get_by_role("button", name="Connect Square").click()
    await page.get_by_role("button", name="Go to Square").click()
    await expect(page).to_have_url(re.compile(r"^http://localhost:\d+/oauth2/authorize"))
    await page.get_by_role("button", name="Allow").click()
    await page.get_by_label("Kiosk").uncheck()
    await page.get_by_role("button", name="Continue").click()
    await page.get_by_label("One stamp for every receipt").check()
    await page.get_by_role("button", name=re.compile("Looks right")).click()
    await expect(page.get_by_role("heading", name="Connected", exact=True)).to_be_visible()
    (connection,) = await services.connections.list_all()
    served.installation.connection = connection
    # what was granted is no setting: no form shows it, and no setting holds it
    assert "access_token" not in services.connections.settings_of(connection)

    # one and the same moment is inside the double hour in Dublin, and outside of it in New York
    await services.connections.edit(connection.id, {}, rule=lambda _account, _rule: double_in_this_hour_of(DUBLIN))
    await page.goto(f"/connections/{connection.id}")
    in_dublin, in_new_york = till.sell("Dublin", ANNA), till.sell("New York", BORYS)
    await stamps(page, in_dublin, "2 stamps")
    await stamps(page, in_new_york, "1 stamp")

    # a refund, told by the hook of another order
    till.refund(in_dublin)
    await expect(page.get_by_text(re.compile(rf"Receipt {in_dublin}: 2 stamps are off the card"))).to_be_visible()
    assert served.installation.stamps(ANNA) == 0

    # a venue opens: noticed, asked about, joined; what it sells gives stamps from then on
    till.open_venue("Harbour")
    notice = page.get_by_role("heading", name="New place: Harbour. Whose stamps?")
    await expect(notice).to_be_visible(timeout=20_000)
    lost = till.sell("Harbour", BORYS)
    await expect(page.get_by_text(f"Receipt {lost} is from Harbour, whose stamps are nobody's yet")).to_be_visible()
    await page.get_by_role("button", name="They count here Harbour").click()
    await expect(page.get_by_text("Its sales give stamps here from now on.")).to_be_visible()
    await expect(notice).to_be_hidden()
    await stamps(page, till.sell("Harbour", BORYS), "1 stamp")

    # access ends, and is given again with two clicks; what was sold meanwhile is not lost
    till.end_access()
    await expect(page.get_by_role("button", name="Allow access at Square again")).to_be_visible()
    meanwhile = till.sell("New York", ANNA)
    await page.get_by_role("button", name="Allow access at Square again").click()
    await page.get_by_role("button", name="Allow").click()
    await expect(page.get_by_text("The till lets us in again.")).to_be_visible()
    await stamps(page, meanwhile, "1 stamp")

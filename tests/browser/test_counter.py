"""The counter on a phone: what was given is on the card at once, and a voucher is used only by whoever means it."""

from __future__ import annotations

from playwright.async_api import expect

from connectors.sync.vouchers import WantedVoucher
from tests.installation import ANNA
from tests.served_installation import NARROW, ServedInstallation, signed_in


async def test_a_receipt_is_given_and_a_voucher_used_without_a_page_in_between(served: ServedInstallation) -> None:
    installation = served.installation
    installation.sevenstamp.state.goal = 8
    connection = await installation.connect()
    for _ in range(3):
        installation.cafe.sell(0, paid=4500)
    await installation.sync()
    cards = installation.host.services.cards
    card = await cards.issue_card(connection.business_id, phone=ANNA, email=None)
    wanted = WantedVoucher(title="A cake", redeem_code="CAKE-77", card_id=card.id)
    await cards.issue_voucher(connection.business_id, wanted)

    page = await signed_in(await served.page(viewport=NARROW))
    await page.goto(f"/till/{connection.id}")
    await page.get_by_label("Six digits, phone, email or name").fill(ANNA)
    await page.get_by_role("button", name="Find the card").click()
    await expect(page.get_by_text("0 of 8 stamps")).to_be_visible()
    await page.get_by_role("button", name="Give 1 stamp to this card").first.click()
    await expect(page.get_by_text(f"1 stamp goes to the card ending {card.hint}.")).to_be_visible()
    # the guest who stands there sees the stamp on the card that is shown
    await expect(page.get_by_text("1 of 8 stamps")).to_be_visible()

    # on a phone it stands right below the card, above the receipts
    redeem, receipts = page.get_by_text("Redeem", exact=False).first, page.get_by_role("heading", name="Last receipts")
    places = [await one.bounding_box() for one in (redeem, receipts)]
    assert places[0] is not None
    assert places[1] is not None
    assert places[0]["y"] < places[1]["y"]
    # one tap uses nothing; by keyboard alone it goes as well
    await redeem.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("A used voucher cannot be given back.")).to_be_visible()
    assert not installation.applied("voucher_redeemed")
    await page.keyboard.press("Tab")
    await page.keyboard.press("Enter")
    await expect(page.get_by_text("The voucher CAKE-77 is used: give the gift.")).to_be_visible()
    assert len(installation.applied("voucher_redeemed")) == 1
    await page.goto(f"/connections/{connection.id}")
    await expect(page.get_by_text("The voucher CAKE-77 is redeemed, without a receipt.")).to_be_visible()

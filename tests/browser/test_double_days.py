"""More stamps on some days, or in a promotion, as an owner sets them in a browser."""

from __future__ import annotations

from datetime import date, time

import pytest
from playwright.async_api import Page, expect

from connector_sdk.rule import Multiplier, StampRule
from connectors.store import connections
from tests.browser.clicks import Clicks
from tests.installation import ANNA
from tests.served_installation import NARROW, WIDE, ServedInstallation, signed_in

TUESDAY = frozenset({1})


async def rule_of(served: ServedInstallation) -> StampRule:
    installation = served.installation
    versions = await installation.host.store.read(
        lambda tx: connections.rules.of_connection(tx, installation.connection.id)
    )
    return versions[-1].rule


@pytest.fixture
async def till(served: ServedInstallation) -> str:
    """The address of the page of a till that has sold something."""
    await served.installation.connect()
    served.installation.cafe.sell(served.installation.cafe.client(ANNA), 2750)
    return f"/connections/{served.installation.connection.id}"


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_tuesdays_are_double_with_four_clicks(
    served: ServedInstallation, till: str, viewport: dict[str, int]
) -> None:
    page = await signed_in(await served.page(viewport=viewport))
    await page.goto(till)
    clicks = Clicks()
    await clicks.on(page.get_by_role("link", name="Rule"))
    await clicks.on(page.get_by_text("More stamps on some days, or in a promotion"))
    await clicks.on(page.get_by_label("Tue").first)
    await expect(page.locator(".week").get_by_text("all day ×2")).to_be_visible()
    await clicks.on(page.get_by_role("button", name="Save"))
    await expect(page.get_by_text("The rule counts for receipts closed from now on.")).to_be_visible()
    assert clicks.count == 4
    assert (await rule_of(served)).multipliers == (Multiplier(times=2, days=TUESDAY),)


async def fill_window(page: Page, number: int, **values: str) -> None:
    for name, value in values.items():
        await page.locator(f"#{name}_{number}").fill(value)


async def test_a_promotion_at_one_location_is_set_changed_and_taken_away(served: ServedInstallation, till: str) -> None:
    page = await signed_in(await served.page())
    await page.goto(f"{till}/rule")
    await page.get_by_text("More stamps on some days, or in a promotion").click()
    await page.locator("#times_0").select_option("3")
    for day in ("Sat", "Sun"):
        await page.get_by_label(day).first.check()
    await page.get_by_text("Only for some locations").first.click()
    await fill_window(page, 0, start="08:00", end="11:00", first_day="2026-12-01", last_day="2099-12-24")
    await page.get_by_label("Terrace").first.check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("The rule counts for receipts closed from now on.")).to_be_visible()
    promotion = Multiplier(
        times=3,
        days=frozenset({5, 6}),
        start=time(8),
        end=time(11),
        first_day=date(2026, 12, 1),
        last_day=date(2099, 12, 24),
        locations=frozenset({"2"}),
    )
    assert (await rule_of(served)).multipliers == (promotion,)

    # what was set stands there again
    await page.goto(f"{till}/rule")
    await expect(page.locator("#last_day_0")).to_have_value("2099-12-24")
    await page.get_by_label("Take this away").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("The rule counts for receipts closed from now on.")).to_be_visible()
    assert (await rule_of(served)).multipliers == ()


async def test_a_promotion_of_some_weeks_is_for_every_day_where_none_is_chosen(
    served: ServedInstallation, till: str
) -> None:
    page = await signed_in(await served.page(viewport=NARROW))
    await page.goto(f"{till}/rule")
    await page.get_by_text("More stamps on some days, or in a promotion").click()
    await fill_window(page, 0, first_day="2099-12-01", last_day="2099-12-31")
    preview = page.locator("#preview")
    await expect(preview.get_by_text("every day · 1 Dec 2099 – 31 Dec 2099")).to_be_visible()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("The rule counts for receipts closed from now on.")).to_be_visible()
    december = Multiplier(times=2, first_day=date(2099, 12, 1), last_day=date(2099, 12, 31))
    assert (await rule_of(served)).multipliers == (december,)


async def test_what_the_rule_in_force_gives_stands_beside_the_new_one(served: ServedInstallation, till: str) -> None:
    page = await signed_in(await served.page())
    await page.goto(f"{till}/rule")
    preview = page.locator("#preview")
    await expect(preview.get_by_role("columnheader", name="Now")).to_have_count(0)
    await page.get_by_text("More stamps on some days, or in a promotion").click()
    for day in range(7):
        await page.locator(f"[name=days_0][value='{day}']").check()
    await expect(preview.get_by_text("By the rule in force: 1. By this one: 2.")).to_be_visible()
    await expect(preview.get_by_role("columnheader", name="Now")).to_be_visible()


async def test_windows_that_overlap_or_never_apply_are_told_with_their_hours(
    served: ServedInstallation, till: str
) -> None:
    page = await signed_in(await served.page())
    await page.goto(f"{till}/rule")
    await page.get_by_text("More stamps on some days, or in a promotion").click()
    await page.get_by_label("Tue").first.check()
    await fill_window(page, 0, start="08:00", end="12:00")
    await page.get_by_text("Add other days and hours").click()
    await page.locator("[name=days_1][value='1']").check()
    await page.locator("#times_1").select_option("3")
    await fill_window(page, 1, start="11:00")
    preview = page.locator("#preview")
    await expect(preview.get_by_text("Two overlap on Tuesday, 11:00")).to_contain_text("×3")
    await fill_window(page, 1, last_day="2026-01-01")
    await expect(preview.get_by_text("Days and hours 2: ended on")).to_be_visible()
    # a day before the first is no window, and the rule is not saved with it
    await fill_window(page, 1, first_day="2026-02-01")
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("Choose the first day or a later one.")).to_be_visible()
    assert (await rule_of(served)).multipliers == ()


async def test_windows_that_the_form_cannot_show_stay_as_they_are(served: ServedInstallation, till: str) -> None:
    installation = served.installation
    # of a location that is closed by now, and more of them than the form has rows
    closed = Multiplier(times=2, locations=frozenset({"99"}))
    many = (closed, *(Multiplier(times=3, days=TUESDAY, start=time(hour)) for hour in range(24)))
    await installation.host.services.connections.edit(
        installation.connection.id, {}, rule=lambda _account, rule: rule.model_copy(update={"multipliers": many})
    )
    page = await signed_in(await served.page())
    await page.goto(f"{till}/rule")
    await expect(page.get_by_text("none of its locations is connected")).to_be_visible()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("The rule counts for receipts closed from now on.")).to_be_visible()
    assert (await rule_of(served)).multipliers == many


async def test_the_most_for_a_receipt_and_for_a_card_and_day_are_set_and_lifted(
    served: ServedInstallation, till: str
) -> None:
    page = await signed_in(await served.page())
    for most, bounds in (("5", (5, 5)), ("", (None, None))):
        await page.goto(f"{till}/rule")
        await page.get_by_text("Limits, refunds, customers without a card").click()
        await page.get_by_label("At most so many stamps for one receipt").fill(most)
        await page.get_by_label("At most so many stamps for one card in a day").fill(most)
        await page.get_by_role("button", name="Save").click()
        await expect(page.get_by_text("The rule counts for receipts closed from now on.")).to_be_visible()
        rule = await rule_of(served)
        assert (rule.max_per_sale, rule.max_per_card_per_day) == bounds

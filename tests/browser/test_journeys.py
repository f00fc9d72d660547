"""What a cafe does, in Chromium, from an empty database: the console is on 127.0.0.1, the till on localhost."""

from __future__ import annotations

import re

import httpx
import pytest
from playwright.async_api import Page, expect

from connectors.domain.clock import DAY, SteadyClock
from connectors.store import connections, queries
from tests.installation import ANNA, BORYS
from tests.served_installation import KEY, NARROW, WIDE, ServedInstallation, signed_in, until

expect.set_options(timeout=15_000)


class Later:
    """The machine's clock, some days on."""

    def __init__(self) -> None:
        self.ahead = 0

    def now(self) -> int:
        return SteadyClock().now() + self.ahead


async def connect_by_token(served: ServedInstallation, page: Page) -> int:
    """From the catalogue to "Connected", with the token on the clipboard; the clicks it took."""
    clicks = 0

    async def click(name: str | re.Pattern[str]) -> None:
        nonlocal clicks
        clicks += 1
        await page.get_by_role("main").get_by_role("button", name=name).first.click()

    await page.goto("/")
    await click(re.compile("^Connect"))
    await page.get_by_label("Access token").fill(served.installation.cafe.token)
    await click("Continue")
    await expect(page.get_by_label("Main hall")).to_be_checked()
    await click("Continue")
    await expect(page.get_by_role("heading", name=re.compile("would have earned|No receipts to try"))).to_be_visible()
    await click(re.compile("Looks right"))
    await expect(page.get_by_role("heading", name="Connected", exact=True)).to_be_visible()
    return clicks


async def the_connection(served: ServedInstallation) -> str:
    connections = await served.installation.host.services.connections.list_all()
    served.installation.connection = connections[-1]
    return connections[-1].id


async def sell(served: ServedInstallation, phone: str, paid: int) -> int:
    """At the till, over its own HTTP; a hook goes out where an address is set."""
    origin = served.installation.environment["POSTER_API_URL"].removesuffix("/api")
    async with httpx.AsyncClient(trust_env=False) as client:
        answer = await client.post(f"{origin}/_sandbox/sell", json={"phone": phone, "paid": paid})
    return int(answer.json()["receipt_id"])


@pytest.mark.parametrize("viewport", [WIDE, NARROW], ids=["wide", "narrow"])
async def test_a_cafe_connects_by_oauth_and_keeps_its_till(
    served: ServedInstallation, viewport: dict[str, int]
) -> None:
    page = await signed_in(await served.page(viewport=viewport))
    for number in range(4):
        served.installation.cafe.sell(served.installation.cafe.client(ANNA) if number else 0, paid=3100)

    # through Poster's own page and back, which is another site to the browser
    await page.get_by_role("button", name="Connect Poster").click()
    await page.get_by_role("button", name="Go to Poster").click()
    await expect(page).to_have_url(re.compile(r"^http://localhost:\d+/api/auth"))
    await page.get_by_role("button", name="Allow").click()
    # the key that one signed in with is taken: with one there is nothing to decide
    await expect(page.get_by_label("Main hall")).to_be_checked()
    await page.get_by_role("button", name="Continue").click()

    # the preview counts those without a customer first, and follows what is chosen
    preview = page.locator("#preview")
    await expect(preview.get_by_text("1 of the last 4 receipts had no customer attached.")).to_be_visible()
    await expect(page.get_by_role("heading", name="would have earned 3 stamps")).to_be_visible()
    await page.get_by_label("One stamp for every amount spent").check()
    await page.get_by_label(re.compile(r"One stamp for every \(")).fill("15")
    await expect(page.get_by_role("heading", name="would have earned 6 stamps")).to_be_visible()
    await page.get_by_text("Limits, refunds, customers without a card").click()
    await page.get_by_label("Ask me each time").check()
    await page.get_by_label("Keep their stamps until they have one").check()
    await page.get_by_role("button", name=re.compile("Looks right")).click()
    await expect(page.get_by_role("heading", name="Connected", exact=True)).to_be_visible()
    connection_id = await the_connection(served)
    assert served.installation.applied() == []  # a preview sends nothing

    # the lamp, by reading alone: Anna has a card
    card = await issue_card(served, ANNA)
    receipt = await sell(served, ANNA, 4500)
    await expect(page.get_by_text(f"Receipt {receipt} has arrived")).to_be_visible()
    await expect(page.get_by_text(f"It earned 3 stamps for the card ending {card[-4:]}.")).to_be_visible()

    # a sale becomes a stamp before one's eyes, told by a hook
    await page.get_by_role("link", name="To your till").click()
    served.installation.till.hooks_url = f"{served.origin}/hooks/tills/poster"
    live = await sell(served, ANNA, 3100)
    await expect(page.get_by_text(f"Receipt {live}: 2 stamps are on the card ending {card[-4:]}.")).to_be_visible()

    # Borys has no card: found by his phone, and given to a card that is confirmed
    held = await sell(served, BORYS, 1500)
    await expect(page.get_by_text(f"Receipt {held}, UAH\xa015.00: 1 stamp is held")).to_be_visible()
    await page.get_by_label(re.compile("Find a receipt")).fill(BORYS)
    await page.get_by_role("button", name="Find").click()
    await page.get_by_role("link", name=str(held)).click()
    await page.get_by_label("Six digits, phone, email or name").fill(ANNA)
    await page.get_by_role("button", name="Find the card").click()
    await page.get_by_role("button", name="Give 1 stamp").click()
    await expect(page.get_by_text(f"1 stamp goes to the card ending {card[-4:]}.")).to_be_visible()
    await expect(page.get_by_text("by a person signed in as owner").first).to_be_visible()
    await until(lambda: _stamps(served, 6))

    # a refund waits for a person, who takes the stamps back
    served.installation.cafe.refund(live)
    await sell_hook(served, live)
    await page.goto(f"/connections/{connection_id}")
    await expect(page.get_by_role("heading", name="1 thing needs you")).to_be_visible()
    await page.get_by_role("button", name=re.compile("Take the stamps back")).click()
    await expect(page.get_by_text("It goes out again now.")).to_be_visible()
    await until(lambda: _stamps(served, 4))

    # the rule
    await page.get_by_role("link", name="Rule").click()
    await page.get_by_label("One stamp for every receipt").check()
    await page.get_by_role("button", name="Save").click()
    await expect(page.get_by_text("The rule counts for receipts closed from now on.")).to_be_visible()
    assert (
        await served.installation.host.services.connections.current_rule(served.installation.connection)
    ).kind == "per_order"

    # sync, pause, resume with what it costs, disconnect
    await page.get_by_role("link", name="Overview").click()
    await page.get_by_role("button", name="Sync now").click()
    await expect(page.get_by_role("status")).to_contain_text("Read ")
    await page.get_by_role("button", name="Pause").click()
    await expect(page.get_by_role("heading", name=re.compile("Paused since"))).to_be_visible()
    served.installation.cafe.sell(served.installation.cafe.client(ANNA), paid=2000)
    await page.get_by_role("link", name="Resume").click()
    await expect(page.get_by_role("heading", name=re.compile("1 receipt was closed in the pause"))).to_be_visible()
    await expect(page.get_by_text("They would use 1 card update of your plan.")).to_be_visible()
    await page.get_by_role("button", name="No, only from now on").click()
    await expect(page.get_by_text("Working again.")).to_be_visible()
    await page.get_by_role("button", name="Sync now").click()
    await expect(page.get_by_role("status")).to_contain_text("Read ")
    assert await _stamps(served, 4)
    await page.get_by_role("link", name="Settings").click()
    await page.get_by_role("link", name="Disconnect").click()
    await page.get_by_label("A 7stamp key of your business, once more").fill(KEY)
    await page.get_by_role("button", name="Disconnect").click()
    await expect(page.get_by_text("What was given stays on the cards.")).to_be_visible()
    assert await served.installation.host.services.connections.list_all() == []


async def _stamps(served: ServedInstallation, count: int) -> bool:
    return served.installation.stamps(ANNA) == count


async def issue_card(served: ServedInstallation, phone: str) -> str:
    """A customer gets a card at 7stamp by another way than ours; its number."""
    sevenstamp = served.installation.host.sevenstamp
    assert sevenstamp is not None
    return (await sevenstamp.with_key(KEY).issue_card(phone=phone)).number


async def sell_hook(served: ServedInstallation, receipt: int) -> None:
    async with httpx.AsyncClient(trust_env=False) as client:
        await client.post(
            f"{served.origin}/hooks/tills/poster", content=served.installation.cafe.hook(receipt, "changed")
        )


async def test_by_token_it_takes_five_clicks_and_a_hook_alone_lights_the_lamp(
    served: ServedInstallation, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody_looks(*_: object) -> None:
        return

    monkeypatch.setattr(connections.schedule, "poll_soon", nobody_looks)
    page = await signed_in(await served.page())
    assert await connect_by_token(served, page) <= 4
    connection_id = await the_connection(served)
    await until(lambda: _polled(served, connection_id))
    served.installation.till.hooks_url = f"{served.origin}/hooks/tills/poster"
    receipt = await sell(served, ANNA, 2750)
    await expect(page.get_by_text(f"Receipt {receipt} has arrived")).to_be_visible()
    await expect(page.get_by_text("It earned 1 stamp for the card ending")).to_be_visible()
    receipts = await served.installation.host.store.read(
        lambda tx: queries.receipts.search(
            tx, served.installation.connection, [queries.receipts.SearchTerm(receipt=str(receipt))]
        )
    )
    details = await served.installation.host.store.read(
        lambda tx: queries.receipts.details(tx, connection_id, receipts[0].id)
    )
    assert details is not None
    assert details.versions[0].source == "hint"


async def _polled(served: ServedInstallation, connection_id: str) -> bool:
    return (await served.installation.host.services.connections.get(connection_id)).last_lookback_at is not None


async def test_a_week_later_the_key_is_not_needed_and_after_ninety_days_it_is(served: ServedInstallation) -> None:
    served.installation.host.store.clock = later = Later()
    page = await signed_in(await served.page())
    await page.close()
    later.ahead = 7 * DAY
    page = await page.context.new_page()
    await page.goto("/")
    await expect(page.get_by_role("heading", name="Connect your till")).to_be_visible()
    # a device that is signed in signs another one in
    await page.get_by_role("button", name="Account").click()
    await page.get_by_role("link", name="Devices").click()
    await page.get_by_role("button", name="Make a link").click()
    link = await page.get_by_label("Sign-in link").input_value()
    other = await served.page(viewport=NARROW)
    await other.goto(link)
    await other.goto(link)  # looking spends nothing
    await other.get_by_role("button", name="Sign in").click()
    await expect(other.get_by_role("heading", name="Connect your till")).to_be_visible()
    third = await served.page()
    await third.goto(link)
    await expect(third.get_by_role("heading", name="This link is used up")).to_be_visible()
    later.ahead = 98 * DAY
    await page.goto("/")
    await expect(page.get_by_role("heading", name="Sign in with a 7stamp key")).to_be_visible()


async def test_a_session_that_ended_keeps_the_form_and_returns_to_it(served: ServedInstallation) -> None:
    page = await signed_in(await served.page())
    await page.get_by_role("button", name="Connect Poster").click()
    await page.get_by_text("More settings").click()
    await page.get_by_label(re.compile("card numbers")).check()
    await page.get_by_label("Access token").fill(served.installation.cafe.token)
    await page.context.clear_cookies(name="console")
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_text("what you had typed is kept")).to_be_visible()
    assert served.installation.cafe.token not in await page.content()
    await page.get_by_label("7stamp key").fill(KEY)
    await page.get_by_role("button", name="Sign in").click()
    await expect(page.get_by_role("heading", name=re.compile("Let us read your receipts"))).to_be_visible()
    assert served.installation.cafe.token not in await page.content()
    await page.get_by_text("More settings").click()
    await expect(page.get_by_label(re.compile("card numbers"))).to_be_checked()
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_label("Main hall")).to_be_checked()


async def test_a_rule_by_item_is_chosen_by_name_and_a_draft_goes_on_elsewhere(served: ServedInstallation) -> None:
    page = await signed_in(await served.page())
    await page.get_by_role("button", name="Connect Poster").click()
    await page.get_by_label("Access token").fill(served.installation.cafe.token)
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_label("Main hall")).to_be_checked()

    phone = await signed_in(await served.page(viewport=NARROW))
    await expect(phone.get_by_text("You began to connect Poster.")).to_be_visible()
    await phone.get_by_role("link", name="Continue").click()
    await phone.get_by_role("button", name="Continue").click()
    await phone.get_by_label("One stamp for every drink or dish you choose").check()
    await phone.get_by_label("Search the menu").fill("cheese")
    await expect(phone.get_by_role("group", name="Your menu").get_by_label("Cappuccino")).to_be_hidden()
    await phone.get_by_role("checkbox", name="Cheesecake").check()
    await phone.get_by_label("Search the menu").fill("")
    await phone.get_by_label(re.compile("^Coffee")).check()
    await phone.get_by_role("button", name=re.compile("Looks right")).click()
    await expect(phone.get_by_role("heading", name="Connected", exact=True)).to_be_visible()
    await the_connection(served)
    rule = await served.installation.host.services.connections.current_rule(served.installation.connection)
    assert (set(rule.products), set(rule.categories)) == ({"302"}, {"4"})
    assert (
        served.installation.host.services.connections.settings_of(served.installation.connection)["categories"]
        == "true"
    )
    # the till is connected: connecting it once more opens what there is
    await page.goto("/")
    await page.get_by_text("Connect another till").click()
    await page.get_by_role("button", name="Connect Poster").click()
    await page.get_by_label("Access token").fill(served.installation.cafe.token)
    await page.get_by_role("button", name="Continue").click()
    await expect(page.get_by_text("This till is connected already")).to_be_visible()


async def test_without_scripts_every_step_works(served: ServedInstallation) -> None:
    page = await signed_in(await served.page(java_script_enabled=False))
    assert await connect_by_token(served, page) <= 4
    await page.get_by_role("link", name="To your till").click()
    await expect(page.get_by_role("heading", name=re.compile("Every sale has arrived|first look"))).to_be_visible()

"""A voucher's whole life at a till: given by a goal, seen at the counter, used, tried again, its receipt voided."""

from __future__ import annotations

import asyncio
import html
import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from sqlalchemy import select

from connector_sdk.messages import Message
from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.connection import Health
from connectors.sevenstamp.sandbox import Faults
from connectors.store import ledger, queries
from connectors.store.schema import journal_table
from connectors.sync import health
from connectors.sync.vouchers import WantedVoucher
from tests.installation import ANNA, BORYS, Installation, build
from tests.web.browser import Browser, Browsers, open_browsers

RULE = StampRule(unknown_customer=UnknownCustomer.issue)


@pytest.fixture
async def cafe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch) as installation:
        installation.sevenstamp.state.goal = 2
        await installation.connect(RULE)
        yield installation


@pytest.fixture
async def browsers(cafe: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(cafe) as opened:
        yield opened


@pytest.fixture
async def browser(browsers: Browsers) -> Browser:
    return await browsers.new().sign_in()


def words(answer: httpx.Response) -> str:
    """A page as somebody reads it."""
    text = html.unescape(re.sub(r"<[^>]+>", " ", answer.text))
    return " ".join(text.split())


async def receipt_page(cafe: Installation, browser: Browser, receipt: int) -> str:
    terms = [queries.receipts.SearchTerm(receipt=str(receipt))]
    (found,) = await cafe.host.store.read(lambda tx: queries.receipts.search(tx, cafe.connection, terms))
    return words(await browser.get(f"/connections/{cafe.connection.id}/receipts/{found.id}"))


async def at_the_counter(cafe: Installation, browser: Browser, who: str) -> httpx.Response:
    found = await browser.post(f"/till/{cafe.connection.id}/find", who=who)
    return await browser.get(found.headers["location"]) if found.status_code == 303 else found


def redemptions(cafe: Installation) -> int:
    return len(cafe.applied("voucher_redeemed"))


async def test_the_whole_life_of_a_voucher(cafe: Installation, browser: Browser) -> None:
    for _ in range(2):
        cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    (voucher,) = cafe.sevenstamp.state.vouchers.values()
    code = voucher.redeem_code
    shown = words(await at_the_counter(cafe, browser, ANNA))
    assert "0 of 2 stamps" in shown
    assert f"Reward {code} Redeem" in shown
    typed = f"{code[:4].lower()} {code[4:].lower()}"  # as a cashier types it
    first = cafe.cafe.sell(cafe.cafe.client(ANNA), comment=f"gift {typed}")
    await cafe.sync()
    page = await receipt_page(cafe, browser, first)
    assert f"7stamp was asked to use the voucher {code}. 7stamp has done it." in page
    assert "No voucher can be used now." in words(await at_the_counter(cafe, browser, ANNA))
    second = cafe.cafe.sell(cafe.cafe.client(BORYS), comment=code)
    await cafe.sync()
    page = await receipt_page(cafe, browser, second)
    assert f"used by another receipt, {first}, today" in page
    assert "This needs you" in page
    cafe.cafe.remove(first)
    await cafe.sync()
    page = await receipt_page(cafe, browser, first)
    assert "The till says This receipt was refunded or removed." in page
    assert f"7stamp says Its voucher {code} was used today" in page
    assert redemptions(cafe) == 1


async def test_lost_answers_and_late_effects_use_a_voucher_once(cafe: Installation, browser: Browser) -> None:
    for _ in range(2):
        cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    (voucher,) = cafe.sevenstamp.state.vouchers.values()
    cafe.sevenstamp.faults = Faults(drop_after=1.0, apply_late_ms=(0, 400), ignore_idempotency_keys=True)
    receipts = [cafe.cafe.sell(cafe.cafe.client(BORYS), comment=voucher.redeem_code) for _ in range(3)]
    await cafe.sync()
    cafe.sevenstamp.faults = Faults(ignore_idempotency_keys=True)
    for _ in range(100):  # that something never happened is known only when its deadline has passed
        await cafe.sync()
        states = [one.state.value for one in await cafe.operations() if one.redeem_code]
        if sorted(states) == ["applied", "rejected", "rejected"]:
            break
        await asyncio.sleep(0.1)
    assert sorted(states) == ["applied", "rejected", "rejected"]
    assert redemptions(cafe) == 1
    pages = [await receipt_page(cafe, browser, receipt) for receipt in receipts]
    assert sum("7stamp has done it" in page and "use the voucher" in page for page in pages) >= 1


@pytest.mark.parametrize(("status", "said"), [("expired", "has expired"), (None, "7stamp knows no such voucher")])
async def test_a_dead_code_says_on_its_receipts_page_why(
    cafe: Installation, browser: Browser, status: str | None, said: str
) -> None:
    if status is not None:
        await cafe.host.services.cards.issue_card(cafe.connection.business_id, phone=ANNA, email=None)
        wanted = WantedVoucher(title="Coffee", redeem_code="OLD-CODE-1")
        await cafe.host.services.cards.issue_voucher(cafe.connection.business_id, wanted)
        vouchers = cafe.sevenstamp.state.vouchers
        for key, voucher in list(vouchers.items()):
            vouchers[key] = replace(voucher, status=status)
    receipt = cafe.cafe.sell(cafe.cafe.client(ANNA), comment="OLD-CODE-1")
    await cafe.sync()
    assert said in await receipt_page(cafe, browser, receipt)
    assert redemptions(cafe) == 0


# The page for the counter


async def test_a_voucher_is_redeemed_with_one_tap_and_a_second_tap_is_the_same(
    cafe: Installation, browser: Browser
) -> None:
    for _ in range(2):
        cafe.cafe.sell(cafe.cafe.client(ANNA))
    await cafe.sync()
    page = (await at_the_counter(cafe, browser, ANNA)).text
    form = dict(re.findall(r'name="(card|nonce|voucher)" value="([^"]+)"', page))
    for _ in range(2):
        answer = await browser.post(f"/till/{cafe.connection.id}/redeem", **form)
        assert answer.status_code == 303
        assert "is used: give the gift" in words(await browser.get(answer.headers["location"]))
    assert redemptions(cafe) == 1
    # it leaves a trace with a name, and is counted: once, also when the days are counted anew
    connection_id = cafe.connection.id
    told = rf"{form['voucher']} is redeemed, without a receipt\. today \S+ \S+ · by a person signed in as owner"
    assert re.search(told, words(await browser.get(f"/connections/{connection_id}")))
    assert "Vouchers used 1" in words(await browser.get(f"/connections/{connection_id}/numbers?period=day"))
    # whoever reads a redeem code can use it: none stands in the database as it is
    lines = await cafe.host.store.read(lambda tx: tx.run(select(journal_table.c.message)).scalars().all())
    assert lines
    assert not any(form["voucher"] in line for line in lines)
    await cafe.host.store.write(lambda tx: ledger.daily_totals.recount(tx, connection_id))
    assert "Vouchers used 1" in words(await browser.get(f"/connections/{connection_id}/numbers?period=day"))
    again = {**form, "nonce": "another tap, of another page"}
    answer = await browser.post(f"/till/{cafe.connection.id}/redeem", **again)
    assert "redeemed already" in words(await browser.get(answer.headers["location"]))


async def test_a_receipt_is_given_to_the_card_now_or_when_it_is_closed(cafe: Installation, browser: Browser) -> None:
    closed = cafe.cafe.sell(0)
    opened = cafe.cafe.open(0)
    cafe.cafe.add(opened, "161")
    await cafe.sync()
    await cafe.hook(cafe.cafe.hook(opened, "changed"))
    await cafe.sync()
    await cafe.host.services.cards.issue_card(cafe.connection.business_id, phone=ANNA, email=None)
    page = (await at_the_counter(cafe, browser, ANNA)).text
    assert "Give it to this card when it is paid" in page
    card = re.search(r'name="card" value="([^"]+)"', page)
    assert card
    for receipt in re.findall(r'name="receipt" value="(\w+)"', page):
        answer = await browser.post(f"/till/{cafe.connection.id}/give", card=card[1], receipt=receipt)
        assert answer.status_code == 303
    await cafe.sync()
    assert cafe.stamps(ANNA) == 1
    cafe.cafe.close(opened)
    await cafe.sync()
    assert cafe.stamps(ANNA) == 2
    assert closed != opened


async def test_who_is_not_found_and_who_is_several(cafe: Installation, browser: Browser) -> None:
    assert "No card has this number, phone or email" in words(await at_the_counter(cafe, browser, ANNA))
    assert "Scan the card, or type its six digits" in words(await at_the_counter(cafe, browser, ""))
    assert cafe.host.sevenstamp is not None
    client = cafe.host.sevenstamp.with_key("7loc_sc_test_key_9f81")
    for phone in (ANNA, BORYS):
        await client.issue_card(phone=phone)
        list(cafe.sevenstamp.state.cards.values())[-1].name = f"Anna {phone[-1]}"
    page = await at_the_counter(cafe, browser, "Anna")
    links = re.findall(rf'href="(/till/{cafe.connection.id}\?card=[^"]+)"', page.text)
    assert len(links) == 2
    assert "Anna 2" in words(await browser.get(html.unescape(links[1])))


async def test_a_card_is_made_for_who_has_none(cafe: Installation, browser: Browser) -> None:
    page = await at_the_counter(cafe, browser, ANNA)
    assert f"Is {ANNA} typed right?" in words(page)
    for _ in range(2):  # pressed twice, it is the same card
        made = await browser.post(f"/till/{cafe.connection.id}/card", who=ANNA)
        page = await browser.get(made.headers["location"])
        assert "The card is made, and on its way to the guest." in words(page)
        assert "0 of 2 stamps" in words(page)
    assert [card.phone for card in cafe.sevenstamp.state.cards.values()] == [ANNA]
    assert "Make a card" not in words(await at_the_counter(cafe, browser, "123456"))
    refused = await browser.post(f"/till/{cafe.connection.id}/card", who="123456")
    assert "A card is made for a phone or an email" in words(refused)


async def test_an_old_address_begins_anew_and_shows_nobodys_card(cafe: Installation, browser: Browser) -> None:
    page = await browser.get(f"/till/{cafe.connection.id}?card=nonsense")
    assert page.status_code == 200
    assert "Card ending" not in page.text
    answer = await browser.post(f"/till/{cafe.connection.id}/give", card="nonsense", receipt="x")
    assert answer.status_code == 404


async def test_the_counter_is_told_that_the_till_is_not_read(cafe: Installation, browser: Browser) -> None:
    address = f"/till/{cafe.connection.id}"
    assert "No sales are read since" not in words(await browser.get(address))
    refused = Message("why.till_refuses")
    await cafe.host.store.write(
        lambda tx: health.report_unwell(tx, cafe.connection, Health.needs_authorisation, refused)
    )
    assert "No sales are read since" in words(await browser.get(address))


async def test_only_the_counters_page_may_ask_for_the_camera(cafe: Installation, browser: Browser) -> None:
    counter = await browser.get(f"/till/{cafe.connection.id}")
    assert "camera=(self)" in counter.headers["permissions-policy"]
    assert "camera=()" in (await browser.get("/")).headers["permissions-policy"]


# The page of vouchers


async def test_a_voucher_is_issued_looked_at_and_redeemed_in_the_console(cafe: Installation, browser: Browser) -> None:
    await cafe.host.services.cards.issue_card(cafe.connection.business_id, phone=ANNA, email=None)
    page = f"/connections/{cafe.connection.id}/vouchers"
    nonce = re.search(r'name="nonce" value="([^"]+)"', (await browser.get(page)).text)
    assert nonce
    wanted = {"title": "A cake", "who": ANNA, "redeem_code": "cake-77", "nonce": nonce[1]}
    for _ in range(2):
        answer = await browser.post(f"{page}/issue", **wanted)
        shown = words(await browser.get(answer.headers["location"]))
        assert "A cake Redeem code CAKE-77 State can be used" in shown
        assert "Voucher CAKE-77 is issued, on the card ending" in shown
    (card,) = cafe.sevenstamp.state.cards.values()
    (voucher,) = cafe.sevenstamp.state.vouchers.values()
    assert (voucher.title, voucher.card_id) == ("A cake", card.id)
    found = await browser.post(f"{page}/show", code="cake-77")
    token = re.search(r'name="voucher" value="([^"]+)"', (await browser.get(found.headers["location"])).text)
    assert token
    # however it is spelled, and one of our own without its dash, which nobody told us of
    for spelled in ("cake 77", "CAKE77"):
        assert (await browser.post(f"{page}/show", code=spelled)).headers["location"]
    assert "7stamp knows no voucher of this code." in words(await browser.post(f"{page}/show", code="CAKE-78"))
    made = await cafe.host.services.cards.issue_voucher(cafe.connection.business_id, WantedVoucher(title="A tea"))
    seen = await cafe.host.services.cards.show_voucher(
        cafe.connection.business_id, made.redeem_code.replace("-", "").lower()
    )
    assert seen.voucher.redeem_code == made.redeem_code
    answer = await browser.post(f"{page}/redeem", voucher=token[1])
    assert "Voucher CAKE-77 is used." in words(await browser.get(answer.headers["location"]))
    again = await browser.post(f"{page}/redeem", voucher=token[1])
    assert (again.status_code, "redeemed already" in words(again)) == (422, True)
    assert "CAKE" not in found.headers["location"]


async def test_a_voucher_that_cannot_be_is_refused_beside_its_field(cafe: Installation, browser: Browser) -> None:
    page = f"/connections/{cafe.connection.id}/vouchers"
    for wrong, said in (
        ({"title": ""}, "Give the voucher a title"),
        ({"title": "A cake", "who": BORYS}, "No card has this number"),
        ({"title": "A cake", "redeem_code": "a b"}, "A redeem code has 3 to 64"),
    ):
        answer = await browser.post(f"{page}/issue", **wrong)
        assert (answer.status_code, said in words(answer)) == (422, True), words(answer)
    answer = await browser.post(f"{page}/show", code="NOTHING-1")
    assert "7stamp knows no voucher of this code." in words(answer)
    assert (await browser.post(f"{page}/redeem", voucher="nonsense")).status_code == 404
    assert cafe.sevenstamp.state.vouchers == {}


async def test_with_a_card_chosen_the_list_holds_still_and_what_was_given_can_be_taken_back(
    cafe: Installation, browser: Browser
) -> None:
    await cafe.host.services.cards.issue_card(cafe.connection.business_id, phone=ANNA, email=None)
    cafe.cafe.sell(0)
    await cafe.sync()
    till = f"/till/{cafe.connection.id}"
    assert "data-part" in (await browser.get(till)).text
    found = (await browser.post(f"{till}/find", who=ANNA)).headers["location"]
    page = (await browser.get(found)).text
    assert "data-part" not in page, "a button would move from under a finger"
    assert "Show newer receipts" in page
    fields = dict(re.findall(r'name="(card|receipt)" value="([^"]+)"', page.partition(f'action="{till}/give"')[2]))
    given = await browser.post(f"{till}/give", **{name: html.unescape(value) for name, value in fields.items()})
    page = (await browser.get(given.headers["location"])).text
    link = f"/connections/{cafe.connection.id}/receipts/{fields['receipt']}"
    assert f'href="{link}">Was it the wrong card? Take them back' in page
    assert "Take them back" in words(await browser.get(link))


async def test_a_paused_till_says_so_at_the_counter(cafe: Installation, browser: Browser) -> None:
    await cafe.host.services.connections.pause(cafe.connection.id)
    page = words(await browser.get(f"/till/{cafe.connection.id}"))
    assert "Paused since" in page
    assert "no stamps are given until you resume" in page


async def test_three_vouchers_are_shown_and_more_are_folded(cafe: Installation, browser: Browser) -> None:
    await cafe.host.services.cards.issue_card(cafe.connection.business_id, phone=ANNA, email=None)
    card = await cafe.host.services.cards.find_card(cafe.connection.business_id, phone=ANNA, email=None, number=None)
    for number in range(5):
        wanted = WantedVoucher(title="Coffee", redeem_code=f"COFFEE-{number}", card_id=card.id)
        await cafe.host.services.cards.issue_voucher(cafe.connection.business_id, wanted)
    page = (await at_the_counter(cafe, browser, ANNA)).text
    shown, folded = page.split("<summary>More</summary>")
    assert shown.count("/redeem") == 3
    assert folded.count("/redeem") == 2

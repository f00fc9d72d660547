"""Lists of receipts by kind and day, and a customer's card with all that is known of it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from connector_sdk.rule import StampRule, UnknownCustomer
from connectors.domain.person import Reference
from connectors.sevenstamp.sandbox import Faults
from connectors.sevenstamp.sandbox.state import Card
from connectors.store.engine import Transaction
from connectors.store.schema import sale_table
from tests.installation import ANNA, BORYS, Installation
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.test_voucher_at_a_till import words


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


def numbers_on(text: str) -> list[str]:
    """The receipts of a list, in its order."""
    return re.findall(r'<span class="quiet">(\d{6})</span></a>', text)


async def ignore(_progress: object) -> None:
    """Nobody looks."""


async def _list(browser: Browser, installation: Installation, query: str = "") -> str:
    answer = await browser.get(f"/connections/{installation.connection.id}/receipts{query}")
    assert answer.status_code == 200, answer.text
    return answer.text


async def _path_of(browser: Browser, installation: Installation, number: int) -> str:
    """The address of a receipt's page, as the list of receipts has it."""
    row = re.search(rf'href="([^"]*/receipts/\w+)">(?:(?!</a>).)*>{number}<', await _list(browser, installation))
    assert row
    return row[1]


# --- receipts -------------------------------------------------------------------------------------------------------


async def test_each_kind_of_receipt_has_its_list(installation: Installation, browsers: Browsers) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    cafe, business_id = installation.cafe, installation.connection.business_id
    card = await installation.host.services.cards.issue_card(business_id, phone=ANNA, email=None)
    given, waiting, nobody, refunded, removed = (
        cafe.sell(cafe.client(ANNA)), cafe.sell(cafe.client(BORYS)), cafe.sell(0), cafe.sell(cafe.client(ANNA)),
        cafe.sell(cafe.client(ANNA)),
    )  # fmt: skip
    by_hand = cafe.sell(0)
    await installation.sync()
    cafe.refund(refunded)
    cafe.remove(removed)
    await installation.sync()
    browser = await browsers.new().sign_in()
    sale_id = re.search(
        rf"/receipts/(\w+)\"><b>[^<]*</b> <span class=\"quiet\">{by_hand}<", await _list(browser, installation)
    )
    assert sale_id
    review = installation.host.services.review
    await review.give_stamps(installation.connection, sale_id[1], card, Reference("number", card.number))
    expected = {
        "": [by_hand, removed, refunded, nobody, waiting, given],
        "?kind=all": [by_hand, removed, refunded, nobody, waiting, given],
        "?kind=paid": [by_hand, nobody, waiting, given],
        "?kind=nobody": [nobody],
        "?kind=waiting": [waiting],
        "?kind=refunded": [removed, refunded],
        "?kind=by-hand": [by_hand],
        "?kind=what": [by_hand, removed, refunded, nobody, waiting, given],
    }
    for query, numbers in expected.items():
        found = numbers_on(await _list(browser, installation, query))
        assert sorted(found) == sorted(map(str, numbers)), query
    assert "There are none." in await _list(browser, installation, "?day=2001-01-01")
    moved = await browser.get(f"/connections/{installation.connection.id}?show=without-card")
    assert moved.headers["location"].endswith("/receipts?kind=waiting")


async def test_a_receipts_head_says_how_it_stands_and_whose_it_is(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect(StampRule(unknown_customer=UnknownCustomer.hold))
    cafe, business_id = installation.cafe, installation.connection.business_id
    card = await installation.host.services.cards.issue_card(business_id, phone=ANNA, email=None)
    sold = {
        "Given": cafe.sell(cafe.client(ANNA)),
        "Waits": cafe.sell(cafe.client(BORYS)),
        "Not given": cafe.sell(0),
        "Refunded or removed": cafe.sell(0),
    }
    await installation.sync()
    cafe.remove(sold["Refunded or removed"])
    await installation.sync()
    browser = await browsers.new().sign_in()
    taken_back = cafe.sell(cafe.client(ANNA))
    await installation.sync()
    cafe.remove(taken_back)
    await installation.sync()
    gone = words(await browser.get(await _path_of(browser, installation, taken_back)))
    assert "refunded or removed: 1 stamp was taken back" in gone
    for state, number in sold.items():
        path = await _path_of(browser, installation, number)
        head = words(await browser.get(path)).split("What the rule says")[0].split("History")[0]
        assert f" {state} " in head
        assert f"Receipt {number} Closed today" in head
        whose = {"Given": f"Card ending {card.hint}", "Waits": "attached at the till"}
        assert f"Customer {whose.get(state, 'nobody was attached')}" in head


async def test_a_receipts_page_looks_again_until_its_stamps_have_come_or_gone(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    cafe, business_id = installation.cafe, installation.connection.business_id
    card = await installation.host.services.cards.issue_card(business_id, phone=ANNA, email=None)
    number = cafe.sell(0, paid=4500)
    await installation.sync()
    browser = await browsers.new().sign_in()
    path = await _path_of(browser, installation, number)
    review, sale_id = installation.host.services.review, path.rsplit("/", 1)[1]
    looks = f'data-part="{path}?part=now" data-every='
    assert looks not in (await browser.get(path)).text
    await review.give_stamps(installation.connection, sale_id, card, Reference("number", card.number))
    page = await browser.get(path)
    assert looks in page.text
    assert "On its way" in words(page)
    assert "data-ended" not in page.text
    await installation.sync()
    for state, told in (("Given", "on the card ending"), ("Not given", "1 stamp not given")):
        part = await browser.get(f"{path}?part=now")
        assert "data-ended" in part.text
        assert state in words(part)
        assert told in words(part)
        if state == "Given":
            await review.take_stamps_back(installation.connection, sale_id)
            assert "is being taken back" in words(await browser.get(path))
            await installation.sync()


async def test_a_name_that_no_receipt_has_is_looked_for_among_the_customers(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    business_id = installation.connection.business_id
    card = await installation.host.services.cards.issue_card(business_id, phone=ANNA, email=None)
    one = f"/connections/{installation.connection.id}"
    browser = await browsers.new().sign_in()
    page = await browser.get(f"{one}/receipts", params={"q": ANNA.replace("+", "p")})
    assert "among the customers" in words(page)
    found = await browser.post(f"{one}/customers", who=ANNA)
    assert card.hint in words(await browser.get(found.headers["location"]))


async def test_a_search_stays_among_the_receipts_that_were_listed(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    cafe = installation.cafe
    anonymous, _ = cafe.sell(0, paid=2500), cafe.sell(cafe.client(ANNA), paid=2500)
    await installation.sync()
    one = f"/connections/{installation.connection.id}/receipts"
    browser = await browsers.new().sign_in()

    async def found(**query: str) -> list[str]:
        return re.findall(r'class="quiet">(\d+)</span></a>', (await browser.get(one, params=query)).text)

    today = re.findall(r'datetime="(\d{4}-\d\d-\d\d)', (await browser.get(one)).text)[0]
    assert len(await found(q="25.00")) == 2
    assert await found(q="25.00", kind="nobody") == [str(anonymous)]
    assert len(await found(q="25.00", day=today)) == 2
    assert await found(q="25.00", day="2020-02-29") == []
    nothing = await browser.get(one, params={"q": "9.99", "kind": "nobody"})
    assert "Look for it in all receipts" in words(nothing)
    # nothing of what was asked for is lost on the way: whoever looks again looks among the same receipts
    assert '<option value="nobody" selected>' in nothing.text
    assert 'value="9.99"' in nothing.text
    moved = await browser.get(f"/connections/{installation.connection.id}", params={"q": "25.00 a&b"})
    assert moved.headers["location"] == f"{one}?q=25.00+a%26b"


async def test_the_counter_shows_three_hours_and_the_whole_day_when_asked(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    cafe = installation.cafe
    sold = [cafe.sell(0) for _ in range(15)]
    cafe.receipts[sold[0]]["date_close"] = str(int(cafe.receipts[sold[0]]["date_close"]) - 5 * 3600 * 1000)
    await installation.sync()
    browser, page = await browsers.new().sign_in(), f"/till/{installation.connection.id}"

    async def shown(query: str) -> list[str]:
        return re.findall(r'class="quiet">(\d{6})</span></a>', (await browser.get(f"{page}{query}")).text)

    newest, whole = await shown(""), await shown("?of=day")
    assert len(newest) == 12
    assert sorted(whole) == sorted(str(number) for number in sold)
    assert whole == await shown("?of=day&part=receipts")
    assert 'href="' + page + '?of=day#last-receipts"' in (await browser.get(page)).text


async def test_a_number_opens_the_receipts_behind_it(installation: Installation, browsers: Browsers) -> None:
    installation.till.two_weeks([ANNA, BORYS])
    await installation.connect()
    since = datetime.now(ZoneInfo("Europe/Kyiv")).date() - timedelta(days=20)
    await installation.host.services.sync.backfill(installation.connection.id, since.isoformat(), ignore)
    browser, one = await browsers.new().sign_in(), f"/connections/{installation.connection.id}"
    page = (await browser.get(f"{one}/numbers?period=week")).text
    counted: dict[str, int] = {}
    for path, number in re.findall(rf'<a href="({one}/receipts\?[^"]*)">(\d+)(?: without)?</a>', page):
        at, shown = path.replace("&amp;", "&"), list[str]()
        while at:
            text = (await browser.get(at)).text
            shown += numbers_on(text)
            older = re.search(r'href="([^"]*)">Older<', text)
            at = older[1].replace("&amp;", "&") if older else ""
        assert len(shown) == len(set(shown)) == int(number), path
        counted["nobody" if "nobody" in path else "all"] = len(shown)
    assert counted["all"] > 50 > counted["nobody"] > 0


async def test_pages_of_a_list_show_each_receipt_once_also_where_many_close_at_once(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    cafe = installation.cafe
    sold = [cafe.sell(0) for _ in range(120)]
    for receipt in sold:
        cafe.receipts[receipt]["date_close"] = cafe.receipts[sold[0]]["date_close"]
    await installation.sync()
    browser, seen, query = await browsers.new().sign_in(), [], "?kind=nobody"
    for _ in range(3):
        text = await _list(browser, installation, query)
        seen += numbers_on(text)
        older = re.search(r'receipts(\?kind=nobody&amp;behind=[^"]+)"', text)
        query = older[1].replace("&amp;", "&") if older else ""
    assert query == ""
    assert sorted(seen) == sorted(map(str, sold))


async def test_a_day_is_the_venues(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()  # in Kyiv, two hours ahead of UTC in winter
    cafe = installation.cafe
    midnight = datetime(2026, 11, 20, tzinfo=ZoneInfo("Europe/Kyiv"))
    before, after = cafe.sell(0), cafe.sell(0)
    for receipt, at in ((before, midnight - timedelta(minutes=1)), (after, midnight)):
        cafe.receipts[receipt]["date_close"] = str(int(at.timestamp() * 1000))
    await installation.host.services.sync.backfill(installation.connection.id, "2026-11-01", ignore)
    browser = await browsers.new().sign_in()
    assert numbers_on(await _list(browser, installation, "?day=2026-11-19")) == [str(before)]
    assert numbers_on(await _list(browser, installation, "?day=2026-11-20")) == [str(after)]


@pytest.mark.parametrize(
    "query",
    ["day=9999-12-31", "day=0001-01-01", "day=x", "day=2026-02-30", "behind=x.y", "behind=99999999999999999.x",
     "behind=%D9%A1.x", "behind=5", "kind=all&kind=nobody"],
)  # fmt: skip
async def test_no_address_makes_the_list_stumble(installation: Installation, browsers: Browsers, query: str) -> None:
    await installation.connect()
    await _list(await browsers.new().sign_in(), installation, f"?{query}")


# --- customers ------------------------------------------------------------------------------------------------------


async def test_a_card_shows_all_that_is_known_of_it(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    cafe, business_id = installation.cafe, installation.connection.business_id
    first, second = cafe.sell(cafe.client(ANNA)), cafe.sell(cafe.client(ANNA))
    other = cafe.sell(cafe.client(BORYS))
    await installation.sync()
    cafe.refund(second)
    await installation.sync()
    card = await installation.host.services.cards.find_card(business_id, phone=ANNA, email=None, number=None)
    browser, base = await browsers.new().sign_in(), f"/connections/{installation.connection.id}/customers"
    for who in (ANNA, card.number):
        answer = await browser.post(base, who=who)
        assert answer.status_code == 303, answer.text
        assert ANNA.lstrip("+") not in answer.headers["location"]
        text = (await browser.get(answer.headers["location"])).text
        assert f"Card ending {card.hint}" in text
        assert sorted(numbers_on(text)) == [str(first), str(second)]
        assert str(other) not in text
        # that the first receipt's stamps came is told by the receipt; what was taken back is told with what was added
        assert text.count("Stamps were added") == 1
        assert text.count("Stamps were taken back") == 1
        assert text.index("Stamps were taken back") < text.index("Stamps were added")
    installation.sevenstamp.faults = Faults(status_500=1.0)
    text = (await browser.get(answer.headers["location"])).text
    assert "7stamp does not answer just now: only the receipts of this till are shown." in text
    assert str(first) in text


async def test_what_is_nobodys_card_is_said_at_the_field(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    browser, base = await browsers.new().sign_in(), f"/connections/{installation.connection.id}/customers"
    for who, said in (
        ("", "Scan the card"),
        (BORYS, "No card has this number, phone or email."),
        ("Olena", "No customer of yours has this name at 7stamp: ask for the phone."),
    ):
        answer = await browser.post(base, who=who)
        assert answer.status_code == 422
        assert said in answer.text
    for token in ("x", ""):
        assert (await browser.get(f"{base}?card={token}")).status_code == 200


async def test_a_card_of_the_counters_page_opens_no_customers_page(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    business_id = installation.connection.business_id
    await installation.host.services.cards.issue_card(business_id, phone=ANNA, email=None)
    browser = await browsers.new().sign_in()
    found = await browser.post(f"/till/{installation.connection.id}/find", who=ANNA)
    token = found.headers["location"].partition("card=")[2]
    text = (await browser.get(f"/connections/{installation.connection.id}/customers?card={token}")).text
    assert "What happened with this card" not in text


async def one_card_and_nobodys_receipt(installation: Installation) -> tuple[Card, int]:
    """Sell to Anna and to nobody; return her card, and the receipt of nobody."""
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    nobodys = installation.cafe.sell(0)
    await installation.sync()
    [card] = installation.sevenstamp.state.cards.values()
    return card, nobodys


async def test_the_end_of_a_cards_number_leads_to_the_card_wherever_one_is_asked_for(
    installation: Installation, browsers: Browsers
) -> None:
    card, nobodys = await one_card_and_nobodys_receipt(installation)
    ending = card.number[-4:]
    browser, base = await browsers.new().sign_in(), f"/connections/{installation.connection.id}"
    customers = await browser.get(f"{base}/customers")
    assert "Who came last" in words(customers)
    assert f'name="who" value="{ending}"' in customers.text
    for page in (f"{base}/customers", f"/till/{installation.connection.id}/find"):
        found = await browser.post(page, who=f" {ending} ")
        assert f"ard ending {ending}" in words(await browser.get(found.headers["location"]))
    path = await _path_of(browser, installation, nobodys)
    shown = words(await browser.post(f"{path}/find-card", who=ending))
    assert f"The card ending {ending} was found." in shown
    # of a card that no receipt here has, the end says nothing
    business_id = installation.connection.business_id
    other = await installation.host.services.cards.issue_card(business_id, phone=BORYS, email=None)
    for page in (f"{path}/find-card", f"{base}/customers"):
        answer = await browser.post(page, who=other.hint)
        assert answer.status_code == 422
        assert "No receipt of this till has a card that ends so: type all six digits" in words(answer)


async def test_the_end_of_a_number_finds_no_card_that_is_not_in_use_or_that_7stamp_does_not_answer_for(
    installation: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, nobodys = await one_card_and_nobodys_receipt(installation)
    browser, base = await browsers.new().sign_in(), f"/connections/{installation.connection.id}"
    path = await _path_of(browser, installation, nobodys)
    asked = (f"{path}/find-card", f"{base}/customers", f"/till/{installation.connection.id}/find")
    installation.sevenstamp.faults = Faults(status_500=1.0)
    for page in asked:
        answer = await browser.post(page, who=card.number[-4:])
        assert answer.status_code == 422
        assert "7stamp cannot be asked right now" in words(answer)
    installation.sevenstamp.faults = Faults()
    kind = type(installation.sevenstamp.state)
    shown = kind.card_as_json
    monkeypatch.setattr(kind, "card_as_json", lambda state, card: {**shown(state, card), "active": False})
    for page in asked:
        answer = await browser.post(page, who=card.number[-4:])
        assert answer.status_code == 422
        assert "card has this number" in words(answer) or "has a card that ends so" in words(answer)


async def test_of_two_cards_that_end_alike_one_is_chosen(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    for phone in (ANNA, BORYS):
        installation.cafe.sell(installation.cafe.client(phone))
    nobodys = installation.cafe.sell(0)
    await installation.sync()

    def alike(tx: Transaction) -> None:
        tx.run(sale_table.update().where(sale_table.c.card_id.is_not(None)).values(card_hint="1234"))

    await installation.host.store.write(alike)
    browser, base = await browsers.new().sign_in(), f"/connections/{installation.connection.id}"
    found = await browser.post(f"{base}/customers", who="1234")
    paths = re.findall(rf'href="({base}/customers\?card=[^"]*)"', found.text)
    assert len(paths) == 2
    for card in installation.sevenstamp.state.cards.values():
        assert f"card ending {card.number[-4:]}" in words(found)
    path = await _path_of(browser, installation, nobodys)
    shown = await browser.post(f"{path}/find-card", who="1234")
    claims = re.findall(r'name="claim" value="([^"]*)"', shown.text)
    assert len(claims) == 2
    given = await browser.post(f"{path}/give", claim=claims[1])
    assert given.status_code == 303, words(given)
    await installation.sync()
    # one of the two got it
    assert sorted((installation.stamps(ANNA), installation.stamps(BORYS))) == [1, 2]


async def test_a_missing_stamp_is_given_to_whoever_is_found_by_name(
    installation: Installation, browsers: Browsers
) -> None:
    card, nobodys = await one_card_and_nobodys_receipt(installation)
    card.name = "Olena"
    browser = await browsers.new().sign_in()
    path = await _path_of(browser, installation, nobodys)
    shown = await browser.post(f"{path}/find-card", who="olena")
    assert f"The card ending {card.number[-4:]} was found. Olena" in words(shown)
    [claim] = re.findall(r'name="claim" value="([^"]*)"', shown.text)
    before = installation.stamps(ANNA)
    assert (await browser.post(f"{path}/give", claim=claim)).status_code == 303
    await installation.sync()
    assert installation.stamps(ANNA) > before


async def test_whoever_has_no_card_gets_one_from_the_receipts_page(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    receipt = installation.cafe.sell(0, paid=4500)
    await installation.sync()
    browser = await browsers.new().sign_in()
    listed = (await browser.get(f"/connections/{installation.connection.id}/receipts")).text
    [path] = set(re.findall(rf"/connections/{installation.connection.id}/receipts/\w+", listed))
    assert "Its stamps were not given: nobody was attached to it at the till." in words(await browser.get(path))
    none = await browser.post(f"{path}/find-card", who=ANNA)
    assert none.status_code == 422
    assert "No card has this number, phone or email." in words(none)
    assert f'name="who" value="{ANNA}"' in none.text
    # a number is nobody's until a card has it
    assert "make-card" not in (await browser.post(f"{path}/find-card", who="123456")).text
    refused = await browser.post(f"{path}/make-card", who="somebody")
    assert refused.status_code == 422
    assert "A card is made for a phone or an email." in words(refused)
    made = await browser.post(f"{path}/make-card", who=ANNA)
    [card] = installation.sevenstamp.state.cards.values()
    assert card.phone == ANNA
    assert f"The card is made, and on its way to the guest. Card ending {card.number[-4:]}." in words(made)
    match = re.search(r'name="claim" value="([^"]+)"', made.text)
    assert match
    assert (await browser.post(f"{path}/give", claim=match[1])).status_code == 303
    await installation.sync()
    assert installation.stamps(ANNA) > 0
    given = words(await browser.get(path))
    assert str(receipt) in given
    assert "It gave no stamps" not in given
    # twice is once: whoever has a card gets the same again
    await browser.post(f"{path}/make-card", who=ANNA)
    assert len(installation.sevenstamp.state.cards) == 1

"""The page behind a receipt's QR code, in every state of a receipt; and whoever guesses gets nothing."""

from __future__ import annotations

import html
import random
import re
import string
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from connector_sdk.money import Money
from connector_sdk.rule import Mode, StampRule, UnknownCustomer
from connectors.domain.clock import DAY
from connectors.domain.receipt_links import ReceiptTarget, VenueTarget
from connectors.domain.stamps import RuleVersion
from connectors.services.claims import ClaimService, OpenedLink
from connectors.services.people import reference_from
from connectors.store import connections, ledger
from connectors.web.console import sign_in_limits
from connectors.web.console.claim_limits import ClaimLimits
from connectors.web.console.sign_in_limits import TooManyAttempts
from tests.installation import ANNA, BORYS, KEY, Installation, build
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.clock import MovableClock

RULE = StampRule(mode=Mode.both, unknown_customer=UnknownCustomer.issue, claim_days=14)
GUESSES = 100_000


@pytest.fixture
async def clock() -> MovableClock:
    return MovableClock()


@pytest.fixture
async def qr(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clock: MovableClock) -> AsyncIterator[Installation]:
    """A cafe that gives stamps by receipts."""
    async with build(tmp_path, monkeypatch, time=clock) as installation:
        await installation.connect(RULE)
        yield installation


@pytest.fixture
async def browsers(qr: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(qr) as opened:
        yield opened


async def link_of(installation: Installation, receipt: int | str) -> str:
    """The path of a receipt's link."""
    link = await installation.host.services.claims.receipt_link(installation.connection, str(receipt))
    return f"/r/{link.url.rpartition('/')[2]}"


async def sold(installation: Installation, paid: int = 4500, client: int = 0) -> str:
    """The path of the link of a receipt that was sold just now."""
    receipt = installation.cafe.sell(client, paid=paid)
    await installation.sync()
    return await link_of(installation, receipt)


async def claim(browser: Browser, link: str, who: str = BORYS, **more: str) -> httpx.Response:
    """Claim, and return the page that it leads to."""
    answer = await browser.post(link, who=who, **more)
    if answer.status_code != 303:
        return answer
    return await browser.get(answer.headers["location"])


def heading(answer: httpx.Response) -> str:
    found = re.search(r"<h1[^>]*>(.*?)</h1>", answer.text, re.DOTALL)
    assert found, answer.text
    return html.unescape(found[1]).strip()


# The states of a receipt


async def test_a_claimed_receipt_is_its_customers_whatever_the_till_says_later(
    qr: Installation, browsers: Browsers
) -> None:
    receipt = qr.cafe.sell(0, paid=4500)
    await qr.sync()
    page = await claim(browsers.new(), await link_of(qr, receipt))
    assert heading(page) == "1 stamp is on its way to your card"
    qr.cafe.attach(receipt, qr.cafe.client(ANNA))
    await qr.sync()
    assert (qr.stamps(BORYS), qr.stamps(ANNA)) == (1, 0)


async def test_a_receipt_is_claimed_once(qr: Installation, browsers: Browsers) -> None:
    link = await sold(qr)
    await claim(browsers.new(), link)
    again = await claim(browsers.new(address="198.51.100.8"), link, ANNA)
    assert heading(again) == "These stamps are on a card already"
    await qr.sync()
    assert (qr.stamps(BORYS), qr.stamps(ANNA)) == (1, 0)


async def test_a_receipt_whose_customer_the_till_named_is_nobody_elses(qr: Installation, browsers: Browsers) -> None:
    link = await sold(qr, client=qr.cafe.client(ANNA))
    assert heading(await browsers.new().get(link)) == "These stamps are on a card already"
    assert heading(await claim(browsers.new(), link)) == "These stamps are on a card already"


async def test_the_wallet_link_is_given_for_a_new_card_only(qr: Installation, browsers: Browsers) -> None:
    new = await claim(browsers.new(), await sold(qr))
    assert "https://wallet.invalid/" in new.text
    known = await claim(browsers.new(), await sold(qr))
    assert "https://wallet.invalid/" not in known.text
    assert "in your phone&#39;s wallet already" in known.text


async def test_an_expired_receipt_gives_nothing(qr: Installation, browsers: Browsers, clock: MovableClock) -> None:
    link = await sold(qr)
    clock.ahead = 14 * DAY
    assert heading(await browsers.new().get(link)) == "This receipt is too old"
    assert heading(await claim(browsers.new(), link)) == "This receipt is too old"
    assert qr.sevenstamp.state.cards == {}


async def test_a_refunded_receipt_gives_nothing_and_a_claimed_one_is_taken_back(
    qr: Installation, browsers: Browsers
) -> None:
    first, second = qr.cafe.sell(0, paid=4500), qr.cafe.sell(0, paid=4500)
    await qr.sync()
    browser = browsers.new()
    answer = await browser.post(await link_of(qr, second), who=BORYS)
    await qr.sync()
    assert qr.stamps(BORYS) == 1
    qr.cafe.refund(first)
    qr.cafe.refund(second)
    await qr.sync()
    assert heading(await claim(browsers.new(), await link_of(qr, first))) == "This receipt was refunded"
    assert qr.stamps(BORYS) == 0
    assert heading(await browser.get(answer.headers["location"])) == "The stamps were taken back"


async def test_a_receipt_that_has_not_arrived_is_waited_for(qr: Installation, browsers: Browsers) -> None:
    link = await link_of(qr, 330660)
    assert heading(await browsers.new().get(link)) == "This receipt is not here yet"
    assert qr.cafe.sell(0, paid=4500) == 330660
    await qr.sync()
    assert heading(await browsers.new().get(link)) == "1 stamp is waiting for you"


async def test_an_open_receipt_and_one_that_earns_nothing_say_so(qr: Installation, browsers: Browsers) -> None:
    receipt = qr.cafe.open(0)
    qr.cafe.add(receipt, "161")
    await qr.sync()
    free = qr.cafe.sell(0, paid=0)
    await qr.sync()
    assert heading(await browsers.new().get(await link_of(qr, receipt))) in (
        "This order is not paid yet",
        "This receipt is not here yet",
    )
    assert heading(await browsers.new().get(await link_of(qr, free))) == "This receipt earns no stamps"


async def test_a_cafe_that_gives_no_stamps_by_receipts_any_more_says_so(qr: Installation, browsers: Browsers) -> None:
    link = await sold(qr)
    off = RULE.model_copy(update={"mode": Mode.identified})
    await qr.host.services.connections.edit(qr.connection.id, {}, rule=lambda _account, _rule: off)
    # the rule of when it was closed counts: what stands on a printed receipt is kept
    assert heading(await browsers.new().get(link)) == "1 stamp is waiting for you"
    await qr.host.services.connections.remove(qr.connection.id)
    assert heading(await browsers.new().get(link)) == "No stamps are given by receipts here"


async def test_a_link_that_is_altered_by_a_bit_looks_like_an_unknown_one(qr: Installation, browsers: Browsers) -> None:
    link = await sold(qr)
    unknown = heading(await browsers.new().get("/r/nonsense"))
    token = link.removeprefix("/r/")
    for place, sign in enumerate(token):
        other = next(one for one in "abcdefgh234567" if one != sign)
        altered = f"/r/{token[:place]}{other}{token[place + 1 :]}"
        answer = await browsers.new(address=f"198.51.100.{place + 10}").get(altered)
        assert (answer.status_code, heading(answer)) == (404, unknown)
    assert heading(await browsers.new().get(f"/r/{token.upper()}")) == unknown
    for suffix in ("svg", "png"):
        assert (await browsers.new().get(f"{link}.{suffix}")).status_code == 200
        assert (await browsers.new().get(f"/r/nonsense.{suffix}")).status_code == 404
    assert (await browsers.new().get(f"{link}.exe")).status_code == 404


async def test_what_is_typed_wrong_is_said_beside_the_field_and_can_be_mended(
    qr: Installation, browsers: Browsers
) -> None:
    link, browser = await sold(qr), browsers.new()
    for wrong in ("", "nobody", "12345"):
        answer = await browser.post(link, who=wrong)
        assert answer.status_code == 422
        assert "Write your phone, your email, or the six digits on your card." in answer.text
    answer = await browser.post(link, who="999999")
    assert "type your phone or email, and one is made" in answer.text
    assert heading(await claim(browser, link, "guest@example.com")).startswith("1 stamp")


async def test_a_card_of_before_is_found_by_its_number(qr: Installation, browsers: Browsers) -> None:
    await qr.host.services.cards.issue_card(qr.connection.business_id, phone=ANNA, email=None)
    (card,) = qr.sevenstamp.state.cards.values()
    await claim(browsers.new(), await sold(qr), card.number)
    await qr.sync()
    assert qr.stamps(ANNA) == 1


async def test_7stamp_that_does_not_answer_loses_nothing(qr: Installation, browsers: Browsers) -> None:
    link = await sold(qr)
    qr.sevenstamp.faults.status_500 = 1.0
    answer = await browsers.new().post(link, who=BORYS)
    assert answer.status_code == 422
    assert "nothing is lost" in answer.text
    qr.sevenstamp.faults.status_500 = 0.0
    assert heading(await claim(browsers.new(address="198.51.100.9"), link)).startswith("1 stamp")


# Consent


async def test_what_was_agreed_to_is_kept_with_its_time_and_goes_with_the_customer(
    qr: Installation, browsers: Browsers
) -> None:
    await qr.host.services.claims.set_consent(qr.connection, "I agree to be written to.")
    receipt = qr.cafe.sell(0, paid=4500)
    await qr.sync()
    link, browser = await link_of(qr, receipt), browsers.new()
    assert "Say that you agree first." in (await browser.post(link, who=BORYS)).text
    assert "Say that you agree first." in (await browser.post(link, who=BORYS, agreed="0" * 16)).text
    agreed = re.search(r'name="agreed" value="(\w+)"', (await browser.get(link)).text)
    assert agreed
    # another text meanwhile is another consent
    connection = await qr.host.services.connections.get(qr.connection.id)
    await qr.host.services.claims.set_consent(connection, "I agree to be called.")
    assert "Say that you agree first." in (await browser.post(link, who=BORYS, agreed=agreed[1])).text
    newer = re.search(r'name="agreed" value="(\w+)"', (await browser.get(link)).text)
    assert newer
    await claim(browser, link, agreed=newer[1])
    sale_id = await qr.host.store.read(
        lambda tx: ledger.sales.sale_id_of(tx, connection.business_id, "poster", "861052", str(receipt))
    )
    (kept,) = await qr.host.store.read(lambda tx: ledger.claims.of_sale(tx, sale_id))
    assert (kept.consent, kept.language) == ("I agree to be called.", "en")
    await qr.sync()
    people = qr.host.services.people
    (business,) = await people.businesses(None)
    await people.forget_person(reference_from(BORYS, None), business, _ignore)
    assert await qr.host.store.read(lambda tx: ledger.claims.of_sale(tx, sale_id)) == []


async def _ignore(_done: float) -> None:
    return


# The table card


async def test_a_receipt_is_found_by_its_number_and_amount_together(qr: Installation, browsers: Browsers) -> None:
    receipt = qr.cafe.sell(0, paid=4500)
    await qr.sync()
    venue = await qr.host.services.claims.venue_link(qr.connection, "1")
    path, browser = f"/r/{venue.rpartition('/')[2]}", browsers.new()
    assert heading(await browser.get(path)) == "Get the stamps of your receipt"
    for number, amount in ((receipt, "44.00"), (receipt + 1, "45.00"), (receipt, "")):
        answer = await browser.post(path, receipt=str(number), amount=amount)
        assert answer.status_code == 422
    found = await browser.post(path, receipt=str(receipt), amount="45,00")
    assert found.status_code == 303
    assert heading(await browser.get(found.headers["location"])) == "1 stamp is waiting for you"
    other = await qr.host.services.claims.venue_link(qr.connection, "2")
    elsewhere = await browsers.new(address="198.51.100.9").post(
        f"/r/{other.rpartition('/')[2]}", receipt=str(receipt), amount="45.00"
    )
    assert elsewhere.status_code == 422


async def test_the_table_cards_of_a_cafe_that_has_none_are_refused_in_words(
    qr: Installation, browsers: Browsers
) -> None:
    browser = await browsers.new().sign_in()
    page = await browser.get(f"/connections/{qr.connection.id}/table-card?location=1")
    assert page.status_code == 200
    assert "Collect your stamps" in page.text
    assert (await browser.get(f"/connections/{qr.connection.id}/table-card?location=99")).status_code == 422
    off = RULE.model_copy(update={"mode": Mode.identified})
    await qr.host.services.connections.edit(qr.connection.id, {}, rule=lambda _account, _rule: off)
    assert (await browser.get(f"/connections/{qr.connection.id}/table-card")).status_code == 422


# Guessing


class _Day:
    """A day that passes as fast as it is guessed."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def monotonic(self) -> float:
        return self.seconds


async def test_a_day_of_guesses_gives_nothing_and_locks_nobody_out(
    qr: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    chance, day = random.Random(14), _Day()
    monkeypatch.setattr(sign_in_limits, "time", day)
    receipts = [qr.cafe.sell(0, paid=100 * chance.randint(20, 200)) for _ in range(60)]
    await qr.sync()
    claims, limits = qr.host.services.claims, ClaimLimits()
    opened = await claims.open_venue(VenueTarget(qr.connection.id, None))
    assert opened is not None
    signs = string.ascii_lowercase + "234567"
    found = guests_refused = looked = 0
    for number in range(GUESSES):
        day.seconds = number * 86_400 / GUESSES
        token = "".join(chance.choices(signs, k=24))
        found += claims.read_token(token) is not None
        address = f"203.0.{number % 40}.{number % 250}"
        try:
            limits.count_number(address, qr.connection.id)
        except TooManyAttempts:
            pass
        else:
            looked += 1
            if looked % 10 == 0:  # each look costs the same: a tenth shows whether any finds something
                paid = Money(chance.randint(1000, 30000), "UAH")
                found += await claims.find_at_venue(opened, str(chance.randint(1, 10**7)), paid) is not None
        if number % 5000 == 0:  # somebody who has a receipt comes in between, from a network of their own
            try:
                limits.count_number(f"198.51.{number // 5000}.1", qr.connection.id)
            except TooManyAttempts:
                guests_refused += 1
    assert (found, guests_refused) == (0, 0)
    assert looked < GUESSES / 2
    assert len(receipts) == 60


async def test_a_receipt_of_ones_own_does_not_lift_the_bound_on_guesses(qr: Installation) -> None:
    """Three guesses, then a number that is known, and so on: the guesses still count."""
    limits = ClaimLimits()
    refused = 0
    for number in range(60):
        address = f"198.51.100.{number}"
        try:
            for _ in range(5):
                limits.count_number(address, qr.connection.id)
                limits.count_number(address, qr.connection.id)
                limits.forgive_number(address, qr.connection.id)
        except TooManyAttempts:
            refused += 1
    assert refused >= 30


async def test_a_page_that_is_loaded_again_and_again_asks_7stamp_a_bounded_number_of_times(
    qr: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, card_of_receipt = [], ClaimService.card_of_receipt

    async def counted(self: ClaimService, opened: OpenedLink, deadline: float) -> object:
        asked.append(opened)
        return await card_of_receipt(self, opened, deadline)

    monkeypatch.setattr(ClaimService, "card_of_receipt", counted)
    link = await sold(qr)
    claimed = (await browsers.new().post(link, who=BORYS)).headers["location"]
    await qr.sync()
    for number in range(70):
        page = await browsers.new(address=f"198.51.100.{number}").get(claimed)
        assert page.status_code == 200
        assert "on your card" in heading(page)
    assert 55 <= len(asked) <= 65


async def test_an_open_receipt_goes_by_the_rule_of_now(
    qr: Installation, browsers: Browsers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cafe that gave no stamps by receipts at first has its open orders say that they are not paid yet."""
    off, on = (RULE.model_copy(update={"mode": mode}) for mode in (Mode.identified, Mode.both))
    versions = [RuleVersion(1, 0, off), RuleVersion(2, 5, on)]
    receipt = qr.cafe.open(0)
    qr.cafe.add(receipt, "161")
    await qr.hook(qr.cafe.hook(receipt, "changed"))
    await qr.sync()
    link = await link_of(qr, receipt)
    monkeypatch.setattr(connections.rules, "of_connection", lambda _tx, _connection_id: versions)
    assert heading(await browsers.new().get(link)) == "This order is not paid yet"


async def test_a_page_holds_whoever_guesses_to_these_limits(qr: Installation, browsers: Browsers) -> None:
    receipt = qr.cafe.sell(0, paid=4500)
    await qr.sync()
    venue = await qr.host.services.claims.venue_link(qr.connection, None)
    path, guesser = f"/r/{venue.rpartition('/')[2]}", browsers.new()
    statuses = [(await guesser.post(path, receipt=str(number), amount="45.00")).status_code for number in range(15)]
    assert statuses.count(429) >= 3
    refused = await guesser.post(path, receipt=str(receipt), amount="45.00")
    assert refused.status_code == 429
    assert "Too many tries" in refused.text
    guest = await browsers.new(address="192.0.2.9").post(path, receipt=str(receipt), amount="45.00")
    assert guest.status_code == 303
    link = await link_of(qr, receipt)
    claims = [(await browsers.new(address="192.0.2.10").post(link, who="999999")).status_code for _ in range(25)]
    assert 429 in claims
    assert heading(await claim(guest_browser(browsers), link)).startswith("1 stamp")


def guest_browser(browsers: Browsers) -> Browser:
    return browsers.new(address="192.0.2.11")


async def test_no_other_connection_of_another_business_is_opened_by_a_link(
    qr: Installation, browsers: Browsers
) -> None:
    receipt = qr.cafe.sell(0, paid=4500)
    await qr.sync()
    mine = qr.host.services.claims.read_token((await link_of(qr, receipt)).removeprefix("/r/"))
    assert isinstance(mine, ReceiptTarget)
    opened = await qr.host.services.claims.open(mine)
    assert opened.connection is not None
    assert opened.connection.id == qr.connection.id
    assert KEY not in (await browsers.new().get(await link_of(qr, receipt))).text

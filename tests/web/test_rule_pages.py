"""Rules in words, a second till that begins with the first one's rule, and a step that is skipped where one key is."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import date, datetime, time, timedelta
from urllib.parse import urlencode
from zoneinfo import ZoneInfo

import pytest

from connector_sdk.connector import Location, MenuItem, TillAccount
from connector_sdk.money import Money
from connector_sdk.rule import Mode, Multiplier, Refunds, StampRule, UnknownCustomer
from connector_sdk.sale import SaleStatus
from connectors.domain.numbers import Period, span_of
from connectors.web.console.localization import Localizer
from connectors.web.console.rule_form import like_rule, rule_values
from connectors.web.console.rule_words import rule_words
from poster_connector.sandbox import Account
from tests.installation import ANNA, KEY, Installation
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.test_voucher_at_a_till import words

OTHER = "861053:5a9e1570ff9af128e93c5a771055bb21"
ACCOUNT = TillAccount(
    id="1",
    name="Cafe",
    currency="EUR",
    zone="Europe/Rome",
    locations=(Location(id="1", name="Bar"), Location(id="2", name="Hall")),
)
MENU = [
    MenuItem(product_id="10", name="Flat white", category_id="4", category_name="Coffee"),
    MenuItem(product_id="11", name="Tea"),
]
EUROS = Money(500, "EUR")


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


def in_words(installation: Installation, rule: StampRule) -> list[str]:
    localizer = Localizer(installation.host.words, "en", ZoneInfo("Europe/Rome"), installation.host.store.clock.now())
    return rule_words(localizer, rule, ACCOUNT, MENU)


async def test_each_part_of_a_rule_that_changes_what_a_customer_gets_is_told(installation: Installation) -> None:
    window = Multiplier(
        times=2,
        days=frozenset({1, 2}),
        start=time(10),
        end=time(12),
        locations=frozenset({"2"}),
        first_day=date(2026, 12, 1),
        last_day=date(2026, 12, 24),
    )
    rule = StampRule(
        kind="by_amount",
        amount=EUROS,
        minimum=Money(300, "EUR"),
        multipliers=(window, Multiplier(times=3)),
        max_per_sale=10,
        max_per_card_per_day=1,
        refunds=Refunds.flag,
        unknown_customer=UnknownCustomer.skip,
        mode=Mode.both,
    )
    assert in_words(installation, rule) == [
        "One stamp for every €5.00 spent",
        "No stamps below €3.00",
        "Double stamps · Tuesday, Wednesday · 10:00\u202fAM – 12:00\u202fPM · Dec 1, 2026 – Dec 24, 2026 · Hall",
        "3 times as many stamps · every day",
        "Where two of these meet, the larger one counts alone.",
        "At most 10 stamps for one receipt",
        "At most 1 stamp for one card in a day",
        "Whoever was not attached scans the QR code of the receipt later.",
        "When a receipt is refunded: Ask me each time",
        "When a customer has no card yet: Give no stamps",
    ]


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        ({}, "One stamp for every receipt"),
        ({"kind": "per_item", "products": {"10"}, "categories": {"4"}}, "One stamp for each: Coffee, Flat white"),
        ({"kind": "per_item", "products": {"10", "gone"}}, "One stamp for each of 2 things on your menu"),
        ({"kind": "per_item", "products": set("abcd")}, "One stamp for each of 4 things on your menu"),
    ],
)
async def test_what_earns_a_stamp_is_told_by_name_where_it_is_known(
    installation: Installation, chosen: dict[str, object], told: str
) -> None:
    assert in_words(installation, StampRule(**chosen))[0] == told  # type: ignore[arg-type]


@pytest.mark.parametrize(("days", "meets"), [({1}, True), ({2}, False)])
async def test_where_two_windows_meet_it_is_told_which_counts(
    installation: Installation, days: set[int], meets: bool
) -> None:
    tuesdays = Multiplier(times=2, days=frozenset({1}))
    december = Multiplier(times=3, days=frozenset(days), first_day=date(2026, 12, 1), last_day=date(2026, 12, 31))
    told = in_words(installation, StampRule(multipliers=(tuesdays, december)))
    assert ("Where two of these meet, the larger one counts alone." in told) is meets


async def test_what_was_saved_stands_on_the_page_in_words(installation: Installation, browsers: Browsers) -> None:
    await installation.connect()
    owner, address = await browsers.new().sign_in(), f"/connections/{installation.connection.id}/rule"
    saved = await owner.post(
        address, kind="by_amount", amount="15", max_per_sale="4", hold_days="30", claim_days="14", refunds="keep"
    )
    assert saved.headers["location"] == address
    page = words(await owner.get(address))
    assert "The rule counts for receipts closed from now on." in page
    assert "In force: One stamp for every UAH 15.00 spent" in page
    assert "One stamp for every UAH 15.00 spent At most 4 stamps for one receipt" in page
    assert "When a receipt is refunded: Leave its stamps" in page


async def draft_of_another_till(installation: Installation, owner: Browser) -> str:
    installation.till.accounts[OTHER] = Account(token=OTHER, name="other")
    draft = (await owner.post("/connect/poster")).headers["location"].rpartition("/")[0]
    await owner.post(f"{draft}/authorise", **{"set.access_token": OTHER})
    return draft


async def test_a_second_till_begins_with_the_rule_of_the_first(installation: Installation, browsers: Browsers) -> None:
    rule = StampRule(kind="by_amount", amount=Money(1750, "UAH"), refunds=Refunds.keep, max_per_sale=7)
    await installation.connect(rule)
    owner = await browsers.new().sign_in()
    draft = await draft_of_another_till(installation, owner)
    await owner.get(f"{draft}/key")
    await owner.post(f"{draft}/where", location="1")
    page = await owner.get(f"{draft}/rule")
    assert f"Filled in as at {installation.connection.title}." in words(page)
    assert 'name="amount" value="17.50"' in page.text
    assert 'name="max_per_sale" value="7"' in page.text
    assert re.search(r'name="refunds" value="keep" checked', page.text)


async def test_a_first_till_begins_with_the_usual_rule(installation: Installation, browsers: Browsers) -> None:
    owner = await browsers.new().sign_in()
    draft = await draft_of_another_till(installation, owner)
    await owner.get(f"{draft}/key")
    await owner.post(f"{draft}/where", location="1")
    page = await owner.get(f"{draft}/rule")
    assert "Filled in as at" not in words(page)
    assert re.search(r'name="unknown_customer" value="issue" checked', page.text)


@pytest.mark.parametrize(
    ("rule", "fits"),
    [
        (StampRule(), True),
        (StampRule(kind="by_amount", amount=EUROS), True),
        (StampRule(kind="by_amount", amount=Money(500, "USD")), False),
        (StampRule(minimum=Money(500, "USD")), False),
        (StampRule(kind="per_item", products=frozenset({"10"})), False),
    ],
)
def test_a_rule_that_means_something_else_at_another_till_is_not_taken(rule: StampRule, fits: bool) -> None:
    assert (like_rule(rule, ACCOUNT) is not None) == fits


def test_what_only_one_till_knows_is_left_out_of_its_rule() -> None:
    windows = (Multiplier(times=2), Multiplier(times=3, locations=frozenset({"2"})))
    like = like_rule(StampRule(multipliers=windows, gift_products=frozenset({"10"})), ACCOUNT)
    assert like == StampRule(multipliers=windows[:1])


async def test_the_key_one_signed_in_with_is_taken_and_can_be_changed(
    installation: Installation, browsers: Browsers
) -> None:
    owner = await browsers.new().sign_in()
    draft = await draft_of_another_till(installation, owner)
    assert (await owner.get(f"{draft}/key")).headers["location"] == f"{draft}/where"
    page = html.unescape((await owner.get(f"{draft}/key")).text)
    assert "With the key you signed in with" in page
    assert "With another key of the same business" in page
    await owner.post(f"{draft}/where", location="1")
    assert f'href="{draft}/key"' in (await owner.get(f"{draft}/rule")).text


async def test_a_key_that_7stamp_refuses_meanwhile_is_not_taken(installation: Installation, browsers: Browsers) -> None:
    owner = await browsers.new().sign_in()
    draft = await draft_of_another_till(installation, owner)
    installation.sevenstamp.revoked.add(KEY)
    page = await owner.get(f"{draft}/key")
    assert page.status_code == 422
    assert "7stamp" in words(page)
    assert (await owner.get(draft)).headers["location"] == f"{draft}/key"


async def test_a_rule_of_some_days_is_compared_over_the_last_week_whatever_day_it_is(
    installation: Installation, browsers: Browsers
) -> None:
    installation.till.two_weeks([ANNA])
    await installation.connect()
    since = (datetime.now(ZoneInfo("Europe/Kyiv")) - timedelta(days=14)).date()
    await installation.host.services.sync.backfill(installation.connection.id, since.isoformat(), _ignore)
    zone = ZoneInfo("Europe/Kyiv")
    week = span_of(Period.week, datetime.now(zone).date())
    sales = await installation.host.services.sync.receipts_of_days(installation.connection, week)
    closed = [
        sale.closed_at.astimezone(zone)
        for sale in sales
        if sale.customer and sale.closed_at and sale.status is SaleStatus.closed
    ]
    # the day that is furthest from the newest twenty receipts, which are all that is shown one by one
    day = (datetime.now(zone) - timedelta(days=4)).weekday()
    extra = sum(at.weekday() == day for at in closed)
    assert extra > 0
    browser, page = await browsers.new().sign_in(), f"/connections/{installation.connection.id}"
    values = rule_values(StampRule(multipliers=(Multiplier(times=2, days=frozenset({day})),)))
    body = urlencode({"proof": await browser.csrf_token(), **values}, doseq=True)
    headers = {"content-type": "application/x-www-form-urlencoded"}
    shown = words(await browser.client.post(f"{page}/preview", content=body, headers=headers))
    number = len(closed)
    assert f": {number} → {number + extra} stamps" in shown
    assert f"{number} receipts with a customer: what they earned by the rule in force" in shown
    assert "counted as if it had begun" not in shown
    # a promotion that begins later shows what it will give: of two days to come, on their weekdays only
    to_come = datetime.now(zone).date() + timedelta(days=7 - (datetime.now(zone).weekday() - day))
    promotion = Multiplier(times=3, first_day=to_come, last_day=to_come)
    body = urlencode(
        {"proof": await browser.csrf_token(), **rule_values(StampRule(multipliers=(promotion,)))}, doseq=True
    )
    shown = words(await browser.client.post(f"{page}/preview", content=body, headers=headers))
    assert f": {number} → {number + 2 * extra} stamps" in shown
    assert "counted as if it had begun" in shown
    # it is told with its days, and not drawn as if it went on for ever
    assert "When there are more stamps 3 times as many stamps" in shown
    assert "all day ×3" not in shown
    # nothing is compared while the rule in force is the chosen one
    assert "by the rule in force" not in words(await browser.get(f"{page}/rule"))


async def _ignore(_progress: object) -> None:
    """Nobody looks."""

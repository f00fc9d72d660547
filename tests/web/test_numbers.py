"""An owner's numbers: a day, a week or a month against the one before, and the same for a spreadsheet."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import text

from connector_sdk.connector import Location, TillAccount
from connector_sdk.loyalty import CardIssued, RewardIssued
from connectors.domain.clock import DAY, micros, moment
from connectors.domain.numbers import MOST_DAYS, Counts, Period, QuarterHour, chosen_span, numbers_of, span_of
from connectors.store import connections, inbox, queries
from connectors.store.engine import Transaction
from connectors.store.inbox.loyalty_events import NewEvent
from tests.installation import ANNA, Installation, build
from tests.web.browser import Browser, open_browsers
from tests.web.clock import MovableClock
from tests.web.test_voucher_at_a_till import words

CLOCK = MovableClock()
KYIV = ZoneInfo("Europe/Kyiv")
FRIDAY = date(2026, 11, 27)
ACCOUNT = TillAccount(
    id="1",
    name="Cafe",
    currency="EUR",
    zone="Europe/Rome",
    locations=(Location(id="1", name="Bar"), Location(id="2", name="Kathmandu", zone="Asia/Kathmandu")),
)


WEEK = span_of(Period.week, FRIDAY)


def closed(day: str, time: str, receipts: int = 1, *, customer: bool = True, location: str = "1") -> QuarterHour:
    return QuarterHour(
        day, micros(datetime.fromisoformat(f"{day}T{time}").replace(tzinfo=UTC)), location, customer, receipts
    )


def test_each_period_is_compared_with_as_many_days_before_it() -> None:
    assert span_of(Period.day, FRIDAY)[1:] == (("2026-11-27",), ("2026-11-20",))
    for span, number in ((span_of(Period.week, FRIDAY), 7), (span_of(Period.month, FRIDAY), 30)):
        # whole days only, in one row, none twice
        expected = [(FRIDAY - timedelta(days=ago)).isoformat() for ago in range(2 * number, 0, -1)]
        assert [*span.before, *span.days] == expected
    chosen = chosen_span(date(2026, 2, 27), date(2026, 3, 2))
    assert chosen.days == ("2026-02-27", "2026-02-28", "2026-03-01", "2026-03-02")
    assert chosen.before == ("2026-02-23", "2026-02-24", "2026-02-25", "2026-02-26")
    assert len(chosen_span(FRIDAY - timedelta(days=91), FRIDAY).days) == MOST_DAYS
    for first in (FRIDAY + timedelta(days=1), FRIDAY - timedelta(days=92)):
        with pytest.raises(ValueError, match="days"):
            chosen_span(first, FRIDAY)


def test_receipts_stamps_and_vouchers_are_added_up_for_the_period_and_the_one_before() -> None:
    receipts = [
        closed("2026-11-26", "09:00", 3),
        closed("2026-11-26", "09:15", 2, customer=False),
        closed("2026-11-15", "09:00", 4),
        closed("2026-11-27", "09:00", 100),  # today is not over yet
    ]
    totals = {
        "2026-11-26": Counts(stamps=7, vouchers=1),
        "2026-11-15": Counts(stamps=2, vouchers=0),
        "2026-11-27": Counts(stamps=1, vouchers=1),
    }
    numbers = numbers_of(WEEK, receipts, totals, ACCOUNT)
    assert numbers.total == Counts(receipts=5, with_customer=3, stamps=7, vouchers=1)
    assert (numbers.total.share_with_customer, numbers.total.without_customer) == (60, 2)
    assert numbers.before == Counts(receipts=4, with_customer=4, stamps=2)
    assert [day for day, counts in numbers.by_day.items() if counts.receipts] == ["2026-11-26"]


def test_hours_are_those_of_each_venues_clock() -> None:
    receipts = [
        closed("2026-11-26", "08:30", 4),  # 9.30 in Rome, on a Thursday
        closed("2026-11-26", "18:15", 1, location="2"),  # midnight in Kathmandu, on a Friday
    ]
    numbers = numbers_of(WEEK, receipts, {}, ACCOUNT)
    drawn = {
        (weekday, hour.hour): (hour.receipts, hour.shade)
        for weekday, hours in enumerate(numbers.heat)
        for hour in hours
        if hour.receipts
    }
    assert drawn == {(3, 9): (4, 4), (4, 0): (1, 1)}
    busiest = numbers.busiest(3)
    assert busiest is not None
    assert busiest.hour == 9
    assert numbers.busiest(0) is None
    assert numbers.hours == range(11)  # from midnight to the hour after ten
    assert numbers.most_in_an_hour == 4
    assert list(numbers.by_location) == ["1", "2"]


@pytest.fixture
async def sold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    """A till that sold two receipts yesterday, one of them to nobody."""
    monkeypatch.setattr(CLOCK, "ahead", 0)
    async with build(tmp_path, monkeypatch, time=CLOCK) as installation:
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA))
        installation.cafe.sell(0)
        await installation.sync()
        CLOCK.ahead = DAY
        yield installation


@pytest.fixture
async def browser(sold: Installation) -> AsyncIterator[Browser]:
    async with open_browsers(sold) as browsers:
        yield await browsers.new().sign_in()


async def test_the_page_says_what_to_tell_the_cashier_and_opens_the_receipts_of_a_day(
    sold: Installation, browser: Browser
) -> None:
    address = f"/connections/{sold.connection.id}"
    page = await browser.get(f"{address}/numbers")
    shown = words(page)
    assert "1 receipt had no customer attached, and gave no stamps." in shown
    assert "With a customer 50 %" in shown
    assert "no receipt to compare with" in shown
    (day,) = {
        line.replace("&amp;", "&")
        for line in page.text.split('"')
        if line.startswith(f"{address}/receipts?kind=paid") and line.endswith(f"day={yesterday(sold)}")
    }
    assert len(re.findall(r'<span class="quiet">\d{6}</span></a>', (await browser.get(day)).text)) == 2


async def test_new_cards_and_rewards_are_shown_once_7stamp_tells_of_cards(sold: Installation, browser: Browser) -> None:
    address, business_id = f"/connections/{sold.connection.id}/numbers", sold.connection.business_id
    assert "New cards" not in words(await browser.get(address))
    at = moment(sold.host.store.clock.now() - DAY)
    events = [
        CardIssued(id="msg_1", at=at, business_id=business_id),
        RewardIssued(id="msg_2", at=at, business_id=business_id),
        CardIssued(id="msg_3", at=at, business_id=business_id),
    ]

    def tell(tx: Transaction) -> None:
        connections.loyalty_sources.get_or_make(tx, business_id)
        connections.loyalty_sources.record_event(tx, {business_id})
        inbox.card_totals.count(tx, [NewEvent(business_id, event.id, event, b"") for event in events])

    await sold.host.store.write(tell)
    shown = words(await browser.get(f"{address}?period=month"))
    assert "New cards 2" in shown
    assert "Rewards earned 1" in shown
    rows = list(csv.DictReader(io.StringIO((await browser.get(f"{address}.csv?period=month")).text)))
    assert (rows[-1]["new_cards"], rows[-1]["rewards"]) == ("2", "1")


async def test_each_day_is_drawn_beside_the_same_day_before(sold: Installation, browser: Browser) -> None:
    address = f"/connections/{sold.connection.id}/numbers"
    week = (await browser.get(address)).text
    assert [week.count(f'<rect class="{of}"') for of in ("first", "second")] == [7, 7]
    assert 'class="legend"' not in week  # there was nothing the week before
    heights = re.findall(r'<rect class="second" x="[\d.]+" y="[\d.]+" width="32" height="([\d.]+)"', week)
    assert [float(height) > 0 for height in heights] == [False] * 6 + [True]  # of yesterday, which is the last
    month = (await browser.get(f"{address}?period=month")).text
    assert [month.count(f'<rect class="{of}"') for of in ("first", "second")] == [30, 30]
    assert '<svg class="chart"' not in (await browser.get(f"{address}?period=day")).text


def yesterday(installation: Installation) -> str:
    zone = installation.host.store.clock.now() - DAY
    return datetime.fromtimestamp(zone / 1e6, UTC).astimezone(KYIV).date().isoformat()


async def test_the_days_are_saved_for_a_spreadsheet(sold: Installation, browser: Browser) -> None:
    answer = await browser.get(f"/connections/{sold.connection.id}/numbers.csv?period=month")
    rows = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert len(rows) == 30
    assert rows[-1] == {
        "day": yesterday(sold),
        "receipts": "2",
        "with_customer": "1",
        "without_customer": "1",
        "stamps": "1",
        "vouchers_used": "0",
        "stamps_taken_back": "0",
        "new_cards": "0",
        "rewards": "0",
        "taken": "55.00",
        "taken_with_customer": "27.50",
        "currency": "UAH",
    }


async def test_money_is_told_less_refunds_with_what_a_guest_with_a_card_spends(
    sold: Installation, browser: Browser
) -> None:
    sold.cafe.sell(sold.cafe.client(ANNA), paid=9000)
    gone = sold.cafe.sell(0, paid=7000)
    sold.cafe.refund(gone)
    await sold.sync()
    address = f"/connections/{sold.connection.id}/numbers"
    # those of yesterday and of today in one: the clock is a day ahead of the till's
    shown = words(await browser.get(f"{address}?from={yesterday(sold)}&until={yesterday(sold)}"))
    assert "Takings UAH 145" in shown
    assert "Average receipt UAH 48.33 UAH 58.75 with a customer, UAH 27.50 without" in shown


async def test_amounts_no_receipt_has_and_other_currencies_are_left_out_of_the_sum(
    sold: Installation, browser: Browser
) -> None:
    def make_odd(tx: Transaction) -> None:
        for receipt, column in zip(
            sorted(sold.cafe.receipts), ("paid = 900000000000000", "currency = 'EUR'"), strict=True
        ):
            tx.run(text(f"UPDATE sale SET {column} WHERE receipt_id = '{receipt}'"))

    await sold.host.store.write(make_odd)
    assert "Takings UAH 0" in words(await browser.get(f"/connections/{sold.connection.id}/numbers"))


async def test_days_can_be_chosen_and_odd_ones_are_told_what_is_wrong(sold: Installation, browser: Browser) -> None:
    address, day = f"/connections/{sold.connection.id}/numbers", yesterday(sold)
    page = await browser.get(f"{address}?from={day}&until={day}")
    assert f"numbers.csv?from={day}&amp;until={day}" in page.text
    assert "Receipts 2" in words(page)
    rows = list(
        csv.DictReader(io.StringIO((await browser.get(f"{address}.csv?from=2026-01-01&until=2026-03-31")).text))
    )
    assert (len(rows), rows[0]["day"], rows[-1]["day"]) == (90, "2026-01-01", "2026-03-31")
    for odd in ("from=&until=2026-11-01", "from=x&until=y", "from=2026-13-01&until=2026-11-01"):
        assert "Say the first day and the last" in words(await browser.get(f"{address}?{odd}"))
    for odd in ("2026-11-02&until=2026-11-01", "2020-01-01&until=2026-11-01", "0001-01-01&until=0001-01-02"):
        answer = await browser.get(f"{address}?from={odd}")
        assert answer.status_code == 200
        assert "Choose at most 92 days" in words(answer)
    # up to today, whatever is said
    assert "Choose" not in words(await browser.get(f"{address}?from={day}&until=9999-12-31"))


async def test_stamps_that_were_taken_back_are_told_and_lead_to_their_receipts(
    sold: Installation, browser: Browser
) -> None:
    address = f"/connections/{sold.connection.id}"
    assert "taken back" not in (await browser.get(f"{address}/numbers")).text
    receipt = min(sold.cafe.receipts)  # the one with a customer
    sold.cafe.refund(receipt)
    await sold.sync()
    assert sold.applied("stamps_reversed")
    page = await browser.get(f"{address}/numbers?period=month")
    assert "after 1 was taken back" in words(page)
    [link] = set(re.findall(rf'href="({address}/receipts\?kind=refunded[^"]*)"', page.text))
    assert str(receipt) in words(await browser.get(link.replace("&amp;", "&")))
    rows = list(csv.DictReader(io.StringIO((await browser.get(f"{address}/numbers.csv?period=month")).text)))
    assert (rows[-1]["stamps"], rows[-1]["stamps_taken_back"]) == ("0", "1")


async def test_whole_days_are_counted_once_in_some_minutes_and_today_each_time(
    sold: Installation, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[str] = []
    count = queries.numbers.quarter_hours

    def counting(tx: Transaction, connection_id: str, first: str, last: str, currency: str) -> list[QuarterHour]:
        counted.append(last)
        return count(tx, connection_id, first, last, currency)

    monkeypatch.setattr(queries.numbers, "quarter_hours", counting)
    address = f"/connections/{sold.connection.id}/numbers"
    for _ in range(2):
        for period in ("day", "week", "month"):
            await browser.get(f"{address}?period={period}")
    assert len(counted) == 2 + 1 + 1
    # the next day is counted anew
    CLOCK.ahead += DAY
    await browser.sign_in()
    await browser.get(f"{address}?period=week")
    assert len(counted) == 5


async def test_a_till_without_receipts_says_so_and_another_period_is_a_week(
    sold: Installation, browser: Browser
) -> None:
    address = f"/connections/{sold.connection.id}/numbers"
    assert "No receipts in these days yet." in words(await browser.get(f"{address}?period=day"))
    assert "The 7 days before today" in words(await browser.get(f"{address}?period=year"))

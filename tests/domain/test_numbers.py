"""The numbers of an owner's page: days, sums, shares, hours of the week, and how they compare."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from connector_sdk.connector import Location, TillAccount
from connectors.domain.clock import micros
from connectors.domain.numbers import (
    MOST_DAYS,
    Counts,
    Numbers,
    Period,
    QuarterHour,
    Span,
    chosen_span,
    compared,
    numbers_of,
    span_of,
)

MONDAY = date(2026, 11, 23)
ACCOUNT = TillAccount(
    id="a",
    name="Cafe",
    currency="UAH",
    zone="Europe/Kyiv",
    country="UA",
    locations=(Location(id="1", name="Kyiv"), Location(id="2", name="Lisbon", zone="Europe/Lisbon")),
)


def quarter(
    day: str, hour: int, receipts: int, *, place: str | None = None, customer: bool = False, taken: int = 0
) -> QuarterHour:
    at = micros(datetime.fromisoformat(day).replace(hour=hour, tzinfo=UTC))
    return QuarterHour(day, at, place, customer, receipts, taken)


def test_a_day_is_compared_with_the_same_day_a_week_before() -> None:
    assert span_of(Period.day, MONDAY) == Span(Period.day, ("2026-11-23",), ("2026-11-16",))


@pytest.mark.parametrize(("period", "length"), [(Period.week, 7), (Period.month, 30)])
def test_a_week_and_a_month_are_the_days_before_today_and_as_many_before(period: Period, length: int) -> None:
    span = span_of(period, MONDAY)
    assert (len(span.days), len(span.before)) == (length, length)
    assert span.days[-1] == "2026-11-22"
    days = [date.fromisoformat(day) for day in (*span.before, *span.days)]
    assert days == [date.fromordinal(MONDAY.toordinal() - ago) for ago in range(2 * length, 0, -1)]


def test_chosen_days_are_compared_with_as_many_before_them() -> None:
    assert chosen_span(MONDAY, MONDAY) == Span(Period.chosen, ("2026-11-23",), ("2026-11-22",))
    span = chosen_span(date(2026, 11, 21), MONDAY)
    assert span.days == ("2026-11-21", "2026-11-22", "2026-11-23")
    assert span.before == ("2026-11-18", "2026-11-19", "2026-11-20")
    longest = chosen_span(date.fromordinal(MONDAY.toordinal() - MOST_DAYS + 1), MONDAY)
    assert len(longest.days) == MOST_DAYS
    with pytest.raises(ValueError, match="93 days"):
        chosen_span(date.fromordinal(MONDAY.toordinal() - MOST_DAYS), MONDAY)
    with pytest.raises(ValueError, match="0 days"):
        chosen_span(MONDAY, date(2026, 11, 22))


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (5, 0, "nothing to compare with"),
        (0, 0, "nothing to compare with"),
        (100, 100, "the same as before"),
        (1004, 1000, "the same as before"),
        (996, 1000, "the same as before"),
        (1006, 1000, "{percent} % above {before}"),
        (994, 1000, "{percent} % below {before}"),
    ],
)
def test_a_number_is_told_against_the_one_before(now: int, before: int, words: str) -> None:
    assert compared(now, before, "x").id == words


def test_how_much_more_or_less_is_a_part_of_what_was_before() -> None:
    assert compared(150, 100, "one hundred").params == {"percent": 50, "before": "one hundred"}
    assert compared(25, 100, "one hundred").params == {"percent": 75, "before": "one hundred"}
    assert compared(0, 3, "3").params == {"percent": 100, "before": "3"}


def test_averages_and_shares_are_of_what_was_counted() -> None:
    counts = Counts(receipts=3, with_customer=2, taken=1000, taken_with_customer=900)
    assert (counts.average, counts.average_with_customer, counts.average_without_customer) == (333, 450, 100)
    assert (counts.without_customer, counts.share_with_customer) == (1, 67)
    nothing = Counts()
    assert (nothing.average, nothing.average_with_customer, nothing.average_without_customer) == (None, None, None)
    assert nothing.share_with_customer is None


@pytest.mark.parametrize(("with_customer", "few"), [(0, True), (69, True), (70, False), (100, False)])
def test_fewer_than_seventy_of_a_hundred_receipts_with_a_customer_are_few(with_customer: int, few: bool) -> None:
    assert Counts(receipts=100, with_customer=with_customer).has_few_customers is few
    assert Counts().has_few_customers is False


def test_counts_are_added_each_to_its_like() -> None:
    one = Counts(1, 2, 3, 4, 5, 6, 7, 8, 9)
    ten = Counts(10, 20, 30, 40, 50, 60, 70, 80, 90)
    assert one + ten == Counts(11, 22, 33, 44, 55, 66, 77, 88, 99)


def of_week(*receipts: QuarterHour, **given: Counts) -> Numbers:
    return numbers_of(span_of(Period.week, MONDAY), receipts, given, ACCOUNT)


def test_days_without_anything_are_counted_as_nothing_and_others_by_what_was_read() -> None:
    numbers = numbers_of(
        span_of(Period.week, MONDAY),
        [
            quarter("2026-11-22", 9, 2, customer=True, taken=700),
            quarter("2026-11-22", 10, 1, taken=50),
            quarter("2026-11-15", 9, 4, taken=1),
            quarter("2026-11-01", 9, 8),  # of neither
        ],
        {"2026-11-22": Counts(stamps=3, vouchers=1), "2026-11-20": Counts(taken_back=2)},
        ACCOUNT,
        cards_are_told=True,
    )
    assert list(numbers.by_day) == [f"2026-11-{day}" for day in range(16, 23)]
    assert numbers.by_day["2026-11-22"] == Counts(
        receipts=3, with_customer=2, stamps=3, vouchers=1, taken=750, taken_with_customer=700
    )
    assert numbers.total == numbers.by_day["2026-11-22"] + Counts(taken_back=2)
    assert numbers.before == Counts(receipts=4, taken=1)
    assert (numbers.period, numbers.cards_are_told, of_week().cards_are_told) == (Period.week, True, False)


def test_locations_stand_by_their_receipts_of_these_days() -> None:
    numbers = of_week(
        quarter("2026-11-22", 9, 1, place="1"),
        quarter("2026-11-22", 9, 2, place="2", taken=5),
        quarter("2026-11-21", 9, 3, place="2", customer=True, taken=6),
        quarter("2026-11-21", 9, 9),
        quarter("2026-11-15", 9, 9, place="1"),
    )
    assert list(numbers.by_location) == ["2", "1"]
    assert numbers.by_location["2"] == Counts(5, 3, taken=11, taken_with_customer=6)
    assert numbers.by_location["1"] == Counts(1)


def test_hours_of_the_week_are_each_venues_own() -> None:
    numbers = of_week(
        quarter("2026-11-22", 22, 1, place="1"),  # Monday 00:00 in Kyiv
        quarter("2026-11-22", 22, 4, place="2"),  # Sunday 22:00 in Lisbon
        quarter("2026-11-20", 9, 1),  # Friday 11:00, by the account's zone
        quarter("2026-11-20", 9, 2, customer=True),
        quarter("2026-11-15", 9, 99),  # the week before
    )
    used = {
        (day, hour.hour): (hour.receipts, hour.shade)
        for day, hours in enumerate(numbers.heat)
        for hour in hours
        if hour.receipts
    }
    # the darkest has the most, and one receipt is never drawn as none
    assert used == {(0, 0): (1, 1), (6, 22): (4, 4), (4, 11): (3, 3)}
    assert [[hour.hour for hour in hours] for hours in numbers.heat] == [list(range(24))] * 7
    assert numbers.most_in_an_hour == 4
    assert numbers.hours == range(24)
    busiest = [numbers.busiest(day) for day in range(7)]
    assert [hour.hour if hour else None for hour in busiest] == [0, None, None, None, 11, None, 22]


def test_one_receipt_beside_hundreds_is_drawn_lightest_and_not_as_none() -> None:
    numbers = of_week(quarter("2026-11-20", 9, 500), quarter("2026-11-20", 10, 1), quarter("2026-11-20", 12, 126))
    friday = numbers.heat[4]
    assert [(friday[hour].receipts, friday[hour].shade) for hour in (11, 12, 13, 14)] == [
        (500, 4), (1, 1), (0, 0), (126, 2)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hours", "shown"),
    [((), range(24)), ((9, 12), range(10, 16)), ((22,), range(2)), ((21,), range(22, 24)), ((0,), range(1, 4))],
)
def test_hours_are_shown_from_the_first_with_a_receipt_to_the_last_and_one_more_on_either_side(
    hours: tuple[int, ...], shown: range
) -> None:
    numbers = of_week(*(quarter("2026-11-20", hour, 1) for hour in hours))  # two hours later in Kyiv
    assert numbers.hours == shown


def test_nothing_at_all_is_no_hour_and_no_location() -> None:
    numbers = of_week()
    assert (numbers.most_in_an_hour, numbers.by_location, numbers.total) == (0, {}, Counts())
    assert {hour.shade for hours in numbers.heat for hour in hours} == {0}

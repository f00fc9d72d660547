"""The numbers an owner looks at: a day, a week or a month against the one before, by hour of the week and by location.

Owns the arithmetic, as pure functions; the counts are read by `connectors.store.queries.numbers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from enum import StrEnum
from typing import NamedTuple
from zoneinfo import ZoneInfo

from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connectors.domain.clock import moment

MOST_DAYS = 92
"""Days that somebody may choose: three months."""
_SHADES = 4
_FEW_WITH_CUSTOMER = 70
"""Of a hundred receipts: fewer with a customer are few."""


class QuarterHour(NamedTuple):
    """The closed receipts of a quarter of an hour that are alike; `at` is its beginning (UTC microseconds)."""

    day: str
    """The venue's day, as `2026-11-23`."""
    at: int
    location_id: str | None
    with_customer: bool
    receipts: int
    taken: int = 0
    """What was paid for them less what was refunded, in minor units of the account's currency."""


class Period(StrEnum):
    """Which days are counted, and against which."""

    # so far, against the same day of the week before, which is whole
    day = "day"
    # the last seven whole days, against the seven before them
    week = "week"
    # the last thirty whole days, against the thirty before them
    month = "month"
    # days that somebody chose, against as many before them
    chosen = "chosen"


class Span(NamedTuple):
    """Days that are counted, and those that they are compared with: as many, oldest first (`2026-11-23`)."""

    period: Period
    days: tuple[str, ...]
    before: tuple[str, ...]


def span_of(period: Period, today: date) -> Span:
    """Return the days of a period that goes by today: not of one that somebody chose."""
    if period is Period.day:
        return Span(period, (today.isoformat(),), ((today - timedelta(days=7)).isoformat(),))
    length = 7 if period is Period.week else 30
    return Span(period, _days_before(today, length), _days_before(today - timedelta(days=length), length))


def chosen_span(first: date, last: date) -> Span:
    """Return the days from one to another, both included. Raises `ValueError` for none, and for too many."""
    length = (last - first).days + 1
    if not 0 < length <= MOST_DAYS:
        raise ValueError(f"{length} days")
    return Span(Period.chosen, _days_before(last + timedelta(days=1), length), _days_before(first, length))


def _days_before(day: date, number: int) -> tuple[str, ...]:
    return tuple((day - timedelta(days=ago)).isoformat() for ago in range(number, 0, -1))


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted on some days; `stamps` are those on cards less those `taken_back`.

    `taken` is money, less what was refunded, in minor units of the account's currency. `new_cards` and `rewards` are
    those of the whole business, of whichever till or of none.
    """

    receipts: int = 0
    with_customer: int = 0
    stamps: int = 0
    vouchers: int = 0
    taken_back: int = 0
    new_cards: int = 0
    rewards: int = 0
    taken: int = 0
    taken_with_customer: int = 0

    @property
    def average(self) -> int | None:
        """What a receipt brought on average; `None` where there was none."""
        return _average(self.taken, self.receipts)

    @property
    def average_with_customer(self) -> int | None:
        """What a receipt with a customer brought on average."""
        return _average(self.taken_with_customer, self.with_customer)

    @property
    def average_without_customer(self) -> int | None:
        """What a receipt on which nobody was attached brought on average."""
        return _average(self.taken - self.taken_with_customer, self.without_customer)

    @property
    def without_customer(self) -> int:
        """Receipts on which nobody was attached: they gave no stamps."""
        return self.receipts - self.with_customer

    @property
    def share_with_customer(self) -> int | None:
        """Of a hundred receipts, those with a customer; `None` where there was no receipt."""
        return round(100 * self.with_customer / self.receipts) if self.receipts else None

    @property
    def has_few_customers(self) -> bool:
        """Whether so few receipts have a customer that the owner is told how a cashier attaches one."""
        share = self.share_with_customer
        return share is not None and share < _FEW_WITH_CUSTOMER

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.receipts + other.receipts,
            self.with_customer + other.with_customer,
            self.stamps + other.stamps,
            self.vouchers + other.vouchers,
            self.taken_back + other.taken_back,
            self.new_cards + other.new_cards,
            self.rewards + other.rewards,
            self.taken + other.taken,
            self.taken_with_customer + other.taken_with_customer,
        )


def _average(sum_of_all: int, number: int) -> int | None:
    return round(sum_of_all / number) if number else None


def compared(now: int, before: int, written: str) -> Message:
    """Word how a number of a period compares with that of the one before, `written` as its reader writes numbers."""
    if not before:
        return Message("nothing to compare with")
    percent = round(100 * (now - before) / before)
    if percent == 0:
        return Message("the same as before")
    params = {"percent": abs(percent), "before": written}
    if percent > 0:
        return Message("{percent} % above {before}", params)
    return Message("{percent} % below {before}", params)


@dataclass(frozen=True, slots=True)
class HourOfWeek:
    """How many receipts were closed in an hour of the week, and how dark it is drawn, from 0 to 4."""

    hour: int
    receipts: int
    shade: int


@dataclass(frozen=True, slots=True)
class Numbers:
    """What a page of numbers shows."""

    span: Span
    by_day: Mapping[str, Counts]
    """The days that are counted, oldest first."""
    by_day_before: Mapping[str, Counts]
    """The days that they are compared with, oldest first: as many."""
    heat: Sequence[Sequence[HourOfWeek]]
    """For each weekday from Monday its 24 hours, on the venue's clock."""
    by_location: Mapping[str, Counts]
    """Location id to what was counted there, the most receipts first."""
    cards_are_told: bool
    """Whether 7stamp tells of cards: where it does not, none are counted."""

    @property
    def period(self) -> Period:
        """Which days are counted."""
        return self.span.period

    @property
    def total(self) -> Counts:
        """What was counted on all of the days."""
        return sum(self.by_day.values(), Counts())

    @property
    def before(self) -> Counts:
        """What was counted on all of the days before."""
        return sum(self.by_day_before.values(), Counts())

    @property
    def hours(self) -> range:
        """The hours of a day from the first that has a receipt on any weekday to the last, one more on either side."""
        used = [hour.hour for weekday in self.heat for hour in weekday if hour.receipts]
        return range(max(0, min(used) - 1), min(24, max(used) + 2)) if used else range(24)

    @property
    def most_in_an_hour(self) -> int:
        """The receipts of the hour of the week that has the most: it is drawn darkest."""
        return max((hour.receipts for weekday in self.heat for hour in weekday), default=0)

    def busiest(self, weekday: int) -> HourOfWeek | None:
        """Return the hour of a weekday with the most receipts; `None` where it has none."""
        hour = max(self.heat[weekday], key=lambda hour: hour.receipts)
        return hour if hour.receipts else None


def numbers_of(
    span: Span,
    receipts: Sequence[QuarterHour],
    given: Mapping[str, Counts],
    account: TillAccount,
    *,
    cards_are_told: bool = False,
) -> Numbers:
    """Add up what was read for some days and those before; `given` are the stamps, vouchers and cards of each day."""
    days = _by_day(receipts, given)
    by_day = {day: days.get(day, Counts()) for day in span.days}
    counted = [quarter for quarter in receipts if quarter.day in by_day]
    return Numbers(
        span,
        by_day,
        {day: days.get(day, Counts()) for day in span.before},
        heat=_heat(counted, account),
        by_location=_by_location(counted),
        cards_are_told=cards_are_told,
    )


def _by_day(receipts: Sequence[QuarterHour], given: Mapping[str, Counts]) -> dict[str, Counts]:
    days = dict(given)
    for quarter in receipts:
        days[quarter.day] = days.get(quarter.day, Counts()) + _counts_of(quarter)
    return days


def _counts_of(quarter: QuarterHour) -> Counts:
    has = quarter.with_customer
    return Counts(
        receipts=quarter.receipts,
        with_customer=quarter.receipts if has else 0,
        taken=quarter.taken,
        taken_with_customer=quarter.taken if has else 0,
    )


def _by_location(receipts: Sequence[QuarterHour]) -> dict[str, Counts]:
    places: dict[str, Counts] = {}
    for quarter in receipts:
        if quarter.location_id is not None:
            places[quarter.location_id] = places.get(quarter.location_id, Counts()) + _counts_of(quarter)
    return dict(sorted(places.items(), key=lambda place: -place[1].receipts))


def _heat(receipts: Sequence[QuarterHour], account: TillAccount) -> list[list[HourOfWeek]]:
    locations = {quarter.location_id for quarter in receipts}
    zones = {location: ZoneInfo(account.zone_of(location)) for location in locations}
    hours = Counter[tuple[int, int]]()
    for quarter in receipts:
        local = moment(quarter.at).astimezone(zones[quarter.location_id])
        hours[local.weekday(), local.hour] += quarter.receipts
    most = max(hours.values(), default=0)
    return [[_hour(hour, hours[weekday, hour], most) for hour in range(24)] for weekday in range(7)]


def _hour(hour: int, receipts: int, most: int) -> HourOfWeek:
    # rounded up: an hour with one receipt is not drawn as one with none
    return HourOfWeek(hour, receipts, -(-receipts * _SHADES // most) if most else 0)

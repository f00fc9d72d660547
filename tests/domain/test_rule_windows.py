"""Windows of a rule's multipliers: what they cover, where they overlap, and which never apply."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import Multiplier, StampRule
from connector_sdk.sale import Sale, SaleStatus
from connectors.domain.rule_windows import WindowOfDay, covers, in_week, overlaps, why_never
from connectors.domain.stamps import stamps_for

TUESDAY = frozenset({1})
MONDAY_MIDNIGHT = datetime(2026, 11, 23)

times = st.builds(time, st.integers(0, 23), st.integers(0, 59))
windows = st.builds(
    Multiplier, times=st.integers(2, 10), days=st.frozensets(st.integers(0, 6), min_size=1), start=times, end=times
)


@given(windows, st.integers(0, 7 * 24 * 60 - 1))
def test_a_window_covers_what_its_picture_of_the_week_shows(window: Multiplier, minute: int) -> None:
    closed = MONDAY_MIDNIGHT + timedelta(minutes=minute)
    of_day = closed.hour * 60 + closed.minute
    shown = any(part.weekday == closed.weekday() and part.start <= of_day < part.end for part in in_week(window))
    assert covers(window, closed, None) == shown


@given(windows, windows)
def test_two_windows_overlap_where_both_cover_a_receipt(one: Multiplier, other: Multiplier) -> None:
    found = list(overlaps([one, other]))
    for minute in range(0, 7 * 24 * 60, 7):
        closed = MONDAY_MIDNIGHT + timedelta(minutes=minute)
        of_day = closed.hour * 60 + closed.minute
        both = covers(one, closed, None) and covers(other, closed, None)
        assert both == any(lap.weekday == closed.weekday() and lap.start <= of_day < lap.end for lap in found)


def test_a_window_is_bound_to_its_first_and_last_day_and_ends_after_midnight_of_the_last() -> None:
    night = Multiplier(times=2, start=time(22), end=time(2), first_day=date(2026, 12, 1), last_day=date(2026, 12, 24))
    covered = [datetime(2026, 12, 1, 22), datetime(2026, 12, 24, 23), datetime(2026, 12, 25, 1, 59)]
    # the night of the 30th had begun before the first day
    uncovered = [datetime(2026, 12, 1, 1), datetime(2026, 12, 25, 2), datetime(2026, 12, 25, 22)]
    assert [covers(night, moment, None) for moment in covered + uncovered] == [True] * 3 + [False] * 3


def test_a_window_of_some_locations_covers_no_other_and_none_that_is_unknown() -> None:
    window = Multiplier(times=2, locations=frozenset({"1"}))
    noon = datetime(2026, 12, 1, 12)
    assert [covers(window, noon, location) for location in ("1", "2", None)] == [True, False, False]


def test_windows_at_different_locations_or_in_different_weeks_do_not_overlap() -> None:
    here, there = (Multiplier(times=2, locations=frozenset({location})) for location in "12")
    november, december = (
        Multiplier(times=3, first_day=date(2026, month, 1), last_day=date(2026, month, 28)) for month in (11, 12)
    )
    assert list(overlaps([here, there])) == list(overlaps([november, december])) == []
    assert len(list(overlaps([here, december]))) == 7


def test_windows_that_touch_do_not_overlap_and_a_pair_apart_hides_no_other() -> None:
    morning = Multiplier(times=2, days=TUESDAY, start=time(8), end=time(12))
    noon = Multiplier(times=3, days=TUESDAY, start=time(12), end=time(14))
    late = Multiplier(times=4, days=TUESDAY, start=time(13), end=time(15))
    assert list(overlaps([morning, noon])) == []
    elsewhere = morning.model_copy(update={"locations": frozenset({"1"})})
    there = noon.model_copy(update={"locations": frozenset({"2"})})
    assert list(overlaps([elsewhere, there, late])) == [WindowOfDay(1, 13 * 60, 14 * 60, 4)]
    both = late.model_copy(update={"locations": frozenset({"1", "2"})})
    assert list(overlaps([there, both])) == [WindowOfDay(1, 13 * 60, 14 * 60, 4)]


def test_windows_that_share_one_day_of_the_year_overlap() -> None:
    ending, beginning = (
        Multiplier(times=times, **{bound: date(2026, 12, 1)}) for times, bound in ((2, "last_day"), (3, "first_day"))
    )
    assert len(list(overlaps([ending, beginning]))) == 7


def test_of_an_overlap_the_larger_counts() -> None:
    morning = Multiplier(times=2, days=TUESDAY, start=time(8), end=time(12))
    noon = Multiplier(times=3, days=TUESDAY, start=time(11), end=time(14))
    assert list(overlaps([morning, noon])) == [WindowOfDay(1, 11 * 60, 12 * 60, 3)]


@pytest.mark.parametrize(
    ("window", "scope", "why"),
    [
        (Multiplier(times=2, days=TUESDAY), (), None),
        (Multiplier(times=2, last_day=date(2026, 11, 23)), (), None),
        (Multiplier(times=2, last_day=date(2026, 11, 22)), (), "ended on {day}"),
        (Multiplier(times=2, locations=frozenset("1")), ("1", "2"), None),
        (Multiplier(times=2, locations=frozenset("1")), ("2",), "none of its locations is connected"),
        (Multiplier(times=2, locations=frozenset("1")), (), None),
        (
            Multiplier(times=2, days=TUESDAY, first_day=date(2026, 11, 25), last_day=date(2026, 11, 30)),
            (),
            "none of its days is between {first} and {last}",
        ),
        (Multiplier(times=2, days=TUESDAY, first_day=date(2026, 11, 25), last_day=date(2026, 12, 1)), (), None),
    ],
)
def test_a_window_that_never_applies_says_why(window: Multiplier, scope: tuple[str, ...], why: str | None) -> None:
    reason = why_never(window, MONDAY_MIDNIGHT.date(), scope)
    assert (reason.id if isinstance(reason, Message) else None) == why
    if reason is not None:
        days = {"day": window.last_day, "first": window.first_day, "last": window.last_day}
        assert reason.params == {name: day for name, day in days.items() if f"{{{name}}}" in reason.id}


def test_a_window_does_not_end_before_its_first_day() -> None:
    with pytest.raises(ValidationError, match="last_day: a window ends on its first day or later"):
        Multiplier(times=2, first_day=date(2026, 12, 2), last_day=date(2026, 12, 1))


def test_a_window_is_stored_as_a_host_of_the_version_before_reads_it() -> None:
    assert set(Multiplier(times=2).model_dump(mode="json")) == {"times", "days", "start", "end"}


def test_a_sale_at_another_location_earns_no_more_stamps() -> None:
    rule = StampRule(multipliers=(Multiplier(times=2, locations=frozenset({"1"})),))
    sale = Sale(
        receipt_id="1",
        status=SaleStatus.closed,
        closed_at=MONDAY_MIDNIGHT.replace(tzinfo=UTC),
        paid=Money(500, "EUR"),
        refunded=Money.zero("EUR"),
    )
    earned = [
        stamps_for(sale.model_copy(update={"location_id": location}), rule, "UTC").stamps for location in ("1", "2")
    ]
    assert earned == [2, 1]

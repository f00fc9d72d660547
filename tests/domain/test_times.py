"""Pauses, renewals and quiet hours, as pure arithmetic on moments."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from connectors.domain.clock import DAY, HOUR, MINUTE, SECOND, micros
from connectors.domain.quiet_hours import QuietHours
from connectors.domain.renewal import RenewalTimes, failure_pause, last_resort, plan_renewal, trouble_after
from connectors.domain.retry_pauses import hint_pause, poll_pause, recheck_pause, search_pause


@pytest.mark.parametrize(
    ("poll_seconds", "failures", "hooks_arrive", "seconds"),
    [
        (None, 0, False, 60),
        (None, 0, True, 900),
        (10, 0, True, 10),
        (10, 1, False, 20),
        (10, 3, False, 80),
        (10, 6, False, 640),
        (10, 9, False, 640),
        (None, 6, False, 3600),
        (900, 2, False, 3600),
        (7200, 0, False, 7200),
        (7200, 5, False, 7200),
    ],
)
def test_a_till_that_fails_is_polled_half_as_often_each_time_up_to_an_hour(
    poll_seconds: int | None, failures: int, hooks_arrive: bool, seconds: int
) -> None:
    assert poll_pause(poll_seconds, failures, DAY, hooks_arrive=hooks_arrive) == seconds * SECOND


def test_a_till_that_was_asked_often_in_a_short_trouble_rests_no_longer_than_that_lasted() -> None:
    assert poll_pause(10, 6, 90 * SECOND, hooks_arrive=False) == 90 * SECOND
    assert poll_pause(10, 1, 90 * SECOND, hooks_arrive=False) == 20 * SECOND
    assert poll_pause(10, 6, -HOUR, hooks_arrive=False) == 10 * SECOND
    assert poll_pause(7200, 6, 90 * SECOND, hooks_arrive=False) == 7200 * SECOND


def test_a_card_is_looked_for_again_after_growing_pauses_no_longer_than_it_has_been_wanted() -> None:
    assert [search_pause(attempts, DAY) // SECOND for attempts in range(12)] == [
        5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600
    ]  # fmt: skip
    assert search_pause(6, SECOND) == 5 * SECOND
    assert search_pause(6, 90 * SECOND) == 90 * SECOND
    assert search_pause(6, -HOUR) == 5 * SECOND


def test_a_connection_that_was_refused_is_tried_after_as_long_as_that_has_been() -> None:
    tried = [recheck_pause(for_) for for_ in (0, 5 * MINUTE, 5 * MINUTE + 1, DAY, DAY + 1)]
    assert tried == [5 * MINUTE, 5 * MINUTE, 5 * MINUTE + 1, DAY, DAY]


def test_a_hint_is_followed_within_seconds_and_hourly_in_the_end() -> None:
    assert [hint_pause(attempts) // SECOND for attempts in range(9)] == [2, 5, 15, 60, 300, 900, 3600, 3600, 3600]


@pytest.mark.parametrize(
    ("expires_at", "renewable", "spread", "times"),
    [
        (None, True, 0.5, RenewalTimes(None, None)),
        (None, False, 0.5, RenewalTimes(None, None)),
        (100 + 40 * DAY, False, 0.5, RenewalTimes(None, 100 + 30 * DAY)),
        (100 + 40 * DAY + 3, False, 0.5, RenewalTimes(None, 103 + 30 * DAY)),
        (100 + 40 * DAY, True, 0.0, RenewalTimes(100 + 8 * DAY, None)),
        (100 + 40 * DAY, True, 1.0, RenewalTimes(100 + 95 * DAY // 10, None)),
        (100 + 40 * DAY, True, 0.2, RenewalTimes(100 + 83 * DAY // 10, None)),
        (100 + MINUTE, True, 1.0, RenewalTimes(100 + MINUTE, None)),
        (0, True, 0.0, RenewalTimes(100 + MINUTE, None)),
        (0, False, 0.0, RenewalTimes(None, 0)),
    ],
)
def test_a_grant_is_renewed_in_its_first_quarter_or_its_end_is_told_in_the_last(
    expires_at: int | None, renewable: bool, spread: float, times: RenewalTimes
) -> None:
    assert plan_renewal(100, expires_at, renewable=renewable, spread=spread) == times


def test_a_renewal_of_which_nobody_knows_the_outcome_is_tried_just_before_the_grant_ends() -> None:
    assert last_resort(100, 100 + DAY) == 100 + DAY - DAY // 50
    assert last_resort(100, 100 + 2 * HOUR) == 100 + 2 * HOUR - 10 * MINUTE
    assert last_resort(100, 100 + 10 * MINUTE) == 100
    assert last_resort(100, 101) == 100
    assert last_resort(0, DAY + 49) == DAY + 49 - DAY // 50


def test_renewals_that_fail_wait_longer_each_time_and_the_cafe_hears_of_it_within_a_day() -> None:
    assert [failure_pause(failures) // MINUTE for failures in range(1, 8)] == [1, 5, 15, 60, 240, 240, 240]
    assert [trouble_after(0, at) for at in (None, 8 * HOUR, 4 * DAY, 5 * DAY, -5)] == [DAY, 2 * HOUR, DAY, DAY, 0]
    assert trouble_after(100, 100 + 8 * HOUR + 3) == 2 * HOUR


def at(hour: int, minute: int = 0, *, day: int = 24, month: int = 11, second: int = 0) -> int:
    return micros(datetime(2026, month, day, hour, minute, second, tzinfo=UTC))


@pytest.mark.parametrize(
    ("begin", "end", "now", "until"),
    [
        (13 * 60, 15 * 60, at(12, 59, second=59), None),
        (13 * 60, 15 * 60, at(13), at(15)),
        (13 * 60, 15 * 60, at(14, 59, second=59), at(15)),
        (13 * 60, 15 * 60, at(15), None),
        # over midnight
        (22 * 60, 7 * 60 + 30, at(21, 59), None),
        (22 * 60, 7 * 60 + 30, at(22), at(7, 30, day=25)),
        (22 * 60, 7 * 60 + 30, at(0, 5), at(7, 30)),
        (22 * 60, 7 * 60 + 30, at(7, 29), at(7, 30)),
        (22 * 60, 7 * 60 + 30, at(7, 30), None),
        (0, 1, at(0), at(0, 1)),
        (1, 0, at(23, 59), at(0, day=25)),
        (22 * 60 + 30, 7 * 60, at(22, 45), at(7, day=25)),
    ],
)
def test_quiet_hours_end_when_they_say(begin: int, end: int, now: int, until: int | None) -> None:
    assert QuietHours(begin, end).until(now, "UTC") == until


def test_quiet_hours_are_on_the_venues_clock_also_where_that_is_changed() -> None:
    night = QuietHours(22 * 60, 7 * 60)
    assert night.until(at(21), "Europe/Kyiv") == at(5, day=25)
    # an hour that comes twice is over when it is over the second time, one that is jumped over an hour later
    changing = QuietHours(60, 3 * 60 + 30)
    assert changing.until(at(23, 30, day=24, month=10), "Europe/Kyiv") == at(1, 30, day=25, month=10)
    assert changing.until(at(0, day=29, month=3), "Europe/Kyiv") == at(1, 30, day=29, month=3)


@pytest.mark.parametrize(("begin", "end"), [(0, 0), (60, 60), (-1, 60), (60, 1440), (1440, 60), (60, -1)])
def test_quiet_hours_have_two_different_times_of_a_day(begin: int, end: int) -> None:
    with pytest.raises(ValueError, match="quiet hours have two different times of a day"):
        QuietHours(begin, end)

"""What a 7stamp plan still allows, and when 7stamp is asked about it again."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from connectors.domain.clock import DAY, HOUR, MINUTE, micros
from connectors.domain.plan import Plan, local_day, next_check, start_of_next_month


def plan(used: int, allowed: int | None, until: int = 400 * DAY) -> Plan:
    return Plan(used, allowed, until, 0)


@pytest.mark.parametrize(
    ("used", "allowed", "is_near", "is_used_up"),
    [
        (79, 100, False, False),
        (80, 100, True, False),
        (99, 100, True, False),
        (100, 100, True, True),
        (101, 100, True, True),
        (10**9, None, False, False),
        (0, 0, True, True),
    ],
)
def test_four_fifths_are_near_and_all_is_used_up(
    used: int, allowed: int | None, is_near: bool, is_used_up: bool
) -> None:
    assert (plan(used, allowed).is_near, plan(used, allowed).is_used_up) == (is_near, is_used_up)


@pytest.mark.parametrize(
    ("asked", "paused", "pause"),
    [
        (None, False, 15 * MINUTE),
        (plan(0, 100), True, 15 * MINUTE),
        (plan(49, 100), False, DAY),
        (plan(50, 100), False, HOUR),
        (plan(10**9, None), False, DAY),
        (plan(0, 100, until=7), False, 7),
        (plan(0, 100, until=7), True, 15 * MINUTE),
    ],
)
def test_the_fuller_a_plan_the_sooner_it_is_looked_at(asked: Plan | None, paused: bool, pause: int) -> None:
    begin = 0 if asked is not None and asked.until == 7 else 5
    assert next_check(asked, begin, paused=paused) == begin + pause


@pytest.mark.parametrize(
    ("now", "zone", "begins"),
    [
        (datetime(2026, 11, 23, 12, tzinfo=UTC), "Europe/Kyiv", datetime(2026, 11, 30, 22, tzinfo=UTC)),
        (datetime(2026, 11, 30, 21, 59, tzinfo=UTC), "Europe/Kyiv", datetime(2026, 11, 30, 22, tzinfo=UTC)),
        (datetime(2026, 11, 30, 22, tzinfo=UTC), "Europe/Kyiv", datetime(2026, 12, 31, 22, tzinfo=UTC)),
        (datetime(2026, 12, 31, 23, tzinfo=UTC), "UTC", datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2027, 1, 31, 5, 6, 7, 8, tzinfo=UTC), "nowhere/at-all", datetime(2027, 2, 1, tzinfo=UTC)),
        (datetime(2027, 10, 2, tzinfo=UTC), "Europe/Kyiv", datetime(2027, 10, 31, 22, tzinfo=UTC)),
    ],
)
def test_a_month_begins_at_the_venues_midnight(now: datetime, zone: str, begins: datetime) -> None:
    assert start_of_next_month(micros(now), zone) == micros(begins)


def test_a_day_is_the_venues_and_of_no_zone_that_is_known_greenwichs() -> None:
    late = micros(datetime(2026, 11, 23, 22, 30, tzinfo=UTC))
    assert local_day(late, "Europe/Kyiv") == date(2026, 11, 24)
    assert local_day(late, "") == date(2026, 11, 23)
    assert local_day(late, "../etc/passwd") == date(2026, 11, 23)

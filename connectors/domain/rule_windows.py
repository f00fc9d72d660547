"""The windows of a rule's multipliers: which receipts they cover, where two overlap, and why one never applies.

Owns the arithmetic of days and hours, as pure functions on the venue's clock; what a sale earns is `stamps`'.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import combinations, product

from connector_sdk.messages import Message
from connector_sdk.rule import Multiplier

MINUTES_A_DAY = 24 * 60
_WEEK = 7


@dataclass(frozen=True, slots=True)
class WindowOfDay:
    """The part of a window that lies within one day: minutes from midnight, the end not included."""

    weekday: int
    """0 is Monday."""
    start: int
    end: int
    times: int


def covers(window: Multiplier, closed: datetime, location_id: str | None) -> bool:
    """Say whether a window holds a receipt that was closed at a local time at a location."""
    if window.locations and location_id not in window.locations:
        return False
    return any(day.weekday() in window.days and _is_between(window, day) for day in _possible_days(window, closed))


def _possible_days(window: Multiplier, closed: datetime) -> Iterator[date]:
    """Yield the days on which the window would have begun that holds this time of the day."""
    now, today = closed.time().replace(tzinfo=None), closed.date()
    if window.start < window.end:
        if window.start <= now < window.end:
            yield today
        return
    # it goes on after midnight, and its days are those on which it begins
    if now >= window.start:
        yield today
    if now < window.end:
        yield today - timedelta(days=1)


def _is_between(window: Multiplier, day: date) -> bool:
    """Say whether a day lies between the window's first and last, both included."""
    return (window.first_day is None or day >= window.first_day) and (window.last_day is None or day <= window.last_day)


def in_week(window: Multiplier) -> list[WindowOfDay]:
    """Return a window as parts of the days of a week, parted at midnight."""
    start, end = (moment.hour * 60 + moment.minute for moment in (window.start, window.end))
    parts: list[WindowOfDay] = []
    for day in sorted(window.days):
        if start < end:
            parts.append(WindowOfDay(day, start, end, window.times))
            continue
        parts.append(WindowOfDay(day, start, MINUTES_A_DAY, window.times))
        if end:
            parts.append(WindowOfDay((day + 1) % _WEEK, 0, end, window.times))
    return sorted(parts, key=lambda part: (part.weekday, part.start, part.end))


def overlaps(windows: Sequence[Multiplier]) -> Iterator[WindowOfDay]:
    """Yield the times of the week at which two windows apply to the same location in the same weeks.

    `times` of each is the larger one's, which counts.
    """
    # the week of a window once, not for every other: a form asks this at every key that is pressed
    for (first, parts), (second, others) in combinations([(window, in_week(window)) for window in windows], 2):
        if not (_share_a_location(first, second) and _share_a_day(first, second)):
            continue
        for part, other in product(parts, others):
            start, end = max(part.start, other.start), min(part.end, other.end)
            if part.weekday == other.weekday and start < end:
                yield WindowOfDay(part.weekday, start, end, max(part.times, other.times))


def _share_a_location(first: Multiplier, second: Multiplier) -> bool:
    return not first.locations or not second.locations or bool(first.locations & second.locations)


def _share_a_day(first: Multiplier, second: Multiplier) -> bool:
    begins = max(first.first_day or date.min, second.first_day or date.min)
    ends = min(first.last_day or date.max, second.last_day or date.max)
    return begins <= ends


def why_never(window: Multiplier, today: date, scope: Collection[str]) -> Message | None:
    """Say why a window applies to no receipt any more, at the locations of a scope (all, where it is empty)."""
    if window.last_day is not None and window.last_day < today:
        return Message("ended on {day}", {"day": window.last_day})
    if scope and window.locations and not window.locations & set(scope):
        return Message("none of its locations is connected")
    first, last = window.first_day, window.last_day
    if first is not None and last is not None and not weekdays_of(window):
        return Message("none of its days is between {first} and {last}", {"first": first, "last": last})
    return None


def weekdays_of(window: Multiplier) -> frozenset[int]:
    """Return the weekdays on which a window ever begins: not all of its own where its first and last day are near."""
    first, last = window.first_day, window.last_day
    if first is None or last is None:
        return window.days
    length = min((last - first).days + 1, _WEEK)
    return window.days & {(first + timedelta(days=number)).weekday() for number in range(length)}

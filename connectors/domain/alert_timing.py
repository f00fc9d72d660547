"""Alerts: when a cafe is told that a connection needs a person, that it works again, and of its week.

Owns these decisions, as pure functions: one message when trouble has lasted, one at its end, none for what passes; and
one each Monday, where that is wanted.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

from connectors.domain.clock import DAY, MINUTE, micros, moment

PATIENCE = 15 * MINUTE
"""Trouble that ends sooner is not worth a message."""


WEEK_IS_NEWS = 2 * DAY
"""A message about a week that could not go out for so long is not sent any more: the next one comes soon."""
_MONDAY, _MORNING = 0, time(9)


def next_monday(now: int, zone: str) -> int:
    """Return the next Monday at nine in the morning on a venue's clock, as of a moment (both in UTC microseconds)."""
    local = moment(now).astimezone(ZoneInfo(zone))
    day = local.date() + timedelta(days=(_MONDAY - local.weekday()) % 7)
    at = micros(datetime.combine(day, _MORNING, local.tzinfo))
    return at if at > now else micros(datetime.combine(day + timedelta(days=7), _MORNING, local.tzinfo))


@dataclass(frozen=True, slots=True)
class AlertState:
    """Since when there is trouble, and when the cafe was told of it (UTC microseconds)."""

    since: int | None
    told_at: int | None


@dataclass(frozen=True, slots=True)
class AlertStep:
    """The state that follows, and whether the cafe is told now."""

    state: AlertState
    tells: bool


def next_step(state: AlertState, *, trouble: bool, now: int) -> AlertStep:
    """Decide what follows from whether there is trouble now."""
    if not trouble:
        # the end is told where the trouble was
        return AlertStep(AlertState(None, None), tells=state.told_at is not None)
    # trouble begins in silence: most of it is a till that was restarted
    if state.since is None:
        return AlertStep(AlertState(now, None), tells=False)
    if state.told_at is None and state.since <= now - PATIENCE:
        return AlertStep(AlertState(state.since, now), tells=True)
    return AlertStep(state, tells=False)

"""Renewal of a till's consent: when a grant is renewed, how long a failure waits, and from when the cafe is told.

Owns the times, as pure functions; what a grant holds is `connector_sdk.authorisation`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from connectors.domain.clock import DAY, HOUR, MINUTE

LEASE = 2 * MINUTE
"""How long one renewal may take, at the outside: whoever began it and died is taken over from afterwards."""
CALL_SECONDS = 45.0
"""How long a till may take over one renewal; well within the lease, so that two are never under way."""

# the longest is a quarter of what a till with daily tokens leaves after the first attempt
_PAUSES = (MINUTE, 5 * MINUTE, 15 * MINUTE, HOUR, 4 * HOUR)
_EARLIEST, _LATEST = 0.8, 0.95


@dataclass(frozen=True, slots=True)
class RenewalTimes:
    """When a grant is renewed, and from when on the cafe is told that it ends (UTC microseconds; `None` for never)."""

    renew_at: int | None
    trouble_at: int | None


def plan_renewal(issued_at: int, expires_at: int | None, *, renewable: bool, spread: float) -> RenewalTimes:
    """Plan by a grant's lifetime: renewed after a quarter of it; where that is impossible, told in its last quarter.

    `spread`, from 0 to 1, moves a renewal to an earlier moment within the last fifth of that quarter, so that a
    thousand cafes that consented on one day do not renew at one moment.
    """
    if expires_at is None:
        return RenewalTimes(None, None)
    quarter = max(0, expires_at - issued_at) // 4
    if not renewable:
        return RenewalTimes(None, expires_at - quarter)
    # a minute at least: a lifetime of seconds must not be renewed without end
    pause = max(MINUTE, int(quarter * (_EARLIEST + (_LATEST - _EARLIEST) * spread)))
    return RenewalTimes(issued_at + pause, None)


def last_resort(issued_at: int, expires_at: int) -> int:
    """Return when a renewal whose outcome nobody knows is tried once more: just before the grant ends.

    A till may end all access where a refresh token that is good once comes a second time, so that nothing else of the
    grant's time is risked for it; then nothing is left to lose.
    """
    return max(issued_at, expires_at - max(10 * MINUTE, (expires_at - issued_at) // 50))


def failure_pause(failures: int) -> int:
    """Return the microseconds until a renewal that failed so many times is tried again."""
    return _PAUSES[min(failures, len(_PAUSES)) - 1]


def trouble_after(issued_at: int, expires_at: int | None) -> int:
    """Return for how long renewals may fail, in microseconds, before the cafe is told: never longer than a day."""
    quarter = max(0, expires_at - issued_at) // 4 if expires_at is not None else DAY
    return min(DAY, quarter)

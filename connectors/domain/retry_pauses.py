"""Pauses: how long until a till, a receipt or a card is asked again.

Owns the numbers, as pure functions; whoever waits adds a spread, so that many do not ask at once.
"""

from __future__ import annotations

from connectors.domain.clock import DAY, HOUR, MINUTE, SECOND

POLL_WITHOUT_HOOKS = 60
"""Seconds between polls of a till that tells nothing by itself."""
POLL_WITH_HOOKS = 900
"""Seconds between polls of a till that tells of its sales itself: the poll only finds what a hook missed."""
HOOKS_ARRIVE_FOR = 24 * HOUR
"""Hooks count as arriving while the last one is no older than this."""
LOOKBACK_EVERY = HOUR
"""Between look-backs, in microseconds as all that follows."""
LOOKBACK_ENDS_WITHIN = 15 * MINUTE
"""A look-back that nobody ended in this time is made again: its host died, or its database was away."""
LOOKBACK_AFTER_START = 30 * SECOND
"""A host of an embedded database makes look-backs that the last one may have died in within this time of its start."""
FAILURES_UNTIL_FAILING = 3
"""So many reads in a row must fail before a connection is said to fail: a till may be restarted."""
YOUNG_FOR = HOUR
"""So long somebody may still wait for a connection's first receipt, and polls may be asked for more often."""
SOON = 5 * SECOND
"""Between two polls of a young connection whose first receipt somebody waits for."""
RECHECK = 10 * SECOND
"""A till that changed something at its side is asked at once, but no more often than this."""
HINT_ENDS_AFTER = 3 * DAY
"""A hint whose receipt never shows anything newer ends after this, with a line in the journal."""
FORMER_ADDRESS_LIVES = 24 * HOUR
"""A hook address that was renewed is still answered for this long."""

# most tills show a receipt within seconds of the hook that names it; one that does not is asked hourly in the end
_HINT_PAUSES = (2, 5, 15, 60, 300, 900, 3600)
_LARGEST_BACKOFF = 64
_LONGEST_BACKOFF = HOUR
_SHORTEST_SEARCH_PAUSE = 5 * SECOND
_SHORTEST_RECHECK = 5 * MINUTE


def poll_pause(poll_seconds: int | None, failures: int, failing_for: int, *, hooks_arrive: bool) -> int:
    """Return the microseconds until the next poll: twice as long after each failure, up to an hour.

    `failing_for` is since the last read that went well (microseconds). A till that fails is left alone for no longer
    than that: somebody who asks for ten reads within a minute must not have it rest for an hour.
    """
    pause = (poll_seconds or (POLL_WITH_HOOKS if hooks_arrive else POLL_WITHOUT_HOOKS)) * SECOND
    backoff: int = min(2**failures, _LARGEST_BACKOFF)
    # a till that is polled rarely by choice is not polled more often because it fails: hence the maximum
    return min(pause * backoff, max(pause, min(failing_for, _LONGEST_BACKOFF)))


def search_pause(attempts: int, failing_for: int) -> int:
    """Return the microseconds until a card is looked for again, after so many attempts that 7stamp or a till failed.

    `failing_for` is since the card was first wanted. As `poll_pause` does, it bounds the pause: each new receipt of the
    same customer is an attempt, too.
    """
    pause: int = _SHORTEST_SEARCH_PAUSE * 2 ** min(attempts, 10)
    return min(pause, max(_SHORTEST_SEARCH_PAUSE, min(failing_for, _LONGEST_BACKOFF)))


def recheck_pause(refused_for: int) -> int:
    """Return the microseconds until a connection that was refused is tried again: as long as it has been refused.

    At least five minutes and at most a day.
    """
    return min(max(refused_for, _SHORTEST_RECHECK), DAY)


def hint_pause(attempts: int) -> int:
    """Return the microseconds until a hint is followed again, after so many attempts."""
    return _HINT_PAUSES[min(attempts, len(_HINT_PAUSES) - 1)] * SECOND

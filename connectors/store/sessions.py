"""Sessions of a cluster's members at their database server.

Owns the end of waits that a clock which was put back would keep up: PostgreSQL measures its timeouts, and when it looks
for a deadlock, by the time of the day.
"""

from __future__ import annotations

from sqlalchemy import text

from connectors.store.engine import Transaction

# what began "later than now" began before the clock was put back
_CANCEL_WAITS_OF_BEFORE = text(
    "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() "
    "AND application_name LIKE '7stamp connectors%' AND wait_event_type = 'Lock' AND state_change > clock_timestamp()"
)


def cancel_waits_of_before(tx: Transaction) -> int:
    """Have members give up what waits for a lock since before the clock was put back; return how many do.

    Each tries again by the new time. Of two that wait for each other neither would be told so before the clock has come
    to where it was, and nobody else could write what they have locked.
    """
    return int(tx.run(_CANCEL_WAITS_OF_BEFORE).scalar_one())

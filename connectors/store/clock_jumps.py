"""What a clock that jumped means for times that are stored: what waits goes on waiting as long as it should.

Owns no table: it asks each table's writer. Only times to come, and those by which something on the wire is judged, move
with the clock; what happened stays where it was written down.
"""

from __future__ import annotations

from connectors.store import call_rates
from connectors.store.connections import schedule
from connectors.store.engine import Transaction
from connectors.store.inbox import hints, loyalty_events
from connectors.store.ledger import card_searches, operations, voucher_requests
from connectors.store.relay import deliveries, subscriptions


def shift(tx: Transaction, before: int, jump: int) -> None:
    """Move times by `jump` microseconds: the clock read `before`, and reads `before + jump` now.

    For a database that one process writes.
    """
    shift_times_to_come(tx, _first_moved(before, jump), jump)
    _shift_what_was_sent(tx, jump)


def shift_for_others(tx: Transaction, before: int, jump: int) -> None:
    """Do of the same what is safe while other members of a cluster go by the former time for a moment.

    A request that is on the wire must not seem older than it is, to nobody, for its absence from a history would count
    too soon. So when it was sent moves forward only; where the clock was put back, `correct_future` does the rest.
    """
    if jump > 0:
        # What is to come is not moved: it comes sooner, which does no harm. To a member that stood still for an hour
        # it looks as if the clock had been put forward, and it must not have everybody wait for an hour.
        _shift_what_was_sent(tx, jump)
    else:
        shift_times_to_come(tx, _first_moved(before, jump), jump)


def correct_future(tx: Transaction) -> None:
    """Take what was sent in the future, by a clock that was put back since, as sent now: it was sent earlier.

    For when every process goes by the present time: one that did not would take it for an hour old.
    """
    operations.correct_future(tx)
    voucher_requests.correct_future(tx)


def _first_moved(before: int, jump: int) -> int:
    # put back, what was due a moment ago would lie in the future: it moves, too
    return min(before, before + jump)


def shift_times_to_come(tx: Transaction, after: int, jump: int) -> None:
    """Move the times to come that lie after a moment: those that somebody set by the former time."""
    for writer in (
        operations, voucher_requests, schedule, hints, card_searches, loyalty_events, deliveries, subscriptions,
        call_rates,
    ):  # fmt: skip
        writer.shift_times(tx, after, jump)


def _shift_what_was_sent(tx: Transaction, jump: int) -> None:
    operations.shift_sent(tx, jump)
    voucher_requests.shift_sent(tx, jump)

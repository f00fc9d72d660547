"""What a clock that jumped means for times that are stored: what waits goes on waiting as long as it should.

Owns no table: it asks each table's writer. Only times to come, and those by which something on the wire is judged, move
with the clock; what happened stays where it was written down.
"""

from __future__ import annotations

from connectors.store.connections import schedule
from connectors.store.engine import Transaction
from connectors.store.inbox import hints, loyalty_events
from connectors.store.ledger import card_searches, operations, voucher_requests


def shift(tx: Transaction, before: int, jump: int) -> None:
    """Move times to come by `jump` microseconds: the clock read `before`, and reads `before + jump` now."""
    # put back, what was due a moment ago would lie in the future: it moves, too
    before = min(before, before + jump)
    # a request that is on the wire was sent as long ago as before: its absence must not count sooner
    operations.shift_times(tx, before, jump)
    schedule.shift_times(tx, before, jump)
    hints.shift_times(tx, before, jump)
    card_searches.shift_times(tx, before, jump)
    loyalty_events.shift_times(tx, before, jump)
    voucher_requests.shift_times(tx, before, jump)

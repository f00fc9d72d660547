"""Retention: deletes what is kept too long, in transactions so small that no sale waits for them.

Owns how much is deleted at once and in one round; when there is a round is the host's, and each table is swept by the
store module that owns it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from connectors.domain.clock import DAY
from connectors.store import call_rates, console_items, inbox, ledger, relay
from connectors.store.engine import Store, Transaction
from connectors.store.inbox.loyalty_events import Stage

ROWS_AT_ONCE = 500
SALES_AT_ONCE = 100
"""Each is read, stripped of its customer and encrypted anew: as long as some five rows that are only deleted."""
TURNS = 50
"""Transactions of a kind in one round; what is left waits for the next."""

UNKNOWN_EVENTS_FOR = 7 * DAY
"""Events of cards that the ledger does not know are kept so long: somebody may ask about them."""

_Sweep = Callable[[Transaction], int]
"""Deletes a bounded number of rows, and returns how many."""


@dataclass(frozen=True, slots=True)
class SweptRows:
    """How many rows a round deleted (of sales: stripped of their customers), and whether something is left."""

    bodies: int
    lines: int
    sales: int
    customers: int
    samples: int
    events: int
    unfinished: bool


@dataclass(frozen=True, slots=True)
class _Deleted:
    """How many rows of one kind a round deleted, and whether some of them are left."""

    number: int
    is_unfinished: bool


def _sweep_events(tx: Transaction, before: int, *stages: Stage) -> int:
    return inbox.loyalty_events.sweep(tx, before, ROWS_AT_ONCE, stages)


class Retention:
    """Deletes bodies that could not be read, lines of the journal, customers of old sales, old samples and events."""

    def __init__(self, store: Store, *, bodies_days: int, journal_days: int) -> None:
        self._store = store
        self._bodies_for = bodies_days * DAY
        self._journal_for = journal_days * DAY

    async def round(self) -> SweptRows:
        """Delete what is kept too long, as much of it as fits in a round."""
        now = self._store.clock.now()
        bodies_since, journal_since = now - self._bodies_for, now - self._journal_for
        bodies = await self._sweep(lambda tx: inbox.unreadable.sweep(tx, bodies_since, ROWS_AT_ONCE))
        lines = await self._sweep(lambda tx: ledger.journal.sweep(tx, journal_since, ROWS_AT_ONCE))
        sales = await self._sweep(lambda tx: ledger.retention.sweep_sales(tx, journal_since, SALES_AT_ONCE))
        customers = await self._sweep(lambda tx: ledger.cards.sweep(tx, journal_since, ROWS_AT_ONCE))
        samples = await self._sweep(lambda tx: inbox.captured.sweep_samples(tx, journal_since, ROWS_AT_ONCE))
        events = [
            await self._sweep(lambda tx: _sweep_events(tx, now - UNKNOWN_EVENTS_FOR, Stage.unknown)),
            await self._sweep(lambda tx: _sweep_events(tx, bodies_since, Stage.done, Stage.unreadable)),
            await self._sweep(lambda tx: ledger.voucher_states.sweep(tx, journal_since, ROWS_AT_ONCE)),
            await self._sweep(lambda tx: ledger.voucher_requests.sweep(tx, journal_since, ROWS_AT_ONCE)),
            await self._sweep(lambda tx: ledger.claims.sweep(tx, journal_since, ROWS_AT_ONCE)),
            await self._sweep(lambda tx: relay.deliveries.sweep(tx, bodies_since, ROWS_AT_ONCE)),
        ]
        await self._sweep(lambda tx: console_items.sweep(tx, ROWS_AT_ONCE))
        await self._sweep(lambda tx: call_rates.sweep(tx, now - DAY, ROWS_AT_ONCE))
        return SweptRows(
            bodies=bodies.number,
            lines=lines.number,
            sales=sales.number,
            customers=customers.number,
            samples=samples.number,
            events=sum(kind.number for kind in events),
            unfinished=any(kind.is_unfinished for kind in (bodies, lines, sales, customers, samples, *events)),
        )

    async def _sweep(self, sweep: _Sweep) -> _Deleted:
        """Delete rows of one kind, transaction by transaction, until nothing is left or the round has had its turns."""
        # Each transaction queues anew, behind whatever waits to be written: a sale never waits for more than one of
        # them. One that deletes less than it might is no proof of the end, for a sweep has several tables: 0 is.
        total = 0
        for _ in range(TURNS):
            number = await self._store.write(sweep)
            total += number
            if not number:
                return _Deleted(total, is_unfinished=False)
        return _Deleted(total, is_unfinished=True)

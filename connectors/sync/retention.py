"""What is kept too long is deleted, in transactions so small that no sale waits for them.

Owns how much is deleted at once and in one round; when there is a round is the host's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from connectors.domain.clock import DAY
from connectors.store import inbox, ledger
from connectors.store.engine import Store, Transaction

ROWS_AT_ONCE = 500
SALES_AT_ONCE = 100
"""Each is read, stripped of its customer and encrypted anew: as long as some five rows that are only deleted."""
TURNS = 50
"""Transactions of a kind in one round; what is left waits for the next."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows a round deleted (of sales: stripped of their customers), and whether something is left."""

    bodies: int
    lines: int
    sales: int
    customers: int
    samples: int
    unfinished: bool


class Retention:
    """Deletes bodies that could not be read, lines of the journal, customers of old sales, and old samples."""

    def __init__(self, store: Store, *, bodies_days: int, journal_days: int) -> None:
        self._store = store
        self._bodies_for = bodies_days * DAY
        self._journal_for = journal_days * DAY

    async def round(self) -> Swept:
        """Delete what is kept too long, so much of it as fits in a round."""
        now = self._store.clock.now()
        bodies, journal_since = now - self._bodies_for, now - self._journal_for
        kinds: dict[str, Callable[[Transaction], int]] = {
            "bodies": lambda tx: inbox.unreadable.sweep(tx, bodies, ROWS_AT_ONCE),
            "lines": lambda tx: ledger.journal.sweep(tx, journal_since, ROWS_AT_ONCE),
            "sales": lambda tx: ledger.retention.sweep_sales(tx, journal_since, SALES_AT_ONCE),
            "customers": lambda tx: ledger.cards.sweep(tx, journal_since, ROWS_AT_ONCE),
            "samples": lambda tx: inbox.captured.sweep_samples(tx, journal_since, ROWS_AT_ONCE),
        }
        deleted, unfinished = dict.fromkeys(kinds, 0), False
        for kind, some in kinds.items():
            number, turns = 1, 0
            while number and turns < TURNS:  # each behind whatever waits to be written
                number = await self._store.write(some)
                deleted[kind] += number
                turns += 1
            unfinished = unfinished or bool(number)
        return Swept(**deleted, unfinished=unfinished)

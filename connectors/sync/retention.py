"""What is kept too long is deleted, in transactions so small that no sale waits for them.

Owns how much is deleted at once and that a round goes on until nothing is left; when there is a round is the host's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from connectors.domain.clock import DAY
from connectors.store import captured, cards, journal, retention
from connectors.store.engine import Store, Transaction

ROWS_AT_ONCE = 500
SALES_AT_ONCE = 100
"""Each is read, stripped of its customer and encrypted anew: as long as some five rows that are only deleted."""


@dataclass(frozen=True, slots=True)
class Swept:
    """How many rows a round deleted (of sales: stripped of their customers)."""

    bodies: int
    lines: int
    sales: int
    customers: int
    samples: int


class Retention:
    """Deletes bodies that could not be read, lines of the journal, customers of old sales, and old samples."""

    def __init__(self, store: Store, *, bodies_days: int, journal_days: int) -> None:
        self._store = store
        self._bodies_for = bodies_days * DAY
        self._journal_for = journal_days * DAY

    async def round(self) -> Swept:
        """Delete everything that is kept too long."""
        now = self._store.clock.now()
        bodies, journal_since = now - self._bodies_for, now - self._journal_for
        return Swept(
            bodies=await self._all(lambda tx: journal.sweep_bodies(tx, bodies, ROWS_AT_ONCE)),
            lines=await self._all(lambda tx: journal.sweep_lines(tx, journal_since, ROWS_AT_ONCE)),
            sales=await self._all(lambda tx: retention.sweep_sales(tx, journal_since, SALES_AT_ONCE)),
            customers=await self._all(lambda tx: cards.sweep(tx, journal_since, ROWS_AT_ONCE)),
            samples=await self._all(lambda tx: captured.sweep_samples(tx, journal_since, ROWS_AT_ONCE)),
        )

    async def _all(self, some: Callable[[Transaction], int]) -> int:
        """Delete some at a time, each in a transaction of its own, behind whatever waits to be written."""
        deleted = 0
        while number := await self._store.write(some):
            deleted += number
        return deleted

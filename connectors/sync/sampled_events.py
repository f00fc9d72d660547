"""Sampled events: security events that a stranger causes at will, counted in memory and written once a minute.

Owns the counts and their bound; the rows are `connectors.store.access.security_log`'s.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import NamedTuple

from connectors.store import access
from connectors.store.access.security_log import NewEvent
from connectors.store.engine import Store
from connectors.store.errors import StoreError

log = logging.getLogger(__name__)

_MOST_SORTS = 10_000
"""Sorts of events counted between two flushes."""


class _Sort(NamedTuple):
    """What makes two events the same sort.

    Addresses are no part of it: a stranger has as many as they like.
    """

    kind: str
    owner: str
    connection_id: str | None
    message: str


class SampledEvents:
    """Counts events by kind, owner, connection and message, so that none of them costs a write of its own.

    The first of each sort since the last flush is written, with their number. Beyond a bound, events of a new sort are
    left out until the next flush.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[_Sort, NewEvent] = {}

    def count(self, event: NewEvent) -> None:
        """Count an event (or several: its own `count`)."""
        sort = _Sort(event.kind.value, event.owner, event.connection_id, event.message.stored())
        first = self._counts.get(sort)
        if first is not None:
            self._counts[sort] = replace(first, count=first.count + event.count)
        elif len(self._counts) < _MOST_SORTS:
            self._counts[sort] = event

    async def flush(self) -> None:
        """Write what was counted since the last time; where the database cannot be written, the next flush does."""
        # emptied before the write, for events are counted while it waits
        events, self._counts = list(self._counts.values()), {}
        if not events:
            return
        try:
            await self._store.write(lambda tx: access.security_log.record_all(tx, events))
        except StoreError as error:
            log.error("%d kinds of security events wait to be written: %s", len(events), error)
            for event in events:
                self.count(event)

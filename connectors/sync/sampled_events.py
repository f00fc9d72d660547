"""Security events that a stranger causes at will, counted in memory and written once a minute.

Owns the counts and their bound; the rows are `connectors.store.security`'s.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from connectors.store import access
from connectors.store.access.security_log import NewEvent
from connectors.store.engine import Store
from connectors.store.errors import StoreError

log = logging.getLogger(__name__)

_AT_MOST = 10_000

_Key = tuple[str, str, str | None, str]


class SampledEvents:
    """Counts events by kind, owner, connection and message, so that none of them costs a write of its own.

    Addresses are no part of what is counted apart: a stranger has as many as they like. The first since the last
    flush is written. Beyond a bound, events of a new sort are left out until the next flush.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: dict[_Key, NewEvent] = {}

    def count(self, event: NewEvent) -> None:
        key = (event.kind.value, event.owner, event.connection_id, event.message.stored())
        counted = self._counts.get(key)
        if counted is not None:
            self._counts[key] = replace(counted, count=counted.count + event.count)
        elif len(self._counts) < _AT_MOST:
            self._counts[key] = event

    async def flush(self) -> None:
        """Write what was counted since the last time; where the database cannot be written, the next flush does."""
        events, self._counts = list(self._counts.values()), {}
        if not events:
            return
        try:
            await self._store.write(lambda tx: access.security_log.record_all(tx, events))
        except StoreError as error:
            log.error("%d kinds of security events wait to be written: %s", len(events), error)
            for event in events:
                self.count(event)

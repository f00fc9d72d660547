"""Minute-by-minute maintenance: what a host does beside the sales.

Owns the order and how often each part comes up; what is deleted and sent is decided by the parts themselves.
"""

from __future__ import annotations

import logging
from collections import Counter

from connectors.domain.clock import DAY, HOUR
from connectors.notices import Notices
from connectors.runtime.counter_names import REFUSED
from connectors.store import access, connections, counters
from connectors.store.engine import Store, Transaction
from connectors.sync.retention import Retention
from connectors.sync.sampled_events import SampledEvents

log = logging.getLogger(__name__)


class Maintenance:
    """Counts what was refused, deletes what is kept too long, and sends notices.

    `refused` is how many requests each limit of the server refused since they were last added to the counters.
    """

    def __init__(
        self,
        store: Store,
        retention: Retention,
        notices: Notices,
        security_events: SampledEvents,
        refused: Counter[str],
        *,
        security_log_days: int,
    ) -> None:
        self._store = store
        self._retention = retention
        self._notices = notices
        self._security_events = security_events
        self._security_log_for = security_log_days * DAY
        self._swept_at = 0
        self._refused = refused

    async def run(self) -> None:
        """Do all of it once; a host calls it every minute."""
        # Counts and events first: what is asked about an attack should be there although a mail server hangs.
        await self.write_counts()
        await self._store.write(connections.drafts.sweep)
        await self._sweep_hourly()
        await self._notices.round()

    async def write_counts(self) -> None:
        """Write down what this process has refused, and its security events."""
        await self.count_refused()
        await self._security_events.flush()

    async def _sweep_hourly(self) -> None:
        """Delete what is kept too long: once an hour, and every minute as long as some of it is left."""
        now = self._store.clock.now()
        if now <= self._swept_at + HOUR:
            return
        swept = await self._retention.round()
        self._swept_at = 0 if swept.unfinished else now
        await self._store.write(lambda tx: access.security_log.sweep(tx, self._security_log_for))

    async def count_refused(self) -> None:
        """Add what limits refused to the counters and log it: an attack costs one line and one write a minute."""
        refused = Counter(self._refused)
        if not refused:
            return

        def work(tx: Transaction) -> None:
            for name, count in sorted(refused.items()):
                counters.raise_counter(tx, REFUSED + name, count)

        await self._store.write(work)
        self._refused -= refused  # what was refused meanwhile stays for the next minute
        log.warning("refused: %s", "; ".join(f"{name} ({count} times)" for name, count in sorted(refused.items())))

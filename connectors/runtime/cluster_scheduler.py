"""When work is due, in a cluster: a tick and every commit put what is due into the queue, as jobs.

Owns the schedule of one member. Every host ticks, and the queue collapses what several put; what must happen once a
minute is put by whoever is first.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from connectors.domain.clock import MINUTE
from connectors.domain.events import Wakeup
from connectors.runtime.background import BackgroundParts, ending_quietly
from connectors.runtime.cluster_jobs import ClusterJobs
from connectors.store import counters, queries
from connectors.store.errors import StoreError

log = logging.getLogger(__name__)

_TICK_SECONDS, _MINUTE_SECONDS = 1, 5
_PAUSE_SECONDS = 0.05
_MINUTES = "minutes of the cluster"


class ClusterScheduler:
    """Puts what is due into the queue: at each commit of this process, and by the clock where it `ticks`."""

    def __init__(self, parts: BackgroundParts, jobs: ClusterJobs, *, ticks: bool) -> None:
        self._parts = parts
        self._jobs = jobs
        self._ticks = ticks
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        self._due: set[Wakeup] = set()
        """Kinds that commits made due, and that are not in the queue yet."""
        self._putting: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to put work into the queue, first what became due while nobody looked."""
        self._parts.store.listeners.append(self._wake)
        if self._ticks:
            self._scheduler.add_job(ending_quietly(self.tick), "interval", seconds=_TICK_SECONDS, id="tick")
            self._scheduler.add_job(ending_quietly(self._minute), "interval", seconds=_MINUTE_SECONDS, id="minute")
        # each member's own counts, which nobody else can write down
        self._scheduler.add_job(ending_quietly(self._count), "interval", seconds=60, id="counts")
        self._scheduler.start()
        self._wake(set(Wakeup))

    async def stop(self) -> None:
        """Put nothing more."""
        self._scheduler.shutdown(wait=False)
        self._parts.store.listeners.remove(self._wake)
        if self._putting is not None:
            await asyncio.gather(self._putting, return_exceptions=True)

    async def tick(self) -> None:
        """Put everything that is due."""
        await _unless_unreachable(self._look())

    async def _look(self) -> None:
        self._wake(await self._parts.store.read(queries.due.kinds))

    def _wake(self, wakeups: set[Wakeup], _events: object = ()) -> None:
        """Put the work of these kinds; also a listener of the store."""
        if Wakeup.deliver in wakeups:
            self._parts.deliverer.wake()
        self._due |= wakeups - {Wakeup.journal}
        if self._due and (self._putting is None or self._putting.done()):
            self._putting = asyncio.get_running_loop().create_task(_unless_unreachable(self._put()), name="put jobs")

    async def _put(self) -> None:
        # whatever commits made due meanwhile is put in the next round: a busy member makes few
        while self._due:
            due, self._due = self._due, set()
            await self._jobs.put_due(due)
            # what is due is looked for among all that waits: a busy member does not do so after each commit
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _count(self) -> None:
        await _unless_unreachable(self._parts.counts())

    async def _minute(self) -> None:
        await _unless_unreachable(self._put_minute())

    async def _put_minute(self) -> None:
        store = self._parts.store
        if await store.write(lambda tx: counters.pass_on(tx, _MINUTES, tx.now // MINUTE)):
            await self._jobs.put_of_minute()


async def _unless_unreachable(work: Awaitable[None]) -> None:
    """Do work; a database that cannot be reached is logged, for the next tick does it again."""
    try:
        await work
    except StoreError as error:
        log.warning("nothing could be put into the queue: %s", error)
    except Exception as error:
        log.exception("putting jobs into the queue raised %s", type(error).__name__)

"""Membership: this process as a member of a cluster, that writes down that it lives and takes over those that do not.

Owns the heartbeat and its times; what a take-over means for operations and jobs is the store's.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from importlib.metadata import version

from connectors.domain.clock import SECOND
from connectors.runtime.clock_follower import ClockFollower
from connectors.store import job_queue, members, sessions
from connectors.store.engine import Store
from connectors.store.errors import StoreError
from connectors.store.members import MemberRole

log = logging.getLogger(__name__)

BEATS = 6
"""Heartbeats within the time after which a silent member counts as dead."""


class Membership:
    """One member of a cluster, from `join` to `leave`; `dead_after` is in seconds."""

    def __init__(self, store: Store, dead_after: float) -> None:
        self._store = store
        self._dead_after = dead_after
        self._clock = ClockFollower(store)
        self._beating: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self._role = MemberRole.host
        self._works = False
        self._patient_until = 0.0
        """Until when nobody is taken for dead, in seconds of the event loop's clock."""

    @property
    def silent_for(self) -> int:
        """After how many microseconds of silence a member counts as dead."""
        return int(self._dead_after * SECOND)

    async def join(self, role: MemberRole, *, works: bool) -> None:
        """Become a member, take over from those that died, and write down from time to time that it lives."""
        self._role, self._works = role, works
        # first, and apart from what writes: all that writes may stand behind such a wait
        if self._watching is None:  # joining is tried again where the database is away
            self._watching = asyncio.create_task(self._end_waits_of_before(), name="waits of before")
        await self._enter()
        await self._look_after_others()
        self._be_patient()
        self._beating = asyncio.create_task(self._beat(), name="heartbeat")

    async def leave(self) -> None:
        """Stop being a member; call it when nothing is on the wire any more."""
        tasks = [task for task in (self._beating, self._watching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._beating = self._watching = None
        if self._store.member is None:
            return
        member_id = self._store.member
        with contextlib.suppress(StoreError):  # without the database others take it for dead, which comes to the same
            await self._store.write(lambda tx: members.leave(tx, member_id))

    async def _enter(self) -> None:
        member_id, release = secrets.token_hex(8), version("sevenstamp-connectors")
        await self._store.write(lambda tx: members.join(tx, member_id, self._role, release, works=self._works))
        self._store.member = member_id

    async def _end_waits_of_before(self) -> None:
        """End waits for locks that a clock which was put back would keep up, whether this member saw it or not.

        One that was put forward and back at once is a jump for nobody who had not followed it yet.
        """
        while True:
            try:
                if ended := await self._store.read(sessions.cancel_waits_of_before):
                    log.warning("%d waits for locks, begun before the clock was put back, are given up", ended)
            except StoreError:
                pass  # the heartbeat says that the database is away
            except Exception as error:
                log.exception("the look for waits of before raised %s", type(error).__name__)
            await asyncio.sleep(self._dead_after / BEATS)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._dead_after / BEATS)
            try:
                await self._beat_once()
            except StoreError as error:
                self._be_patient()
                log.warning("the cluster's database cannot be written: %s", error)
            except Exception as error:
                log.exception("a heartbeat raised %s", type(error).__name__)

    async def _beat_once(self) -> None:
        if await self._clock.follow():
            self._be_patient()
        member_id = self._store.member or ""
        if not await self._store.write(lambda tx: members.beat(tx, member_id)):
            # what was on the wire is in doubt now, and is looked up; what comes next has a new sender
            log.warning("this process was silent so long that others took it for dead: it joins anew")
            await self._enter()
        if asyncio.get_running_loop().time() >= self._patient_until:
            # whoever lives has seen the last jump of the clock, if there was one
            await self._clock.make_up(2 * self.silent_for)
            await self._look_after_others()

    def _be_patient(self) -> None:
        """Judge nobody for a while: the database was away, its clock jumped, or we are new; others must beat first."""
        self._patient_until = asyncio.get_running_loop().time() + self._dead_after

    async def _look_after_others(self) -> None:
        """Take over from members that are silent, and give their jobs to others."""
        for member in await self._store.write(lambda tx: members.take_over(tx, self.silent_for)):
            log.warning("a %s of version %s is dead: what it was sending is looked up", member.role, member.version)
        if returned := await self._store.write(lambda tx: job_queue.return_stalled(tx, self._dead_after)):
            log.warning("%d jobs of dead workers are done by others", returned)

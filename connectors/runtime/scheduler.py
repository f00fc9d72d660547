"""When work is due: a tick that asks the database what is, claims it and hands it over.

Owns the schedule (APScheduler); it never waits for the work itself, so one slow till delays no other and ten thousand
connections cost what is due, not what exists.
"""

from __future__ import annotations

import contextlib
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from functools import partial

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from connector_sdk.errors import ConnectorError
from connectors.domain.clock import SECOND
from connectors.domain.connection import Connection
from connectors.domain.events import Wakeup
from connectors.runtime.background import BackgroundParts, Work, ending_quietly
from connectors.runtime.clock_follower import ClockFollower
from connectors.runtime.dispatcher import InProcess
from connectors.runtime.read_places import ReadPlaces
from connectors.store import connections, inbox, ledger, queries
from connectors.store.connections.schedule import DueRead
from connectors.store.host_commands import HostCommand
from connectors.store.inbox.hints import DueHint
from connectors.sync.till_reader import ReadResult

log = logging.getLogger(__name__)

_TICK_SECONDS, _MAINTENANCE_SECONDS, _SUBSCRIPTIONS_SECONDS, _AGREEMENTS_SECONDS = 1, 60, 60, 60
_HINTS_AT_ONCE = 200
_RENEWALS_AT_ONCE = 20
_COUNTED_OF_ONE = 4
_CONNECTIONS_HINTED = 500
"""Connections whose hints are followed at once."""
_HINTS_UNDER_WAY = 200  # of one connection, claimed and not yet followed: the lease of a claim is a minute


class Scheduler:
    """Turns what is due into submitted work; a commit that makes work due turns it at once."""

    def __init__(self, parts: BackgroundParts, dispatcher: InProcess) -> None:
        self._store = parts.store
        self._parts = parts
        self._dispatcher = dispatcher
        # coalesce and no grace time: after a pause of the machine one late run happens, none is skipped in silence
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )
        # Set by whatever makes such work due, cleared by the one task that does it before it looks: work that becomes
        # due while the task looks is not missed, although submitting it again under the same name does nothing.
        self._hints_due = False
        self._identify_due = False
        self._loyalty_due = False
        self._telling_due = False
        self._relay_due = False
        self._hints_under_way: Counter[str] = Counter()
        self._reads = ReadPlaces()
        self._clock = ClockFollower(parts.store)

    def start(self) -> None:
        """Begin to hand over work, first what became due while no host ran."""
        self._store.listeners.append(self._wake)
        self._scheduler.add_job(ending_quietly(self.tick), "interval", seconds=_TICK_SECONDS, id="tick")
        # each is a coroutine: APScheduler runs anything else in a thread, where no task can be made
        self._scheduler.add_job(
            ending_quietly(self._keep_subscribed), "interval", seconds=_SUBSCRIPTIONS_SECONDS, id="subscriptions"
        )
        self._scheduler.add_job(ending_quietly(self._compare), "interval", seconds=_AGREEMENTS_SECONDS, id="agreements")
        self._scheduler.add_job(
            ending_quietly(self._run_maintenance), "interval", seconds=_MAINTENANCE_SECONDS, id="maintenance"
        )
        self._scheduler.start()
        # without waiting for the first tick
        self._wake({Wakeup.poll, Wakeup.hints, Wakeup.identify, Wakeup.deliver, Wakeup.loyalty, Wakeup.relay})
        self._subscribe()

    def stop(self) -> None:
        """Hand over nothing more; what was handed over goes on."""
        self._scheduler.shutdown(wait=False)
        self._store.listeners.remove(self._wake)

    async def tick(self) -> None:
        """Hand over everything that is due."""
        await self._clock.follow()
        # one statement that asks about every kind: with nothing due, an idle host costs one read a second
        kinds = await self._store.read(queries.due.kinds)
        self._wake(kinds)
        if Wakeup.resolve in kinds:
            self._submit("resolve", self._resolve)
        if Wakeup.renew in kinds:
            self._submit("renewals", self._renew)
        if Wakeup.vouchers in kinds:
            self._submit("vouchers", self._look_after_vouchers)

    def _wake(self, wakeups: set[Wakeup], _events: object = ()) -> None:
        """Hand over the work of these kinds; also a listener of the store."""
        if Wakeup.deliver in wakeups:
            self._parts.deliverer.wake()
        if Wakeup.hints in wakeups:
            self._hints_due = True
            self._submit("claim hints", self._claim_hints)
        if Wakeup.gifts in wakeups:
            self._submit("gifts", self._find_gift_vouchers)
        if Wakeup.identify in wakeups:
            self._identify_due = True
            self._submit("identify", self._identify)
        if Wakeup.loyalty in wakeups:
            self._loyalty_due = self._telling_due = True
            self._submit("loyalty effects", self._take_effect)
            # apart: a connector that hangs must not keep events from taking effect
            self._submit("loyalty telling", self._tell)
        if Wakeup.relay in wakeups:
            self._relay_due = True
            self._submit("relay", self._send_to_subscribers)
        if Wakeup.poll in wakeups:
            self._submit("claim polls", self._claim_reads)
        if Wakeup.commands in wakeups:
            self._submit("commands", self._claim_commands)

    def _submit(self, name: str, work: Work) -> None:
        self._dispatcher.submit(name, work)

    # --- reads ------------------------------------------------------------------------------------------------

    async def _claim_reads(self) -> None:
        """Claim polls and look-backs that are due, no more than have a place, and hand them over."""
        # polls first: they bring what is new. A full claim says that more may be due
        while most := self._reads.free():
            polls = await self._store.write(lambda tx, most=most: connections.schedule.lease_polls(tx, most))  # type: ignore[misc]
            for due in polls:
                late = self._store.clock.now() - due.connection.next_poll_at
                self._store.measures.read_late(late / SECOND)
                self._submit(f"poll {due.connection.id}", self._reading(due, self._parts.reader.poll))
            if len(polls) < most:
                break
        if most := self._reads.free():
            again = await self._store.write(lambda tx: connections.schedule.lease_lookbacks(tx, most))
            for due in again:
                self._submit(f"look-back {due.connection.id}", self._reading(due, self._parts.reader.look_back))

    def _reading(self, due: DueRead, read: Callable[[DueRead], Awaitable[ReadResult]]) -> Work:
        async def work() -> None:
            with self._reads.taken():
                await read(due)

        return work

    # --- hints ------------------------------------------------------------------------------------------------

    def hints_under_way(self) -> int:
        """Return how many receipts are being asked for because of hints; of one connection few count.

        A till that hangs with all of its own has others wait for nothing.
        """
        return sum(min(count, _COUNTED_OF_ONE) for count in self._hints_under_way.values())

    async def _claim_hints(self) -> None:
        """Claim hints and hand them over, as long as there are any and not too many under way."""
        self._hints_due = True
        while self._hints_due and len(self._hints_under_way) < _CONNECTIONS_HINTED:
            self._hints_due = False
            busy = [name for name, count in self._hints_under_way.items() if count >= _HINTS_UNDER_WAY]
            claimed = await self._store.write(lambda tx, busy=busy: inbox.hints.lease(tx, _HINTS_AT_ONCE, without=busy))  # type: ignore[misc]
            await self._follow_hints(claimed)
            # a full claim says that there may be more
            self._hints_due = self._hints_due or len(claimed) == _HINTS_AT_ONCE

    async def _follow_hints(self, claimed: Sequence[DueHint]) -> None:
        """Hand over claimed hints, those of each connection as one piece of work."""
        by_connection: dict[str, list[DueHint]] = {}
        for hint in claimed:
            by_connection.setdefault(hint.connection_id, []).append(hint)
        known = await self._store.read(lambda tx: connections.registry.by_ids(tx, list(by_connection)))
        for connection_id, hints in by_connection.items():
            self._hints_under_way[connection_id] += len(hints)
            # each claim is its own piece of work: a connection may have several on their way
            name = f"hints {connection_id} {hints[0].ticket}"
            self._submit(name, self._following(known[connection_id], hints))

    def _following(self, connection: Connection, hints: list[DueHint]) -> Work:
        async def work() -> None:
            try:
                await self._parts.reader.follow_hints(connection, hints)
            finally:
                self._hints_under_way[connection.id] -= len(hints)
                self._hints_under_way += Counter()  # drops those at zero
                # a busy connection was left out of claims: it is not any more
                self._wake({Wakeup.hints})

        return work

    # --- the rest ---------------------------------------------------------------------------------------------

    async def _identify(self) -> None:
        """Look for customers' cards until a round finds nobody to look for, and nobody was added meanwhile."""
        self._identify_due = True
        while self._identify_due:
            self._identify_due = False
            self._identify_due = bool(await self._parts.identifier.round()) or self._identify_due

    async def _take_effect(self) -> None:
        """Let events of 7stamp take effect until none is due, and none arrived meanwhile."""
        self._loyalty_due = True
        while self._loyalty_due:
            self._loyalty_due = False
            self._loyalty_due = bool(await self._parts.loyalty.round()) or self._loyalty_due

    async def _tell(self) -> None:
        """Tell connectors and plugins of events until none is due, and none took effect meanwhile."""
        self._telling_due = True
        while self._telling_due:
            self._telling_due = False
            self._telling_due = bool(await self._parts.loyalty.tell_round()) or self._telling_due

    async def _send_to_subscribers(self) -> None:
        """Hand to subscribers what is due and has a place; what ends makes the next due."""
        self._relay_due = True
        while self._relay_due:
            self._relay_due = False
            await self._parts.relay.round()

    async def _look_after_vouchers(self) -> None:
        """Settle vouchers that are in doubt, and send again what did not reach 7stamp."""
        await self._parts.vouchers.round()

    async def _find_gift_vouchers(self) -> None:
        """Find the vouchers of gifts that were given without a redeem code."""
        await self._parts.gifts.round()

    async def _keep_subscribed(self) -> None:
        self._subscribe()

    def _subscribe(self) -> None:
        """Have 7stamp post the events of every business here, where it is to be told that."""
        self._submit("subscriptions", self._parts.loyalty_subscriber.round)

    async def _compare(self) -> None:
        """Compare the connections whose night has come; each is its own piece of work."""
        for connection in await self._parts.reconciler.due():
            self._submit(f"agreement {connection.id}", partial(self._parts.reconciler.night, connection))

    async def _resolve(self) -> None:
        await self._parts.deliverer.resolve()

    async def _renew(self) -> None:
        """Renew what tills' consents gave, where that is due; each connection is its own piece of work."""
        for connection_id in await self._store.read(lambda tx: connections.renewals.due(tx, _RENEWALS_AT_ONCE)):
            self._submit(f"renewal {connection_id}", self._renewing(connection_id))

    def _renewing(self, connection_id: str) -> Work:
        async def work() -> None:
            with contextlib.suppress(ConnectorError):  # the journal says what went wrong, and the next try is set
                await self._parts.reader.renew(connection_id)

        return work

    async def _claim_commands(self) -> None:
        for command in await self._parts.commands.claim():
            self._submit(f"command {command.id}", self._executing(command))

    def _executing(self, command: HostCommand) -> Work:
        async def work() -> None:
            await self._parts.commands.execute(command)

        return work

    async def _run_maintenance(self) -> None:
        """Expire holds, ask about plans, and run the host's maintenance; a failure is logged."""
        try:
            await self._store.write(ledger.operations.expire_holds)
            # apart: a 7stamp that hangs must not keep alerts and sweeps from their minute
            self._submit("plans", self._parts.deliverer.check_plans)
            self._submit("rechecks", self._parts.rechecker.round)
            await self._parts.maintenance()
        except Exception as error:
            log.exception("maintenance: raised %s; it comes again in a minute", type(error).__name__)

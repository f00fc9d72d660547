"""When work is due: a tick that asks the database what is, claims it and hands it over.

Owns the schedule (APScheduler); it never waits for the work itself, so one slow till delays no other and ten thousand
connections cost what is due, not what exists.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import Protocol

from apscheduler.schedulers.asyncio import AsyncIOScheduler

from connectors.domain.connection import Connection
from connectors.domain.events import Wakeup
from connectors.runtime.dispatcher import Dispatcher, Work
from connectors.store import connections, inbox, ledger, queries
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Store
from connectors.store.host_commands import HostCommand
from connectors.store.inbox.hints import DueHint
from connectors.sync.delivery import Deliverer
from connectors.sync.identification import Identifier
from connectors.sync.till_reader import TillReader

log = logging.getLogger(__name__)

_CLAIM = 100
_HINTS = 200
_HINTS_UNDER_WAY = 200  # of one connection, claimed and not yet followed: the lease of a claim is a minute


class CommandRunner(Protocol):
    """Does what commands ask of a running host."""

    async def claim(self) -> list[HostCommand]:
        """Take what was asked."""
        ...

    async def execute(self, command: HostCommand) -> None:
        """Do one, and leave its result."""
        ...


class Scheduler:
    """Turns what is due into submitted work; a commit that makes work turns it at once."""

    def __init__(
        self,
        store: Store,
        reader: TillReader,
        identifier: Identifier,
        deliverer: Deliverer,
        dispatcher: Dispatcher,
        commands: CommandRunner,
        tidy: Work,
    ) -> None:
        self._store = store
        self._reader = reader
        self._identifier = identifier
        self._deliverer = deliverer
        self._dispatcher = dispatcher
        self._commands = commands
        self._tidy = tidy
        # coalesce and no grace time: after a pause of the machine one late run happens, none is skipped in silence
        self._scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"coalesce": True, "misfire_grace_time": None, "max_instances": 1}
        )

        self._hints_due = False
        self._identify_due = False
        self._under_way: Counter[str] = Counter()

    def start(self) -> None:
        self._store.listeners.append(self._wake)
        self._scheduler.add_job(self.tick, "interval", seconds=1, id="tick")
        self._scheduler.add_job(self._housekeeping, "interval", seconds=60, id="housekeeping")
        self._scheduler.start()
        self._wake({Wakeup.poll, Wakeup.hints, Wakeup.identify, Wakeup.deliver})

    def stop(self) -> None:
        self._scheduler.shutdown(wait=False)
        self._store.listeners.remove(self._wake)

    def _wake(self, wakeups: set[Wakeup], _events: object = ()) -> None:
        if Wakeup.deliver in wakeups:
            self._deliverer.wake()
        if Wakeup.hints in wakeups:
            self._hints_due = True
            self._submit("claim hints", self._due_hints)
        if Wakeup.identify in wakeups:
            self._identify_due = True
            self._submit("identify", self._identify)
        if Wakeup.poll in wakeups:
            self._submit("claim polls", self._due_reads)

    def _submit(self, name: str, work: Work) -> None:
        self._dispatcher.submit(name, work)

    async def tick(self) -> None:
        """Hand over everything that is due."""
        kinds = await self._store.read(queries.due.kinds)
        self._wake(kinds)
        if Wakeup.resolve in kinds:
            self._submit("resolve", self._resolve)
        if Wakeup.commands in kinds:
            self._submit("commands", self._claim_commands)

    async def _due_reads(self) -> None:
        most = min(_CLAIM, self._dispatcher.free() // 2)
        if not most:
            return
        for turn in await self._store.write(lambda tx: connections.schedule.claim_polls(tx, most)):
            self._submit(f"poll {turn.connection.id}", self._polling(turn))
        for turn in await self._store.write(lambda tx: connections.schedule.claim_lookbacks(tx, most)):
            self._submit(f"look-back {turn.connection.id}", self._looking_back(turn))

    def _polling(self, turn: DueRead) -> Work:
        async def work() -> None:
            await self._reader.poll(turn)

        return work

    def _looking_back(self, turn: DueRead) -> Work:
        async def work() -> None:
            await self._reader.look_back(turn)

        return work

    async def _due_hints(self) -> None:
        """Claim hints and hand them over, by connection, as long as there are any and not too many under way."""
        self._hints_due = True
        while self._hints_due and self._dispatcher.free():
            self._hints_due = False
            busy = [one for one, number in self._under_way.items() if number >= _HINTS_UNDER_WAY]
            claimed = await self._store.write(lambda tx, busy=busy: inbox.hints.claim(tx, _HINTS, without=busy))  # type: ignore[misc]
            by_connection: dict[str, list[DueHint]] = {}
            for hint in claimed:
                by_connection.setdefault(hint.connection_id, []).append(hint)
            ids = list(by_connection)
            known = await self._store.read(lambda tx, ids=ids: connections.registry.by_ids(tx, ids))  # type: ignore[misc]
            for connection_id, some in by_connection.items():
                self._under_way[connection_id] += len(some)
                # each claim is its own piece of work: a connection may have several on their way
                name = f"hints {connection_id} {some[0].ticket}"
                self._submit(name, self._following(known[connection_id], some))
            self._hints_due = self._hints_due or len(claimed) == _HINTS

    def _following(self, connection: Connection, claimed: list[DueHint]) -> Work:
        async def work() -> None:
            try:
                await self._reader.follow_hints(connection, claimed)
            finally:
                self._under_way[connection.id] -= len(claimed)
                self._under_way += Counter()  # drops those at zero
                self._wake({Wakeup.hints})

        return work

    async def _identify(self) -> None:
        self._identify_due = True
        while self._identify_due:
            self._identify_due = False
            self._identify_due = bool(await self._identifier.round()) or self._identify_due

    async def _claim_commands(self) -> None:
        for command in await self._commands.claim():
            self._submit(f"command {command.id}", self._executing(command))

    def _executing(self, command: HostCommand) -> Work:
        async def work() -> None:
            await self._commands.execute(command)

        return work

    async def _resolve(self) -> None:
        await self._deliverer.resolve()

    async def _housekeeping(self) -> None:
        try:
            await self._store.write(ledger.operations.expire_holds)
            await self._deliverer.check_paused_businesses()
            await self._tidy()
        except Exception as error:
            log.exception("housekeeping: raised %s; it comes again in a minute", type(error).__name__)

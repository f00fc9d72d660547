"""The jobs of a cluster: which work is due as which jobs, and what each one does.

Owns the kinds of job and their locks. A job names a connection, a business, a subscription or nothing, never a single
sale; what it finds to do stands in the database, so a job that is done twice, or whose worker died, does no harm.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from functools import partial

from connector_sdk.errors import ConnectorError
from connectors.domain.clock import SECOND
from connectors.domain.connection import Connection
from connectors.domain.events import Wakeup
from connectors.runtime.background import BackgroundParts
from connectors.store import connections, host_commands, inbox, job_queue, ledger, relay
from connectors.store.connections.schedule import DueRead
from connectors.store.engine import Transaction
from connectors.store.errors import StoreError
from connectors.store.job_queue import Queue, QueuedJob

log = logging.getLogger(__name__)

_READS_AT_ONCE = 1000
_SUBJECTS_AT_ONCE = 1000
_HINTS_AT_ONCE = 200
_URGENT, _USUAL, _PATIENT = 10, 0, -10


class JobKind(StrEnum):
    """A kind of job, with what its subject is."""

    poll = "poll"
    """Read what changed at a connection's till."""
    look_back = "look-back"
    """Read the last days of a connection's till once more."""
    hints = "hints"
    """Fetch the receipts that hooks of a connection named."""
    identify = "identify"
    """Find the cards of a connection's customers."""
    deliver = "deliver"
    """Send what is pending of a business."""
    resolve = "resolve"
    """Look up what is in doubt."""
    renew = "renew"
    """Renew what a connection's till has granted."""
    take_effect = "loyalty effects"
    """Let events of 7stamp take effect."""
    tell = "loyalty telling"
    """Tell connectors and plugins of events of 7stamp."""
    relay = "relay"
    """Send what waits for a subscription."""
    vouchers = "vouchers"
    """Settle vouchers that are in doubt, and send again what did not reach 7stamp."""
    gifts = "gifts"
    """Find the vouchers of gifts that were given without a redeem code."""
    subscribe = "subscriptions"
    """Have 7stamp post the events of businesses here."""
    plans = "plans"
    """Ask 7stamp about the plans of businesses."""
    recheck = "rechecks"
    """Ask whether tills and keys that were refused are accepted again."""
    agreement = "agreement"
    """Compare a connection's till, ledger and cards."""
    command = "command"
    """Do a command that somebody gave."""
    maintenance = "maintenance"
    """Expire holds, delete what is kept too long, send notices."""


_PRIORITIES = {
    JobKind.hints: _URGENT,
    JobKind.deliver: _URGENT,
    JobKind.identify: _URGENT,
    JobKind.command: _URGENT,
    # not the look-back: it shares its lock with polls, and the queue gives a lock to the higher priority first
    JobKind.agreement: _PATIENT,
}
_WAITING = frozenset(
    {
        JobKind.poll,
        JobKind.look_back,
        JobKind.relay,
        JobKind.subscribe,
        JobKind.plans,
        JobKind.recheck,
        JobKind.agreement,
        JobKind.command,
        JobKind.maintenance,
    }
)
"""Kinds that may wait long for others: they have places of their own, so that stamps find theirs."""


def job(kind: JobKind, subject: str = "") -> QueuedJob:
    """Build a job; the two kinds of read of one till share a lock."""
    lock = f"{JobKind.poll}:{subject}" if kind is JobKind.look_back else f"{kind}:{subject}"
    queue = Queue.waiting if kind in _WAITING else Queue.urgent
    return QueuedJob(kind.value, subject, lock, queue, _PRIORITIES.get(kind, _USUAL))


class ClusterJobs:
    """Turns what is due into jobs, and does a job."""

    def __init__(self, parts: BackgroundParts) -> None:
        self._parts = parts
        self._work: dict[JobKind, Callable[[str], Awaitable[object]]] = {
            JobKind.poll: partial(self._read, parts.reader.poll),
            JobKind.look_back: partial(self._read, parts.reader.look_back),
            JobKind.hints: self._follow_hints,
            JobKind.identify: lambda connection_id: _repeat(partial(parts.identifier.due_round, connection_id)),
            JobKind.deliver: parts.deliverer.deliver,
            JobKind.resolve: lambda _: parts.deliverer.resolve(),
            JobKind.renew: self._renew,
            JobKind.take_effect: lambda _: _repeat(parts.loyalty.round),
            JobKind.tell: lambda _: _repeat(parts.loyalty.tell_round),
            JobKind.relay: parts.relay.deliver,
            JobKind.vouchers: lambda _: parts.vouchers.round(),
            JobKind.gifts: lambda _: parts.gifts.round(),
            JobKind.subscribe: lambda _: parts.loyalty_subscriber.round(),
            JobKind.plans: lambda _: parts.deliverer.check_plans(),
            JobKind.recheck: lambda _: parts.rechecker.round(),
            JobKind.agreement: self._compare,
            JobKind.command: self._execute,
            JobKind.maintenance: self._maintain,
        }

    async def do(self, kind: str, subject: str) -> None:
        """Do a job; what it raises is logged, and the database says when it is due again."""
        try:
            known = JobKind(kind)
        except ValueError:
            # a newer version's, while a cluster is upgraded: one that knows it finds the work due again
            log.warning("a job of kind %r is not known here: a newer version does it", kind)
            return
        try:
            await self._work[known](subject)
        except Exception as error:
            if (outage := _outage(error)) is not None:
                log.warning("%s %s: %s; it will be due again", kind, subject, outage)
            else:
                log.exception("%s %s: raised %s; it will be due again", kind, subject, type(error).__name__)

    # --- what is due --------------------------------------------------------------------------------------------

    async def put_due(self, kinds: set[Wakeup]) -> None:
        """Put a job into the queue for everything of these kinds that is due."""
        if Wakeup.poll in kinds:
            await self._put_reads()
        jobs: list[QueuedJob] = []
        if subjects := kinds & _SUBJECTS.keys():
            jobs += await self._parts.store.read(lambda tx: _due_jobs(tx, sorted(subjects)))
        jobs += [job(kind) for wakeup in sorted(kinds) for kind in _SINGLE.get(wakeup, ())]
        await self.put(jobs)

    async def put(self, jobs: Sequence[QueuedJob]) -> None:
        """Put jobs into the queue, those that do not wait there already."""
        if jobs:
            await self._parts.store.write(lambda tx: job_queue.put(tx, jobs))

    async def _put_reads(self) -> None:
        """Put the reads that are due, and set when each is next, in one transaction."""
        store = self._parts.store

        def work(tx: Transaction) -> tuple[list[Connection], int]:
            polls = connections.schedule.pass_on_polls(tx, _READS_AT_ONCE)
            second = connections.schedule.pass_on_lookbacks(tx, _READS_AT_ONCE)
            jobs = [job(JobKind.poll, one.id) for one in polls] + [job(JobKind.look_back, one.id) for one in second]
            job_queue.put(tx, jobs)
            return polls, max(len(polls), len(second))

        claimed = _READS_AT_ONCE
        while claimed == _READS_AT_ONCE:  # a full claim says that there may be more
            polls, claimed = await store.write(work)
            for connection in polls:
                store.measures.read_late((store.clock.now() - connection.next_poll_at) / SECOND)

    async def put_of_minute(self) -> None:
        """Put what is looked after every minute; with the commands also those that a worker has not ended."""
        jobs = [job(kind) for kind in (JobKind.subscribe, JobKind.plans, JobKind.recheck, JobKind.maintenance)]
        due = await self._parts.store.read(lambda tx: ledger.agreements.due(tx, _SUBJECTS_AT_ONCE, ()))
        await self.put([*jobs, *(job(JobKind.agreement, connection_id) for connection_id in due)])
        await self.put_due({Wakeup.commands})

    # --- doing --------------------------------------------------------------------------------------------------

    async def _read(self, read: Callable[[DueRead], Awaitable[object]], connection_id: str) -> None:
        store = self._parts.store
        for due in await store.write(lambda tx: connections.schedule.begin_read(tx, connection_id)):
            await read(due)

    async def _follow_hints(self, connection_id: str) -> None:
        store = self._parts.store
        while hints := await store.write(lambda tx: inbox.hints.lease(tx, _HINTS_AT_ONCE, connection_id)):
            connection = (await store.read(lambda tx: connections.registry.by_ids(tx, [connection_id])))[connection_id]
            await self._parts.reader.follow_hints(connection, hints)

    async def _renew(self, connection_id: str) -> None:
        with contextlib.suppress(ConnectorError):  # the journal says what went wrong, and the next try is set
            await self._parts.reader.renew(connection_id)

    async def _compare(self, connection_id: str) -> None:
        connection = await self._parts.reconciler.lease(connection_id)
        if connection is not None:
            await self._parts.reconciler.night(connection)

    async def _execute(self, command_id: str) -> None:
        command = await self._parts.store.write(lambda tx: host_commands.begin(tx, command_id))
        if command is not None:
            await self._parts.commands.execute(command)

    async def _maintain(self, _subject: str) -> None:
        await self._parts.store.write(ledger.operations.expire_holds)
        await self._parts.maintenance()


_SINGLE = {
    Wakeup.resolve: (JobKind.resolve,),
    Wakeup.loyalty: (JobKind.take_effect, JobKind.tell),
    Wakeup.vouchers: (JobKind.vouchers,),
    Wakeup.gifts: (JobKind.gifts,),
}
"""Kinds of work that are one job for all businesses."""


_SUBJECTS: dict[Wakeup, tuple[JobKind, Callable[[Transaction, int], Sequence[str]]]] = {
    Wakeup.hints: (JobKind.hints, inbox.hints.due_connections),
    Wakeup.identify: (JobKind.identify, ledger.card_searches.due_connections),
    Wakeup.deliver: (JobKind.deliver, ledger.delivery_queue.due_businesses),
    Wakeup.renew: (JobKind.renew, connections.renewals.due),
    Wakeup.relay: (JobKind.relay, relay.deliveries.due_subscription_ids),
    Wakeup.commands: (JobKind.command, host_commands.unfinished_ids),
}
"""Kinds of work that are a job for each of their subjects, and how those that have something due are found."""


def _due_jobs(tx: Transaction, kinds: Sequence[Wakeup]) -> list[QueuedJob]:
    """List a job for each subject of these kinds of work that has something due."""
    return [
        job(kind, subject)
        for kind, due in (_SUBJECTS[wakeup] for wakeup in kinds)
        for subject in due(tx, _SUBJECTS_AT_ONCE)
    ]


async def _repeat(work: Callable[[], Awaitable[int]]) -> None:
    """Do rounds of work until one finds nothing to do."""
    while await work():
        pass


def _outage(error: Exception) -> StoreError | None:
    """Return what the database said of itself, where an error, or all of a group, is nothing else."""
    if isinstance(error, ExceptionGroup):
        of_database, others = error.split(StoreError)
        if others is not None or of_database is None:
            return None
        return _outage(of_database.exceptions[0])
    return error if isinstance(error, StoreError) else None

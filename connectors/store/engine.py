"""The database: writer threads that commit concurrent arrivals together, and readers beside them.

Owns threads, transactions and the preparation at start; what is written is the business of the modules beside this one,
and how connections to each kind of database are made, and what their errors mean, that of `engines`.

An embedded database has one writer, which commits whatever waits in one transaction: the disk is what costs. A server
has several, and only jobs of the same work share a transaction: it commits in groups by itself, and the fewer rows a
transaction locks, the fewer others wait for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar, cast

import sqlalchemy
from sqlalchemy import Connection as Session
from sqlalchemy import Executable, Table

from connectors.domain.clock import CLOCKS_AGREE, SECOND, Clock, SteadyClock
from connectors.domain.events import DomainEvent, Wakeup
from connectors.domain.measures import Measures, NoMeasures
from connectors.domain.quotas import Quotas
from connectors.store import keyring, migrate, stored_settings
from connectors.store.compiled import Row, Statement, execute_each
from connectors.store.dialect import Insert, insert_into
from connectors.store.engines import BUSY_MILLISECONDS, create_engine, plain_errors
from connectors.store.errors import Conflict, Moved, Moving, StoreBusy, StoreError, Unusable
from connectors.store.vault import Vault

log = logging.getLogger(__name__)

ItemT = TypeVar("ItemT")
ResultT = TypeVar("ResultT")
Listener = Callable[[set[Wakeup], Sequence[DomainEvent]], None]
"""Called after each commit that made work due or changed something plugins are told of."""
Recorder = Callable[["Transaction"], None]
"""Called in each transaction that changed something, before it commits: what it writes is committed with it."""
Values = Mapping[str, object] | Sequence[Mapping[str, object]]
"""What a statement is given: one row's values by column, or those of several rows."""
GroupWork = Callable[["Transaction", Sequence[ItemT]], Sequence[ResultT]]
"""Work on the items of several callers at once; it returns a result for each, in their order."""

_SERVER_TIME = sqlalchemy.text("SELECT CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)")
_ALONE = sqlalchemy.text("SELECT pg_advisory_xact_lock(hashtextextended(:name, 0))")

MOST_TOGETHER = 500
"""How many jobs share a commit at most: the last of them waits for the work of all."""
_READERS = 4
_WRITERS = 4
"""Writer threads where the database is a server."""
_TRIES = 6
"""How often a transaction is tried that met another one, before whoever asked for it is told."""
_PAUSE_SECONDS = 0.02
"""The pause before the second try, on average; each further one is twice as long."""


@dataclass(slots=True)
class Transaction:
    """One transaction: the session, the time, the vault, and whom to wake once it is committed."""

    session: Session
    now: int
    """When it began (UTC microseconds): everything written in it happened then."""
    known: Vault
    """The vault as this process knows it; `vault` is the one to use."""
    wakeups: set[Wakeup] = field(default_factory=set)
    """Kinds of work that this transaction makes due."""
    events: list[DomainEvent] = field(default_factory=list)
    """Changes to tell plugins of after the commit, in their order."""
    by: str | None = None
    """Who asked for what is written, for the journal; `None` where nobody did."""
    quotas: Quotas = field(default_factory=Quotas)
    member: str | None = None
    """The member of the cluster whose transaction it is; `None` on an embedded database."""
    writes: bool = False
    steady: bool = False
    """Whether the time is this process' own, which follows the server's; not one that a test brings."""
    _follows_key: bool = False

    @property
    def vault(self) -> Vault:
        """The vault; the first use in a transaction that writes asks the database which key is in use now.

        Raises `WrongKey` where the key in use is not known.
        """
        if self.writes and not self._follows_key:
            keyring.follow(self.session, self.known)
            self._follows_key = True
        return self.known

    def insert(self, table: Table) -> Insert:
        """Return an insert that can name what to do where the row exists, as this database spells it."""
        return insert_into(self.session.dialect.name, table)

    def alone(self, *names: str) -> None:
        """Wait until no other transaction is here with the same names, and keep others out until this one ends.

        For what is looked at before it is written where no row can be locked, since there is none yet. An embedded
        database has one writer at a time anyway.
        """
        if self.session.dialect.name == "postgresql":
            self.session.execute(_ALONE, {"name": json.dumps(names)})

    def is_past(self, moment: int) -> bool:
        """Say whether a moment that this process has told by its clock has surely passed.

        Not where the clock was put back since, or the server's was and this process has not seen it yet.
        """
        if moment > self.now:
            return False
        return self.session.dialect.name != "postgresql" or self._agrees_with_server()

    def may_send(self) -> bool:
        """Say whether something may be sent in this transaction: by a time that the members of a cluster agree on.

        By a member that has not seen yet that the server's clock was put forward, what is sent would seem an hour old
        to the others, and its absence be taken for a proof.
        """
        return self.member is None or self._agrees_with_server()

    def _agrees_with_server(self) -> bool:
        """Say whether the time is the server's; a time that a test brings counts as that."""
        return not self.steady or abs(int(self.run(_SERVER_TIME).scalar_one()) - self.now) < CLOCKS_AGREE

    # `Any`: SQLAlchemy knows the columns of a statement only when it runs
    def run(self, statement: Executable, values: Values | None = None) -> sqlalchemy.CursorResult[Any]:
        """Execute a statement, once for each row of values."""
        return self.session.execute(statement, values)

    def run_each(self, statement: Statement, rows: Sequence[Row]) -> int:
        """Execute a statement for each row, as fast as the driver does; return how many rows of the table changed.

        The statement is a constant of its module, and all rows have the same columns; there may be none.
        """
        return execute_each(self.session, statement, rows) if rows else 0


@dataclass(slots=True)
class _Job(Generic[ItemT, ResultT]):
    """What one caller asks of the writer: `work` on its `item`; the `future` gets the result after the commit."""

    work: GroupWork[ItemT, ResultT]
    item: ItemT
    future: asyncio.Future[ResultT]


_QueuedJob = _Job[object, object]
"""A job in the queue, where jobs of all types stand: each one's work is only ever called with its own items."""


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of a job: its result, or the error that its caller gets."""

    job: _QueuedJob
    result: object = None
    error: BaseException | None = None

    def settle(self) -> None:
        """Hand it to the caller, in the event loop's thread."""
        if self.job.future.done():  # the caller was cancelled and waits no more
            return
        if self.error is not None:
            self.job.future.set_exception(self.error)
        else:
            self.job.future.set_result(self.result)


class _JobQueue:
    """Jobs in the order they came, for writer threads to take several at once."""

    def __init__(self, *, mixed: bool) -> None:
        self._mixed = mixed
        """Whether jobs of different works are taken together."""
        self._jobs: deque[_QueuedJob] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def put(self, job: _QueuedJob) -> None:
        """Add a job."""
        with self._changed:
            self._jobs.append(job)
            self._changed.notify()

    def close(self) -> None:
        """Have writers end when nothing is left."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def take(self) -> list[_QueuedJob]:
        """Wait for a job and take what may share its transaction; empty once the queue is closed and empty."""
        with self._changed:
            while not self._jobs and not self._closed:
                self._changed.wait()
            taken: list[_QueuedJob] = []
            while self._jobs and len(taken) < MOST_TOGETHER:
                if taken and not self._mixed and self._jobs[0].work != taken[0].work:
                    break
                taken.append(self._jobs.popleft())
            return taken


class Store:
    """The ledger's database.

    `write` and `gather` run in a writer's thread, several callers in one commit; `read` in a few others.
    `inline` runs everything in the caller's thread instead, for tests that bring their own time.
    """

    def __init__(
        self,
        url: str,
        vault: Vault,
        *,
        clock: Clock | None = None,
        inline: bool = False,
        quotas: Quotas | None = None,
    ) -> None:
        self.url = url
        self.vault = vault
        self.clock = clock or SteadyClock()
        self.quotas = quotas or Quotas()
        self.inline = inline
        self.member: str | None = None
        self.measures: Measures = NoMeasures()
        self.listeners: list[Listener] = []
        self.recorders: list[Recorder] = []
        # Writers lock an embedded database when they begin. One that began as a reader would fail at its first write
        # if another process had committed meanwhile.
        self._engine = create_engine(url, "BEGIN IMMEDIATE")
        self._read_engine = create_engine(url, "BEGIN")
        self._jobs = _JobQueue(mixed=self.embedded)
        self._readers = ThreadPoolExecutor(_READERS, "store-reader")
        self._writers: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked: dict[GroupWork[object, object], list[_QueuedJob]] = {}
        """Queries that `read_together` is running, each with who waits for the next one."""
        self._asking: set[asyncio.Task[None]] = set()

    @property
    def embedded(self) -> bool:
        """Whether the database is a file of this machine (SQLite), not a server."""
        return self._engine.dialect.name == "sqlite"

    # --- preparation ------------------------------------------------------------------------------------------

    def outdated(self) -> bool:
        """Return whether `prepare` will change an existing schema: not while a host of another version runs."""
        with plain_errors():
            return migrate.outdated(self._read_engine)

    def prepare(self) -> None:
        """Bring the schema up to date and make sure that the key is the right one. Raises `StoreError`."""
        with plain_errors():
            # the key first: a migration that encrypts must not do so with a key that is not this database's
            with self._read_engine.connect() as session:
                keyring.recognise(session, self.vault)
            migrate.upgrade(self._engine, self.vault)
            with self._engine.begin() as session:
                if (moved_to := stored_settings.find(session, stored_settings.MOVED_TO)) is not None:
                    raise Moved(moved_to)
                if stored_settings.find(session, stored_settings.MOVING) is not None:
                    raise Moving()
                keyring.establish(session, self.vault)
                rewrite = migrate.needs_rewriting(session)
        if rewrite:
            self._rewrite()

    def _rewrite(self) -> None:
        """Rewrite a database whose free space holds what is encrypted now; where that fails, the next start tries."""
        try:
            with plain_errors():
                self._run_outside_transactions("VACUUM" if self.embedded else "VACUUM FULL")
                if not self.truncate_log():
                    raise StoreBusy("another process reads it")
                with self._engine.begin() as session:
                    migrate.mark_rewritten(session)
        except StoreError as error:
            log.warning("redeem codes of former versions may still be in the database's free space: %s", error)

    def truncate_log(self) -> bool:
        """Empty an embedded database's write-ahead log, where former texts still are.

        Return whether it is empty now: SQLite does not empty it while another process reads.
        """
        return not self.embedded or self._run_outside_transactions("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0

    def _run_outside_transactions(self, statement: str) -> list[tuple[int, ...]]:
        """Run a statement that no transaction can hold, and return what an embedded database says to it."""
        if not self.embedded:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
                session.exec_driver_sql(statement)
            return []
        # a connection of its own: those of the engine begin a transaction before every statement
        database = sqlite3.connect(self._engine.url.database or "", timeout=BUSY_MILLISECONDS / 1000)
        try:
            database.isolation_level = None
            return database.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise Unusable(f"{statement} failed: {error}") from None
        finally:
            database.close()

    # --- what callers use -------------------------------------------------------------------------------------

    async def open(self) -> None:
        """Prepare the database and start the writer. Raises `StoreError`."""
        self._loop = asyncio.get_running_loop()
        if self.inline:
            self.prepare()
            return
        await asyncio.to_thread(self.prepare)
        await self.follow_clock()
        for _ in range(1 if self.embedded else _WRITERS):
            writer = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
            writer.start()
            self._writers.append(writer)

    async def close(self) -> None:
        """Wait for the writes that were asked for, then close all connections."""
        self._jobs.close()
        for writer in self._writers:
            await asyncio.to_thread(writer.join)
        self._writers.clear()
        self._readers.shutdown()
        self._engine.dispose()
        self._read_engine.dispose()

    async def write(self, work: Callable[[Transaction], ResultT], by: str | None = None) -> ResultT:
        """Run `work` in a transaction, journalled as done `by` somebody; return its result once that is committed."""

        # A function of its own for each call: jobs are grouped by their work, and this one belongs to one person.
        def work_alone(tx: Transaction, works: Sequence[Callable[[Transaction], ResultT]]) -> list[ResultT]:
            tx.by = by
            try:
                return [work(tx) for work in works]
            finally:
                tx.by = None

        return await self._submit(work_alone, work)

    async def gather(self, work: GroupWork[ItemT, ResultT], item: ItemT) -> ResultT:
        """Run `work` for this item and those of other callers at once; return this item's result once committed."""
        return await self._submit(work, item)

    async def read(self, query: Callable[[Transaction], ResultT]) -> ResultT:
        """Run a query on a snapshot."""
        if self.inline:
            return self._read(query)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    async def read_together(self, query: GroupWork[ItemT, ResultT], item: ItemT) -> ResultT:
        """Run a query on a snapshot for this item, and for those of others that come while an earlier one runs.

        A query that fails for several is run once more for each, so that a fault stays its own.
        """
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        question = cast("_QueuedJob", _Job(query, item, future))
        waiting = self._asked.get(question.work)
        if waiting is not None:
            waiting.append(question)
        else:
            self._asked[question.work] = [question]
            asking = asyncio.create_task(self._ask(question.work))
            self._asking.add(asking)
            asking.add_done_callback(self._asking.discard)
        return await future

    async def _ask(self, query: GroupWork[object, object]) -> None:
        """Run a query for all that wait for it, again for those that came meanwhile, until nobody waits."""
        try:
            while questions := self._asked[query]:
                self._asked[query] = []
                _settle_all(await self._answers(query, questions))
        finally:
            for question in self._asked.pop(query):  # none, unless this was cancelled
                question.future.cancel()

    async def _answers(self, query: GroupWork[object, object], questions: Sequence[_QueuedJob]) -> list[_Outcome]:
        try:
            results = await self.read(lambda tx: query(tx, [question.item for question in questions]))
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if len(questions) == 1 or isinstance(error, StoreError):
                return [_Outcome(question, error=_settable(error)) for question in questions]
            return [outcome for question in questions for outcome in await self._answers(query, [question])]
        return [_Outcome(question, result) for question, result in zip(questions, results, strict=True)]

    def _read(self, query: Callable[[Transaction], ResultT]) -> ResultT:
        for tried in range(_TRIES):
            try:
                with plain_errors(), self._read_engine.connect() as session:
                    return query(self._transaction(session))
            except Conflict:  # nothing was changed: it can be asked again
                if tried == _TRIES - 1:
                    raise
                _pause(tried)
        raise AssertionError("the last try returns or raises")

    async def clear_log(self) -> None:
        """Empty an embedded database's write-ahead log; say so in ours where another process reads it meanwhile.

        What is erased or encrypted anew stands in the log's older pages until then.
        """
        try:
            emptied = await asyncio.to_thread(self.truncate_log)
        except StoreError:
            emptied = False
        if not emptied:
            log.warning("former texts may still be in the database's write-ahead log: it empties when nobody reads it")

    @property
    def comparable_since(self) -> int:
        """From when on this process' time can be compared with what others of a cluster wrote (UTC microseconds).

        A member that begins after the server's clock was put forward sees no jump, and what others wrote a moment ago
        by the time before seems an hour old to it. What was written before this is as old as that at least.
        """
        return self.clock.steady_since if isinstance(self.clock, SteadyClock) and not self.embedded else 0

    async def follow_clock(self) -> int:
        """Follow the machine's clock, or the server's where the database has one; return by how much that jumped.

        All members of a cluster go by the server's clock, so that theirs need not agree. Less than a second is no jump
        and is followed here; a jump is followed by whoever moves what is stored with it.
        """
        clock = self.clock
        if not isinstance(clock, SteadyClock):  # a test brings its own time
            return 0
        # The reading is of some moment while it was asked for, however long that took: only what lies outside differs.
        # A slow answer, of a busy machine or a server that restarts, must not look like a clock that was put back.
        asked = clock.now()
        right_time = await self._right_time()
        answered = clock.now()
        difference = right_time - min(max(right_time, asked), answered)
        if abs(difference) < SECOND:
            clock.put_forward(difference)
            return 0
        return difference

    async def _right_time(self) -> int:
        if self.embedded:
            return time.time_ns() // 1000
        return await self.read(lambda tx: int(tx.run(_SERVER_TIME).scalar_one()))

    # --- the writer -------------------------------------------------------------------------------------------

    async def _submit(self, work: GroupWork[ItemT, ResultT], item: ItemT) -> ResultT:
        """Queue a job for the writer and wait until it is committed."""
        future: asyncio.Future[ResultT] = asyncio.get_running_loop().create_future()
        job = cast("_QueuedJob", _Job(work, item, future))
        if self.inline:
            _settle_all(self._commit([job]))
        else:
            self._jobs.put(job)
        return await future

    def _write_loop(self) -> None:
        """Commit what is queued until the store closes.

        While one commit waits for the disk, others queue up; the next commit takes all of them. So a lone write is
        committed at once, and under load the cost of a commit is shared by as many as arrived meanwhile.
        """
        if self._loop is None:
            raise RuntimeError("the store is not open")
        while jobs := self._jobs.take():
            outcomes = self._commit(jobs)
            # futures belong to the event loop's thread: they are settled there
            self._loop.call_soon_threadsafe(_settle_all, outcomes)

    def _commit(self, jobs: Sequence[_QueuedJob]) -> list[_Outcome]:
        """Commit jobs together; where that fails, each in a transaction of its own, so that a fault stays its own.

        The failed transaction was rolled back as a whole, so running every job once more repeats nothing. A fault of
        the database itself (locked, full, broken) would meet each of them alike and is not tried again for each. One
        that met another transaction is tried again after a pause, in which the other ends.
        """
        for tried in range(_TRIES):
            try:
                return self._commit_together(jobs)
            except Conflict as error:
                if tried == _TRIES - 1:
                    return [_Outcome(job, error=error) for job in jobs]
                _pause(tried)
            except Unusable as error:
                return [_Outcome(job, error=error) for job in jobs]
            except sqlalchemy.exc.IntegrityError as error:
                # somebody else wrote the same row at the same time: the next try finds it
                if len(jobs) > 1:
                    break
                if self.embedded or tried == _TRIES - 1:
                    return [_Outcome(jobs[0], error=error)]
                _pause(tried)
            except Exception as error:  # noqa: BLE001 - whoever waits gets it
                if len(jobs) == 1:
                    return [_Outcome(jobs[0], error=_settable(error))]
                break
        return [outcome for job in jobs for outcome in self._commit([job])]

    def _commit_together(self, jobs: Sequence[_QueuedJob]) -> list[_Outcome]:
        """Run jobs in one transaction, those of the same work in one call, and announce the commit.

        Raises whatever one of them raised, after nothing of any was written.
        """
        groups: dict[GroupWork[object, object], list[_QueuedJob]] = {}
        for job in jobs:
            groups.setdefault(job.work, []).append(job)
        outcomes: list[_Outcome] = []
        with plain_errors():
            connection = self._engine.connect()
        with connection as session:
            with plain_errors():
                session.begin()
                tx = self._transaction(session, writes=True)
                for work, group in groups.items():
                    results = work(tx, [job.item for job in group])
                    outcomes += [_Outcome(job, result) for job, result in zip(group, results, strict=True)]
                for recorder in self.recorders:
                    recorder(tx)
            with plain_errors(at_commit=True):
                session.commit()
        # only now is it true: a listener that looks at the database finds what it is told of
        if tx.wakeups or tx.events:
            self._announce(tx)
        return outcomes

    def _transaction(self, session: sqlalchemy.Connection, *, writes: bool = False) -> Transaction:
        return Transaction(
            session,
            self.clock.now(),
            self.vault,
            quotas=self.quotas,
            member=self.member,
            writes=writes,
            steady=isinstance(self.clock, SteadyClock),
        )

    def _announce(self, tx: Transaction) -> None:
        """Tell listeners, in the event loop's thread, what a commit made due and changed."""
        for listener in self.listeners:
            if self.inline or self._loop is None:
                listener(tx.wakeups, tx.events)
            else:
                self._loop.call_soon_threadsafe(listener, tx.wakeups, tx.events)


def _settle_all(outcomes: Sequence[_Outcome]) -> None:
    for outcome in outcomes:
        outcome.settle()


def _settable(error: Exception) -> Exception:
    """Return an error that a future takes: it refuses `StopIteration`, and would leave its caller waiting."""
    return RuntimeError("work ended with StopIteration") if isinstance(error, StopIteration) else error


def _pause(tried: int) -> None:
    """Wait before a transaction is tried again, at random so that two that met do not meet again."""
    time.sleep(_PAUSE_SECONDS * 2**tried * random.uniform(0.5, 1.5))  # noqa: S311 - spreads load

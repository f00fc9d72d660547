"""The database itself: one writer that commits concurrent arrivals together, readers beside it.

Owns threads, transactions and migrations at start; what is written is the other modules' of this room.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, TypeVar

import sqlalchemy
from sqlalchemy import Connection as Session
from sqlalchemy import Engine, Table, create_engine, event
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url

from connectors.domain.clock import Clock, SystemClock
from connectors.domain.events import DomainEvent, Wakeup
from connectors.domain.quotas import Quotas
from connectors.store import keyring, migrate
from connectors.store.errors import StoreBusy, StoreError, Unusable
from connectors.store.vault import Vault

log = logging.getLogger(__name__)

T = TypeVar("T")
R = TypeVar("R")
Listener = Callable[[set[Wakeup], Sequence[DomainEvent]], None]
"""Called after each commit that made work due or changed something plugins are told of."""

MOST_TOGETHER = 500
_BUSY_MILLISECONDS = 15_000


@dataclass(slots=True)
class Transaction:
    """One transaction: the session, the time, the vault, and whom to wake once it is committed."""

    session: Session
    now: int
    known: Vault
    wakeups: set[Wakeup] = field(default_factory=set)
    """Kinds of work that this transaction makes due."""
    events: list[DomainEvent] = field(default_factory=list)
    """Changes to tell plugins of after the commit, in their order."""
    by: str | None = None
    """Who asked for what is written, for the journal; `None` where nobody did."""
    quotas: Quotas = field(default_factory=Quotas)
    writes: bool = False
    _followed: bool = False

    @property
    def vault(self) -> Vault:
        """The vault; before anything is written with it, it is asked once which key is in use now."""
        if self.writes and not self._followed:
            keyring.follow(self.session, self.known)
            self._followed = True
        return self.known

    def insert(self, table: Table) -> Any:
        """An insert that can say what to do where the row exists, in this database's own words."""
        return (postgresql if self.session.dialect.name == "postgresql" else sqlite).insert(table)

    def run(self, statement: Any, values: Any = None) -> sqlalchemy.CursorResult[Any]:
        return self.session.execute(statement, values)


@dataclass(slots=True)
class _Job:
    work: Callable[[Transaction, Sequence[Any]], Sequence[Any]]
    item: Any
    future: asyncio.Future[Any]


class Store:
    """The ledger's database.

    `write` and `gather` run in the writer's thread, several callers in one commit; `read` in a few others.
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
        self.clock = clock or SystemClock()
        self.quotas = quotas or Quotas()
        self.inline = inline
        self.listeners: list[Listener] = []
        self._engine = _engine(url, "BEGIN IMMEDIATE")
        self._read_engine = _engine(url, "BEGIN")
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._readers = ThreadPoolExecutor(4, "store-reader")
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def embedded(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def outdated(self) -> bool:
        """Whether `prepare` will change an existing schema: not while a host of another version runs."""
        with _plain_errors():
            return migrate.outdated(self._read_engine)

    def prepare(self) -> None:
        """Bring the schema up to date and make sure that the key is the right one. Raises `StoreError`."""
        with _plain_errors():
            with self._read_engine.connect() as session:
                keyring.recognise(session, self.vault)
            migrate.upgrade(self._engine, self.vault)
            with self._engine.begin() as session:
                keyring.establish(session, self.vault)
                rewrite = migrate.wants_rewriting(session)
        if rewrite:
            self._rewrite()

    def _rewrite(self) -> None:
        """Rewrite a database whose free space holds what is encrypted now; where that fails, the next start tries."""
        try:
            with _plain_errors():
                self._alone("VACUUM" if self.embedded else "VACUUM FULL")
                if not self.wipe_log():
                    raise StoreBusy("another process reads it")
                with self._engine.begin() as session:
                    migrate.rewritten(session)
        except StoreError as error:
            log.warning("redeem codes of former versions may still be in the database's free space: %s", error)

    def wipe_log(self) -> bool:
        """Empty an embedded database's write-ahead log, where former texts still are; not while others read it."""
        return not self.embedded or self._alone("PRAGMA wal_checkpoint(TRUNCATE)")[0][0] == 0

    def _alone(self, statement: str) -> list[tuple[int, ...]]:
        """Run a statement that no transaction can hold, and return what an embedded database says to it."""
        if not self.embedded:
            with self._engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
                session.exec_driver_sql(statement)
            return []
        database = sqlite3.connect(self._engine.url.database or "", timeout=_BUSY_MILLISECONDS / 1000)
        try:
            database.isolation_level = None
            return database.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise Unusable(f"{statement} failed: {error}") from None
        finally:
            database.close()

    async def open(self) -> None:
        """`prepare`, then start the writer."""
        self._loop = asyncio.get_running_loop()
        if self.inline:
            self.prepare()
            return
        await asyncio.to_thread(self.prepare)
        self._thread = threading.Thread(target=self._write_loop, name="store-writer", daemon=True)
        self._thread.start()

    async def close(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            await asyncio.to_thread(self._thread.join)
            self._thread = None
        self._readers.shutdown()
        self._engine.dispose()
        self._read_engine.dispose()

    async def write(self, work: Callable[[Transaction], R], by: str | None = None) -> R:
        """Run `work` in a transaction, journalled as done `by` somebody; its result once that is committed."""

        def alone(tx: Transaction, items: Sequence[Any]) -> list[Any]:
            tx.by = by
            try:
                return [item(tx) for item in items]
            finally:
                tx.by = None

        result: R = await self._submit(_Job(alone, work, asyncio.get_running_loop().create_future()))
        return result

    async def gather(self, work: Callable[[Transaction, Sequence[T]], Sequence[R]], item: T) -> R:
        """Run `work` for this item and those of other callers at once; this item's result once committed."""
        result: R = await self._submit(_Job(work, item, asyncio.get_running_loop().create_future()))
        return result

    async def clear_log(self) -> None:
        """Empty an embedded database's write-ahead log; say so in ours where another process reads it meanwhile.

        What is erased or encrypted anew stands in the log's older pages until then.
        """
        try:
            emptied = await asyncio.to_thread(self.wipe_log)
        except StoreError:
            emptied = False
        if not emptied:
            log.warning("former texts may still be in the database's write-ahead log: it empties when nobody reads it")

    async def read(self, query: Callable[[Transaction], R]) -> R:
        """Run a query on a snapshot."""
        if self.inline:
            return self._read(query)
        return await asyncio.get_running_loop().run_in_executor(self._readers, self._read, query)

    def _read(self, query: Callable[[Transaction], R]) -> R:
        with _plain_errors(), self._read_engine.connect() as session:
            return query(Transaction(session, self.clock.now(), self.vault, quotas=self.quotas))

    async def _submit(self, job: _Job) -> Any:
        if self.inline:
            _settle(self._commit([job]))
        else:
            self._jobs.put(job)
        return await job.future

    def _write_loop(self) -> None:
        if self._loop is None:
            raise RuntimeError("the store is not open")
        stopping = False
        while not stopping:
            jobs: list[_Job] = []
            job = self._jobs.get()
            while True:
                if job is None:
                    stopping = True
                    break
                jobs.append(job)
                if len(jobs) >= MOST_TOGETHER or self._jobs.empty():
                    break
                job = self._jobs.get()
            if jobs:
                outcome = self._commit(jobs)
                self._loop.call_soon_threadsafe(_settle, outcome)

    def _commit(self, jobs: Sequence[_Job]) -> list[tuple[_Job, Any, BaseException | None]]:
        """All jobs in one transaction; where that fails, each in one of its own, so that the fault stays its own."""
        try:
            return self._together(jobs)
        except Unusable as error:  # it would say the same to each
            return [(job, None, error) for job in jobs]
        except Exception as error:  # noqa: BLE001 - whoever waits gets it
            if len(jobs) == 1:
                # a future takes no StopIteration, and would leave the others waiting
                told = RuntimeError("work ended with StopIteration") if isinstance(error, StopIteration) else error
                return [(jobs[0], None, told)]
        return [outcome for job in jobs for outcome in self._commit([job])]

    def _together(self, jobs: Sequence[_Job]) -> list[tuple[_Job, Any, BaseException | None]]:
        outcome: list[tuple[_Job, Any, BaseException | None]] = []
        grouped: dict[Any, list[_Job]] = {}
        for job in jobs:
            grouped.setdefault(job.work, []).append(job)
        with _plain_errors(), self._engine.begin() as session:
            tx = Transaction(session, self.clock.now(), self.vault, quotas=self.quotas, writes=True)
            for work, group in grouped.items():
                results = work(tx, [job.item for job in group])
                outcome += [(job, result, None) for job, result in zip(group, results, strict=True)]
        if tx.wakeups or tx.events:
            self._announce(tx)
        return outcome

    def _announce(self, tx: Transaction) -> None:
        for listener in self.listeners:
            if self.inline or self._loop is None:
                listener(tx.wakeups, tx.events)
            else:
                self._loop.call_soon_threadsafe(listener, tx.wakeups, tx.events)


def _settle(outcome: list[tuple[_Job, Any, BaseException | None]]) -> None:
    for job, result, error in outcome:
        if job.future.done():
            continue
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)


def _engine(url: str, begin: str) -> Engine:
    if make_url(url).get_backend_name() != "sqlite":
        return create_engine(url, hide_parameters=True)
    # what a statement was given may be anybody's: it has no place in an error's text
    engine = create_engine(
        url, hide_parameters=True, connect_args={"timeout": _BUSY_MILLISECONDS / 1000, "check_same_thread": False}
    )

    @event.listens_for(engine, "connect")
    def _pragmas(dbapi: sqlite3.Connection, _record: Any) -> None:
        dbapi.isolation_level = None  # we say BEGIN ourselves
        dbapi.execute(f"PRAGMA busy_timeout={_BUSY_MILLISECONDS}")
        dbapi.execute("PRAGMA journal_mode=WAL")
        dbapi.execute("PRAGMA synchronous=FULL")
        dbapi.execute("PRAGMA foreign_keys=ON")
        dbapi.execute("PRAGMA secure_delete=ON")  # what is deleted or encrypted anew is overwritten, not only let go

    @event.listens_for(engine, "begin")
    def _begin(session: Session) -> None:
        session.exec_driver_sql(begin)

    return engine


@contextmanager
def _plain_errors() -> Iterator[None]:
    """What a database says of itself, as a sentence without the statement (which may hold anything)."""
    try:
        yield
    except sqlalchemy.exc.OperationalError as error:
        said = str(error.orig)
        if "locked" in said or "busy" in said:
            raise StoreBusy("the database is locked by another process: try again when it is done") from None
        if "full" in said:
            raise StoreBusy("the disk is full: nothing was written; make room and try again") from None
        raise Unusable(f"the database cannot be used: {said}") from None
    except sqlalchemy.exc.DatabaseError as error:
        if isinstance(error, sqlalchemy.exc.IntegrityError):
            raise
        if isinstance(error, sqlalchemy.exc.DataError | sqlalchemy.exc.ProgrammingError):  # what one of many wrote
            raise ValueError(f"the database takes no such value: {type(error.orig).__name__}") from None
        raise Unusable(f"the database cannot be used: {type(error.orig).__name__}: {error.orig}") from None

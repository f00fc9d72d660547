"""A worker: takes jobs from the queue and does them, as many at once as it may.

Owns the use of Procrastinate's worker, which fetches, locks, finishes and is told by the database of new jobs. It ends
where the database cannot be reached for a moment; then it begins anew, for as long as this process runs. A job whose
fetching or finishing was lost on the way would keep its lock as long as its worker lives: this one looks for such jobs
of its own, and returns them to the queue.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Any

import procrastinate
from procrastinate.jobs import DeleteJobCondition
from procrastinate.worker import Worker
from psycopg.conninfo import make_conninfo

from connectors.runtime.cluster_jobs import ClusterJobs
from connectors.runtime.membership import BEATS
from connectors.store import job_queue
from connectors.store.engine import Store
from connectors.store.engines import server_arguments
from connectors.store.errors import StoreError
from connectors.store.job_queue import TASK, Queue

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 1.0
_LOOK_SECONDS = 2.0
"""How often it looks for jobs though nobody told it: the database's notice may be lost."""
_POOL = 6


class ClusterWorker:
    """Does jobs until it is stopped; `at_once` of each queue at a time. `dead_after` and `grace` are seconds."""

    def __init__(self, store: Store, jobs: ClusterJobs, *, at_once: int, dead_after: float, grace: float) -> None:
        self._store = store
        self._url = store.url.replace("postgresql+psycopg://", "postgresql://", 1)
        self._jobs = jobs
        self._at_once = at_once
        self._dead_after = dead_after
        self._grace = grace
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._workers: list[Worker] = []
        self._doing: set[int] = set()
        """The jobs that are being done here."""
        # it says of every outage, with its traceback, what is said here in one line
        logging.getLogger("procrastinate").setLevel(logging.CRITICAL)
        logging.getLogger("psycopg").setLevel(logging.CRITICAL)

    def start(self) -> None:
        """Begin to do jobs."""
        asyncio.get_running_loop().set_exception_handler(_note_lost_ends)
        self._tasks = [
            asyncio.create_task(self._run(), name="worker"),
            asyncio.create_task(self._look_for_lost(), name="lost jobs"),
        ]

    async def stop(self) -> None:
        """Take no more jobs, wait for those under way, and end those that take too long: their work is due again."""
        self._stopping = True
        for worker in self._workers:
            worker.stop()  # type: ignore[no-untyped-call]
        if self._tasks:
            running, looking = self._tasks
            looking.cancel()
            await asyncio.gather(running, looking, return_exceptions=True)
            self._tasks = []

    async def _run(self) -> None:
        while not self._stopping:
            try:
                await self._run_until_trouble()
            except Exception as error:  # noqa: BLE001 - a worker outlives its database
                log.warning("the worker was interrupted (%s) and begins anew", type(error).__name__)
            if not self._stopping:
                await asyncio.sleep(_AGAIN_SECONDS)

    async def _run_until_trouble(self) -> None:
        """Run a worker for each queue, until one of them ends."""
        app = self._app()
        async with app.open_async():
            self._workers = [self._worker_of(app, queue) for queue in Queue]
            if self._stopping:
                return
            running = [asyncio.create_task(worker.run()) for worker in self._workers]  # type: ignore[no-untyped-call]
            await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for worker in self._workers:
                worker.stop()  # type: ignore[no-untyped-call]
            for outcome in await asyncio.gather(*running, return_exceptions=True):
                if isinstance(outcome, Exception):
                    raise outcome

    def _worker_of(self, app: procrastinate.App, queue: Queue) -> Worker:
        return Worker(
            app,
            queues=[queue.value],
            concurrency=self._at_once,
            delete_jobs=DeleteJobCondition.ALWAYS,
            install_signal_handlers=False,
            fetch_job_polling_interval=_LOOK_SECONDS,
            update_heartbeat_interval=self._dead_after / BEATS,
            stalled_worker_timeout=self._dead_after,
            shutdown_graceful_timeout=self._grace,
        )

    def _app(self) -> procrastinate.App:
        connector = procrastinate.PsycopgConnector(
            conninfo=make_conninfo(self._url, **server_arguments("7stamp connectors worker")),
            min_size=1,
            max_size=_POOL,
        )
        app = procrastinate.App(connector=connector)

        @app.task(name=TASK, pass_context=True)
        async def do(context: procrastinate.JobContext, /, **arguments: Any) -> None:
            job_id = context.job.id or 0
            self._doing.add(job_id)
            try:
                await self._jobs.do(str(arguments["kind"]), str(arguments["subject"]))
            finally:
                self._doing.discard(job_id)

        return app

    # --- jobs that were lost on the way ------------------------------------------------------------------------

    async def _look_for_lost(self) -> None:
        """Return jobs that the queue says are done here, and are not: they are seen so twice."""
        suspects: set[int] = set()
        while True:
            await asyncio.sleep(self._dead_after / BEATS)
            worker_ids = [worker.worker_id for worker in self._workers if worker.worker_id is not None]
            try:
                suspects = await self._return_lost(worker_ids, suspects)
            except StoreError:
                continue  # the next look does it
            except Exception as error:
                log.exception("looking for lost jobs raised %s", type(error).__name__)

    async def _return_lost(self, worker_ids: Sequence[int], suspects: set[int]) -> set[int]:
        """Return those of the suspects that are still not done here; return the suspects of this look."""
        found = await self._store.read(lambda tx: job_queue.running_of(tx, worker_ids)) - self._doing
        lost = found & suspects
        if lost:
            log.warning("%d jobs were lost on the way to or from the queue: they are done again", len(lost))
            await self._store.write(lambda tx: job_queue.give_back(tx, lost))
        return found - lost


def _note_lost_ends(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Say in one line that the end of a job could not be written down: it is looked for; all else as always."""
    task = context.get("future")
    if isinstance(task, asyncio.Task) and task.get_name().startswith("process job"):
        log.warning("the end of a job could not be written (%s)", type(context.get("exception")).__name__)
    else:
        loop.default_exception_handler(context)

"""The job queue of a cluster: Procrastinate's tables in the same database.

Owns how jobs are put into it, and what becomes of those whose worker died. Fetching and finishing them is
Procrastinate's own business. Jobs are inserted here and not by its API, because many are put in one statement, most of
which wait already: its API raises for the first such.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sqlalchemy import BigInteger, Column, MetaData, Table, Text, select, text
from sqlalchemy.dialects.postgresql import ENUM, JSONB, insert

from connectors.store.engine import Transaction

TASK = "connectors.job"
"""The name of the one task by which Procrastinate runs our jobs."""
_STATUS = ENUM("todo", "doing", name="procrastinate_job_status", create_type=False)
_procrastinate = MetaData()
_procrastinate_jobs = Table(
    "procrastinate_jobs",
    _procrastinate,
    Column("id", BigInteger, primary_key=True),
    Column("queue_name", Text),
    Column("task_name", Text),
    Column("priority", BigInteger),
    Column("lock", Text),
    Column("queueing_lock", Text),
    Column("args", JSONB),
    Column("status", _STATUS),
)


class Queue(StrEnum):
    """A queue of jobs; each has places of its own at every worker."""

    urgent = "connectors"
    """What stamps wait for."""
    waiting = "connectors waiting"
    """What may wait for others: tills, subscribers, long commands."""


@dataclass(frozen=True, slots=True)
class QueuedJob:
    """A job: of its `kind` and `subject` at most one waits; of its `lock` at most one runs, the oldest first."""

    kind: str
    subject: str
    lock: str
    queue: Queue
    priority: int = 0


def put(tx: Transaction, jobs: Sequence[QueuedJob]) -> int:
    """Put jobs into the queue, each unless it waits there already; return how many were new.

    To be called after the commit that made them due: a job that waits then has yet to look at what that commit wrote.
    """
    rows = [
        {
            "queue_name": job.queue,
            "task_name": TASK,
            "priority": job.priority,
            "lock": job.lock,
            "queueing_lock": f"{job.kind}:{job.subject}",
            "args": {"kind": job.kind, "subject": job.subject},
        }
        # in order, so that two members that put the same jobs do not wait for each other in turn
        for job in sorted(set(jobs), key=lambda job: (job.kind, job.subject))
    ]
    if not rows:
        return 0
    waits = _procrastinate_jobs.c.status == text("'todo'::procrastinate_job_status")
    statement = insert(_procrastinate_jobs).values(rows)
    return tx.run(statement.on_conflict_do_nothing(index_elements=["queueing_lock"], index_where=waits)).rowcount


def running_of(tx: Transaction, worker_ids: Sequence[int]) -> set[int]:
    """Return the ids of the jobs that workers of Procrastinate are said to do."""
    is_theirs = text("worker_id = ANY(:workers) AND status = 'doing'::procrastinate_job_status")
    query = select(_procrastinate_jobs.c.id).where(is_theirs.bindparams(workers=list(worker_ids)))
    return set(tx.run(query).scalars())


_STALLED = """
    SELECT job.id FROM procrastinate_jobs AS job
    LEFT JOIN procrastinate_workers AS worker ON worker.id = job.worker_id
    WHERE job.status = 'doing'
      AND (worker.id IS NULL OR worker.last_heartbeat NOT BETWEEN
           now() - make_interval(secs => :seconds) AND now() + make_interval(secs => :seconds))
"""
_NAMED = "SELECT unnest(CAST(:ids AS bigint[]))"
# one that waits again already need not be done twice
_DROP_REPEATED = """
    DELETE FROM procrastinate_jobs WHERE id IN ({jobs}) AND status = 'doing' AND queueing_lock IN (
        SELECT queueing_lock FROM procrastinate_jobs WHERE status = 'todo'
    )
"""
_RETURN = """
    UPDATE procrastinate_jobs SET status = 'todo', worker_id = NULL, attempts = attempts + 1
    WHERE id IN ({jobs}) AND status = 'doing'
"""


def _return(tx: Transaction, jobs: str, values: Mapping[str, object]) -> int:
    """Return the jobs that a query finds to the queue; return how many."""
    tx.alone("returned jobs")
    tx.run(text(_DROP_REPEATED.format(jobs=jobs)), values)
    return tx.run(text(_RETURN.format(jobs=jobs)), values).rowcount


def return_stalled(tx: Transaction, silent_seconds: float) -> int:
    """Return the jobs of workers that have been silent for so long to the queue; return how many.

    A worker whose last word lies in the future is one that died before the server's clock was put back.
    """
    return _return(tx, _STALLED, {"seconds": silent_seconds})


def give_back(tx: Transaction, ids: Collection[int]) -> int:
    """Return jobs to the queue that nobody does though it is said so; return how many."""
    return _return(tx, _NAMED, {"ids": sorted(ids)})


@dataclass(frozen=True, slots=True)
class QueueState:
    """How many jobs wait and run, and for how many seconds the oldest that waits has waited."""

    waiting: int = 0
    running: int = 0
    oldest_seconds: float = 0.0


_STATE = text(
    """
    SELECT count(*) FILTER (WHERE status = 'todo') AS waiting,
           count(*) FILTER (WHERE status = 'doing') AS running,
           coalesce(extract(epoch FROM now() - min(event.at) FILTER (WHERE status = 'todo')), 0) AS oldest
    FROM procrastinate_jobs LEFT JOIN procrastinate_events AS event
      ON event.job_id = procrastinate_jobs.id AND event.type = 'deferred'
    """
)


def state(tx: Transaction) -> QueueState:
    """Count what waits and runs."""
    row = tx.run(_STATE).one()
    return QueueState(int(row.waiting), int(row.running), float(row.oldest))

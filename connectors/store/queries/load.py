"""The load of the whole installation: open operations, due hints, connections and jobs, for `/metrics`.

Owns the counts, each by an index over what is open, so that they cost what waits and not what is stored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, Select, func, select

from connectors.domain.connection import Health
from connectors.domain.operation import UNSETTLED, State
from connectors.store import counters, job_queue, members
from connectors.store.engine import Transaction
from connectors.store.job_queue import QueueState
from connectors.store.ledger.operation_conditions import is_open
from connectors.store.schema import business_table, connection_table, hint_table, identify_table, operation_table


@dataclass(frozen=True, slots=True)
class Load:
    """What waits; ages in seconds. `queue` and `members` are those of a cluster, `members` by role."""

    operations: Mapping[str, int]
    oldest_pending: float
    hints: int
    oldest_hint: float
    searches: int
    connections: Mapping[str, int]
    paused_businesses: int
    counters: Mapping[str, int]
    queue: QueueState | None = None
    members: Mapping[str, int] = field(default_factory=dict)


def load(tx: Transaction, *, embedded: bool) -> Load:
    """Count what waits now."""
    pending_since = select(func.min(operation_table.c.next_at)).where(
        is_open, operation_table.c.state == State.pending, operation_table.c.next_at <= tx.now
    )
    states = select(operation_table.c.state, func.count().label("number")).where(is_open)
    due_hints = hint_table.c.next_at <= tx.now
    hints = tx.run(
        select(func.count().label("number"), func.min(hint_table.c.next_at).label("oldest")).where(due_hints)
    ).one()
    searches = tx.run(select(func.count()).where(identify_table.c.next_at <= tx.now)).scalar_one()
    paused = tx.run(select(func.count()).where(business_table.c.paused_until > tx.now)).scalar_one()
    return Load(
        operations={state.value: 0 for state in UNSETTLED} | _counts(tx, states, operation_table.c.state),
        oldest_pending=_age(tx, tx.run(pending_since).scalar()),
        hints=hints.number,
        oldest_hint=_age(tx, hints.oldest),
        searches=searches,
        connections={health.value: 0 for health in Health} | _counts(tx, _HEALTHS, connection_table.c.health),
        paused_businesses=paused,
        counters=counters.read_counters(tx),
        queue=None if embedded else job_queue.state(tx),
        members={} if embedded else _members(tx),
    )


_HEALTHS = select(connection_table.c.health, func.count().label("number"))


def _counts(tx: Transaction, query: Select[tuple[str, int]], column: ColumnElement[str]) -> dict[str, int]:
    return {row[0]: row.number for row in tx.run(query.group_by(column))}


def _age(tx: Transaction, since: int | None) -> float:
    return max(0.0, (tx.now - since) / 1_000_000) if since is not None else 0.0


def _members(tx: Transaction) -> dict[str, int]:
    found: dict[str, int] = {}
    for member in members.list_all(tx):
        found[member.role.value] = found.get(member.role.value, 0) + 1
    return found

"""The schedule of reads: which tills are due for a poll or a second look, and when each is next.

Owns what is due and the claims of it; how long the pauses are is `connectors.domain.retry_pauses`'.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

from sqlalchemy import ColumnElement, case, func, select

from connectors.domain.connection import WORKING, Connection, Health
from connectors.domain.events import Wakeup
from connectors.domain.retry_pauses import (
    HOOKS_ARRIVE_FOR,
    LOOKBACK_AFTER_START,
    LOOKBACK_ENDS_WITHIN,
    RECHECK,
    SOON,
    YOUNG_FOR,
    poll_pause,
    recheck_pause,
)
from connectors.store import inbox
from connectors.store.connections import registry
from connectors.store.connections.registry import connection_of
from connectors.store.counters import issue_tickets
from connectors.store.engine import Transaction
from connectors.store.query_parts import claiming
from connectors.store.schema import connection_table


@dataclass(frozen=True, slots=True)
class DueRead:
    """A read that is due and claimed; `ticket` orders what it will see.

    `others` are the connections that it serves beside the one that it is of.
    """

    connection: Connection
    ticket: int
    others: tuple[Connection, ...] = ()


def lease_polls(tx: Transaction, limit: int, only: str | None = None) -> list[DueRead]:
    """Lease the polls that are due (or one connection's, due or not), and set when each is next."""
    return _lease(tx, connection_table.c.next_poll_at, limit, only, _pause_of_poll)


def lease_lookbacks(tx: Transaction, limit: int, only: str | None = None) -> list[DueRead]:
    """Lease the second looks that are due (or one connection's, due or not); how each ends says when it is next."""
    return _lease(tx, connection_table.c.next_lookback_at, limit, only, _until_lookback_ends)


def _until_lookback_ends(_connection: Connection, _now: int) -> int:
    return LOOKBACK_ENDS_WITHIN


def lease_rechecks(tx: Transaction, limit: int) -> list[Connection]:
    """Lease refused connections of which it is time to ask whether they may work again, and set when that is next.

    Pauses grow with the time that they have been refused: from five minutes to a day.
    """
    refused = (connection_table.c.health == Health.needs_authorisation) & (connection_table.c.next_poll_at <= tx.now)
    query = select(connection_table).where(refused).order_by(connection_table.c.next_poll_at).limit(limit)
    leased = [connection_of(row) for row in tx.run(claiming(query, connection_table))]
    if leased:
        times = {
            connection.id: tx.now + _spread(recheck_pause(tx.now - connection.health_since)) for connection in leased
        }
        registry.set_times(tx, "next_poll_at", times)
    return leased


def pass_on_polls(tx: Transaction, limit: int) -> list[Connection]:
    """Set when each poll that is due is next, and list their connections: others read them, with `begin_read`."""
    return [group[0] for group in _claim(tx, connection_table.c.next_poll_at, limit, None, _pause_of_poll)]


def pass_on_lookbacks(tx: Transaction, limit: int) -> list[Connection]:
    """Lease each second look that is due, and list their connections."""
    column = connection_table.c.next_lookback_at
    return [group[0] for group in _claim(tx, column, limit, None, _until_lookback_ends)]


def begin_read(tx: Transaction, connection_id: str) -> list[DueRead]:
    """Begin a read that was passed on: with a ticket of now, and none where the connection stopped meanwhile."""
    connection = registry.by_ids(tx, [connection_id]).get(connection_id)
    if connection is None or connection.health not in WORKING:
        return []
    return [DueRead(connection, issue_tickets(tx, 1), tuple(_others_alike(tx, [connection])))]


def _pause_of_poll(connection: Connection, now: int) -> int:
    hooks_arrive = connection.last_hook_at is not None and now - connection.last_hook_at < HOOKS_ARRIVE_FOR
    failing_for = now - (connection.last_poll_at or connection.authorised_at)
    return poll_pause(connection.poll_seconds, connection.failures, failing_for, hooks_arrive=hooks_arrive)


def _lease(
    tx: Transaction,
    column: ColumnElement[int],
    limit: int,
    only: str | None,
    pause: Callable[[Connection, int], int],
) -> list[DueRead]:
    groups = _claim(tx, column, limit, only, pause)
    if not groups:
        return []
    # in the commit that claims: whoever claims later has the larger ticket, and so the newer read
    first = issue_tickets(tx, len(groups))
    return [DueRead(group[0], first + number, tuple(group[1:])) for number, group in enumerate(groups)]


def _claim(
    tx: Transaction,
    column: ColumnElement[int],
    limit: int,
    only: str | None,
    pause: Callable[[Connection, int], int],
) -> list[list[Connection]]:
    """Set when each read that is due is next; list the connections of each, the one it is of first."""
    # failing ones too: it is how they are found to work again
    working = select(connection_table).where(connection_table.c.health.in_(WORKING))
    due = working.where(connection_table.c.id == only) if only else working.where(column <= tx.now)
    claimed = _one_of_each_group(
        [connection_of(row) for row in tx.run(claiming(due.order_by(column).limit(limit), connection_table))]
    )
    if not claimed:
        return []
    # whoever reads alike is read with it, and need not be read by itself until then
    together = [*claimed, *_others_alike(tx, claimed)]
    times = {connection.id: tx.now + _spread(pause(connection, tx.now)) for connection in together}
    registry.set_times(tx, str(column.key), times)
    served = {_group(connection): [connection] for connection in claimed}
    for other in together[len(claimed) :]:
        served[_group(other)].append(other)
    return list(served.values())


def _group(connection: Connection) -> tuple[str, ...]:
    """Return what is the same for connections that one read serves; one without `read_key` is a group of its own.

    They are of one business: none may depend on another's token.
    """
    if connection.read_key is None:
        return (connection.id,)
    return (connection.business_id, connection.connector, connection.account.id, connection.read_key)


def _one_of_each_group(claimed: Sequence[Connection]) -> list[Connection]:
    first: dict[tuple[str, ...], Connection] = {}
    for connection in claimed:
        first.setdefault(_group(connection), connection)
    return list(first.values())


def _others_alike(
    tx: Transaction, claimed: Sequence[Connection], among: Collection[Health] = WORKING
) -> list[Connection]:
    """List the connections (the working ones) that are read with one of these, and are none of them."""
    shared = {_group(connection): connection.id for connection in claimed}
    return [other for other in _members(tx, shared, among) if shared[_group(other)] != other.id]


def _members(tx: Transaction, groups: Collection[tuple[str, ...]], among: Collection[Health]) -> list[Connection]:
    """List the connections of groups that one read serves."""
    shared = [group for group in groups if len(group) > 1]
    if not shared:
        return []
    query = select(connection_table).where(
        connection_table.c.account_id.in_(sorted({account for _, _, account, _ in shared})),
        connection_table.c.connector.in_(sorted({connector for _, connector, _, _ in shared})),
        connection_table.c.read_key.is_not(None),
        connection_table.c.health.in_(sorted(among)),
    )
    return [member for row in tx.run(query) if _group(member := connection_of(row)) in groups]


def readers_alike(tx: Transaction, connection: Connection) -> list[Connection]:
    """List the connections that one read of this connection's till serves: itself first, all as they are now."""
    current = registry.by_ids(tx, [connection.id]).get(connection.id, connection)
    return [current, *_others_alike(tx, [current])]


def told_alike(tx: Transaction, fetched_for: Sequence[Connection]) -> dict[str, list[Connection]]:
    """Map connection id to the connections to which a receipt that it fetches may belong: itself first.

    Stopped ones too: a hook is taken for a connection that is paused, or waits for a consent, and its receipts must not
    be lost.
    """
    found = registry.by_ids(tx, [connection.id for connection in fetched_for])
    current = [found.get(connection.id, connection) for connection in fetched_for]
    alike = defaultdict[tuple[str, ...], list[Connection]](list)
    not_removed = [health for health in Health if health is not Health.removed]
    for member in _members(tx, {_group(connection) for connection in current}, not_removed):
        alike[_group(member)].append(member)
    return {
        connection.id: [connection, *(one for one in alike[_group(connection)] if one.id != connection.id)]
        for connection in current
    }


def hand_over_hints(tx: Transaction, connection: Connection) -> None:
    """Give the hints of a connection that stops working to another one that reads alike, where there is one."""
    others = _others_alike(tx, [connection])
    if others:
        inbox.hints.hand_over(tx, connection.id, others[0].id)


_SPREAD = 0.1


def _spread(pause: int) -> int:
    """Make a pause a tenth longer or shorter, so that connections made together do not stay together."""
    return int(pause * random.uniform(1 - _SPREAD, 1 + _SPREAD))  # noqa: S311 - spreads load


def look_back_after(tx: Transaction, ids: Sequence[str], pause: int) -> None:
    """Have the next second look made after a pause, unless somebody asked for one meanwhile."""
    not_asked_for = connection_table.c.id.in_(sorted(ids)) & (connection_table.c.next_lookback_at > tx.now)
    registry.update(tx, not_asked_for, {"next_lookback_at": tx.now + _spread(pause)})


def resume_lookbacks(tx: Transaction) -> None:
    """Have look-backs that the last host may have died in made soon; only a host that is the only one may call this.

    Not at once: should it have died of one, it does all other work for a moment before it tries that again.
    """
    # a claim looks like any other date: regular ones that would come in the same quarter of an hour come with these
    latest = tx.now + int(LOOKBACK_ENDS_WITHIN * (1 + _SPREAD))
    soon = tx.now + LOOKBACK_AFTER_START
    column = connection_table.c.next_lookback_at
    query = select(connection_table.c.id).where(connection_table.c.health.in_(WORKING), column > soon, column <= latest)
    # spread, so that they do not begin together
    first = LOOKBACK_AFTER_START // 2
    times = {row.id: tx.now + random.randint(first, LOOKBACK_AFTER_START) for row in tx.run(query)}  # noqa: S311
    if times:
        registry.set_times(tx, "next_lookback_at", times)


def read_back_now(tx: Transaction, connection_id: str) -> None:
    """Have the last business days read again as soon as may be."""
    registry.update(tx, connection_table.c.id == connection_id, {"next_lookback_at": tx.now})
    tx.wakeups.add(Wakeup.poll)


def poll_soon(tx: Transaction, connection_id: str, pause: int = SOON, young_for: int = YOUNG_FOR) -> None:
    """Poll a young connection again `pause` after the last read: somebody waits for its first receipt."""
    # from the last read, not from now: whoever presses often does not read the till more often
    soon = func.coalesce(connection_table.c.last_poll_at, 0) + pause
    may_be_read = (
        (connection_table.c.id == connection_id)
        & (connection_table.c.health == Health.active)
        & (connection_table.c.failures == 0)
        & (connection_table.c.began_at > tx.now - young_for)
        & (soon <= tx.now)
        & (connection_table.c.next_poll_at > tx.now)
    )
    registry.update(tx, may_be_read, {"next_poll_at": tx.now})
    tx.wakeups.add(Wakeup.poll)


def poll_now(tx: Transaction, connection_id: str) -> None:
    """Poll a till at once, so that its own answer says how the connection is doing; at most every ten seconds.

    A till that fails is read again with growing pauses, which a hook does not shorten.
    """
    # computed in the statement: hooks of one till may arrive at several hosts at once
    due = func.coalesce(connection_table.c.last_poll_at, 0) + RECHECK
    may_be_read = (
        (connection_table.c.id == connection_id)
        & connection_table.c.health.in_(WORKING)
        & (connection_table.c.failures == 0)
        & (connection_table.c.next_poll_at > tx.now)
    )
    registry.update(tx, may_be_read, {"next_poll_at": case((due > tx.now, due), else_=tx.now)})
    tx.wakeups.add(Wakeup.poll)


def poll_after(tx: Transaction, connection_id: str, pause: int) -> None:
    """Poll a till again after `pause` microseconds, and not before: it asked for that."""
    registry.update(tx, connection_table.c.id == connection_id, {"next_poll_at": tx.now + pause})


def check_account_soon(tx: Transaction, connection_id: str) -> None:
    """Have the till asked with its next read what its account is."""
    registry.update(tx, connection_table.c.id == connection_id, {"account_checked_at": None})


def record_account_check(tx: Transaction, asked: Connection, at: int) -> bool:
    """Note that the till was asked what its account is; return `False` where somebody else has asked it meanwhile."""
    unchanged = (
        (connection_table.c.id == asked.id)
        & (connection_table.c.generation == asked.generation)
        & connection_table.c.account_checked_at.is_not_distinct_from(asked.account_checked_at)
    )
    return bool(registry.update(tx, unchanged, {"account_checked_at": at}))


def record_hooks(tx: Transaction, ids: Sequence[str]) -> None:
    """Note that hooks of these connections arrive."""
    registry.update(tx, connection_table.c.id.in_(sorted(set(ids))), {"last_hook_at": tx.now})


def set_checkpoint(tx: Transaction, ids: Sequence[str], checkpoint_at: int) -> None:
    """Note that everything that changed at the till before a moment has been ingested, for these connections."""
    registry.update(tx, connection_table.c.id.in_(sorted(ids)), {"checkpoint_at": checkpoint_at})


def record_read(tx: Transaction, ids: Sequence[str], *, lookback: bool, checkpoint_at: int | None) -> list[str]:
    """Note that a read went through to its end, and how far it came; return those that were failing.

    Failures are counted anew.
    """
    # a second look counts as a poll as well: it has shown that the till answers
    columns = {"last_poll_at": tx.now, "failures": 0}
    if lookback:
        columns["last_lookback_at"] = tx.now
    if checkpoint_at is not None:
        columns["checkpoint_at"] = checkpoint_at
    return registry.update_and_list(tx, connection_table.c.id.in_(sorted(ids)), columns, Health.failing)


def shift_times(tx: Transaction, before: int, jump: int) -> None:
    """Move the times of reads to come with a clock that jumped."""
    for column in (connection_table.c.next_poll_at, connection_table.c.next_lookback_at, connection_table.c.send_after):
        registry.update(tx, column > before, {str(column.key): column + jump})


def count_failure(tx: Transaction, connection_id: str) -> int:
    """Count a read that failed; return how many have failed in a row."""
    failing = connection_table.c.id == connection_id
    registry.update(tx, failing, {"failures": connection_table.c.failures + 1})
    return int(tx.run(select(connection_table.c.failures).where(failing)).scalar_one())

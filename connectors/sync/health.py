"""Health: what the outcome of a call says of a connection.

Owns when a connection counts as failing or as needing authorisation; a call that was made with older settings than the
connection has now says nothing of it any more.
"""

from __future__ import annotations

from collections.abc import Sequence

from connector_sdk.errors import MissingRight, NotAuthorised
from connector_sdk.messages import Message
from connectors.domain.clock import SECOND
from connectors.domain.connection import WORKING, Connection, Health
from connectors.domain.retry_pauses import FAILURES_UNTIL_FAILING
from connectors.sevenstamp.client import InvalidKey, Limited
from connectors.store import connections, ledger
from connectors.store.engine import Transaction


def report_unwell(tx: Transaction, seen: Connection, health: Health, reason: Message) -> None:
    """Change a connection's health because a call made with it as `seen` failed, unless it was changed meanwhile."""
    current = connections.registry.by_ids(tx, [seen.id]).get(seen.id)
    # the generation goes up with every change by a person: then this call says nothing of the connection as it is
    if current is not None and current.generation == seen.generation and current.health in WORKING:
        connections.registry.set_health(tx, seen.id, health, reason)
        if health not in WORKING:
            connections.schedule.hand_over_hints(tx, current)


def why_refused(error: NotAuthorised) -> Message:
    """Return what a cafe is told where its till lets us in no more."""
    if isinstance(error, MissingRight):
        return Message("why.missing_right", {"right": error.right})
    return Message("why.till_refuses")


def report_key_failure(tx: Transaction, key_hash: str, failure: object) -> None:
    """Do what a failed call to 7stamp says of its key: have every connection that uses it ask for authorisation.

    Where 7stamp asks for a pause, nothing is sent with the key until that is over; other failures say nothing of it.
    """
    match failure:
        case InvalidKey():
            reason = Message("why.key_refused")
            connections.registry.set_health_of_key(tx, key_hash, Health.needs_authorisation, reason)
        case Limited(retry_after=seconds):
            connections.registry.pause_key(tx, key_hash, tx.now + int(seconds * SECOND))


def record_read(
    tx: Transaction, ids: Sequence[str], *, lookback: bool = False, checkpoint_at: int | None = None
) -> None:
    """Note that a read for these connections went through to its end: one that was failing works again."""
    # only out of this state: a pause or a refused key is not undone by a read that happened to succeed
    for connection_id in connections.schedule.record_read(tx, ids, lookback=lookback, checkpoint_at=checkpoint_at):
        connections.registry.set_health(tx, connection_id, Health.active, None)


def record_failed_reads(
    tx: Transaction, seen: Connection, others: Sequence[str], reason: Message, *, retry_after: float | None
) -> None:
    """Note that a read failed, for the connection that read and for others that waited for it."""
    record_failed_read(tx, seen, reason, retry_after=retry_after)
    for other in connections.registry.by_ids(tx, others).values():
        record_failed_read(tx, other, reason, retry_after=retry_after)


def record_failed_read(tx: Transaction, seen: Connection, reason: Message, *, retry_after: float | None) -> None:
    """Note that a read failed: try later (`retry_after` seconds, where the till says so), and say what happens.

    The first failure is a line in the journal; from the third in a row on the connection counts as failing.
    """
    # counted in the database, so that failures add up across processes and restarts
    failures = connections.schedule.count_failure(tx, seen.id)
    if retry_after is not None:
        connections.schedule.poll_after(tx, seen.id, int(retry_after * SECOND))
    if failures >= FAILURES_UNTIL_FAILING:
        report_unwell(tx, seen, Health.failing, reason)
    # the second failure says nothing that the first did not
    elif failures == 1:
        ledger.journal.write(tx, seen.id, Message("connection.slow", {"why": reason}))

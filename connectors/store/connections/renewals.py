"""Renewals of grants: which are due, and who has the lease of each.

Owns the lease, which the database holds to one renewal at a time per connection across processes; trading one grant for
the next is `connectors.sync.renewals`'.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from sqlalchemy import ColumnElement, func, select

from connector_sdk.authorisation import Grant
from connector_sdk.messages import Message
from connectors.domain.clock import micros
from connectors.domain.connection import Connection, Health
from connectors.domain.events import Wakeup
from connectors.domain.renewal import LEASE, failure_pause, last_resort, trouble_after
from connectors.store import ledger
from connectors.store.connections import registry, stored_grants
from connectors.store.connections.stored_grants import completed, of_connection
from connectors.store.engine import Transaction
from connectors.store.schema import connection_table

_INTERRUPTED = 1
"""In `renewing_until`: nobody has the lease, and nobody knows what came of the one before."""


@dataclass(frozen=True, slots=True)
class Leased:
    """The renewal is the caller's: `grant` is to be traded for the next."""

    connection: Connection
    grant: Grant


@dataclass(frozen=True, slots=True)
class Renewed:
    """There is a newer grant than the one that was refused."""

    grant: Grant


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else renews it now."""


@dataclass(frozen=True, slots=True)
class Ended:
    """There is nothing to renew: no grant, or one that cannot be renewed (any more)."""


def due(tx: Transaction, limit: int) -> list[str]:
    """List connections whose grants are to be renewed now, the most urgent first."""
    is_due = (
        (connection_table.c.renew_at <= tx.now)
        & (connection_table.c.renewing_until <= tx.now)
        # a paused connection's consent must not end meanwhile
        & (connection_table.c.health != Health.removed)
    )
    query = select(connection_table.c.id).where(is_due).order_by(connection_table.c.renew_at).limit(limit)
    return list(tx.run(query).scalars())


def begin_renewal(tx: Transaction, connection_id: str, refused: Grant | None) -> Leased | Renewed | Busy | Ended:
    """Lease the renewal of a grant, unless another one than the `refused` is there already.

    Without `refused` it is renewed only where that is due.
    """
    connection = registry.by_ids(tx, [connection_id]).get(connection_id)
    grant = of_connection(tx.vault, connection) if connection is not None else None
    if connection is None or grant is None or connection.health is Health.removed:
        return Ended()
    if refused is not None and not _are_same(grant, refused):
        return Renewed(grant)
    if refused is None and (connection.renew_at is None or connection.renew_at > tx.now):
        return Renewed(grant)
    if connection.renew_at is None:
        return Ended()
    if grant.single_use and _is_doubtful(connection, tx.now):
        if refused is None:
            # whoever had the lease has died: the token may be used up. While the access is good, it is not risked
            interrupt_renewal(tx, Leased(connection, grant))
            return Renewed(grant)
        return Ended()
    # one conditional update: of two processes one has the lease
    is_free = (connection_table.c.id == connection_id) & (connection_table.c.renewing_until <= tx.now)
    if not registry.update(tx, is_free, {"renewing_until": tx.now + LEASE}):
        return Busy()
    return Leased(connection, grant)


def _is_doubtful(connection: Connection, now: int) -> bool:
    """Say whether nobody knows what came of the last renewal, and it is not yet the time to try once more."""
    if connection.renewing_until == _INTERRUPTED:
        return connection.renew_at is None or connection.renew_at > now
    return 0 < connection.renewing_until <= now


def _are_same(grant: Grant, other: Grant) -> bool:
    return dict(grant.secrets) == dict(other.secrets)


def finish_renewal(tx: Transaction, leased: Leased, grant: Grant) -> Grant:
    """Store what a grant was traded for, unless a person consented anew meanwhile; return what counts now."""
    connection = _with_the_grant(tx, leased)
    if connection is None:
        current = registry.by_ids(tx, [leased.connection.id])[leased.connection.id]
        return of_connection(tx.vault, current) or grant
    # what the till does not repeat stays good: many tills give the refresh token only once
    grant = completed(replace(grant, secrets={**leased.grant.secrets, **grant.secrets}), tx.now)
    if not registry.update(tx, _has_grant(connection), stored_grants.columns(tx, grant)):
        return finish_renewal(tx, leased, grant)  # changed between the two statements: looked at once more
    if connection.consent_trouble_at is not None:
        ledger.journal.write(tx, connection.id, Message("consent.renewed"))
    return grant


def fail_renewal(tx: Transaction, leased: Leased, why: Message, *, retry_after: int = 0) -> None:
    """Have a renewal that failed tried again after a growing pause; the journal says so the first time."""
    failures = _count_failure(tx, leased)
    if not failures:
        return
    grant = leased.grant
    issued_at = micros(grant.issued_at) if grant.issued_at else tx.now
    told_after = trouble_after(issued_at, micros(grant.expires_at) if grant.expires_at else None)
    trouble_at = func.coalesce(connection_table.c.consent_trouble_at, tx.now + told_after)
    pause = max(failure_pause(failures), retry_after)
    registry.update(
        tx,
        connection_table.c.id == leased.connection.id,
        {"renew_at": tx.now + pause, "renewing_until": 0, "consent_trouble_at": trouble_at},
    )
    if failures == 1:
        ledger.journal.write(tx, leased.connection.id, Message("consent.not_renewed", {"why": why}))


def interrupt_renewal(tx: Transaction, leased: Leased) -> None:
    """Note that nobody knows what came of trading a token that is good once: the cafe is told at once.

    The token is not shown again before the grant is about to end.
    """
    grant = leased.grant
    if grant.expires_at is None or not _count_failure(tx, leased):
        return
    again_at = last_resort(micros(grant.issued_at) if grant.issued_at else tx.now, micros(grant.expires_at))
    is_it = connection_table.c.id == leased.connection.id
    columns = {"renew_at": max(again_at, tx.now), "renewing_until": _INTERRUPTED, "consent_trouble_at": tx.now}
    registry.update(tx, is_it, columns)
    ledger.journal.write(tx, leased.connection.id, Message("consent.interrupted"))


def refuse_renewal(tx: Transaction, leased: Leased, why: Message) -> None:
    """Note that the till renews a grant no more: the cafe is told at once, while the grant is still good."""
    if not _count_failure(tx, leased):
        return
    is_it = connection_table.c.id == leased.connection.id
    registry.update(tx, is_it, {"renew_at": None, "renewing_until": 0, "consent_trouble_at": tx.now})
    ledger.journal.write(tx, leased.connection.id, Message("consent.ends", {"why": why}))
    tx.wakeups.add(Wakeup.poll)


def _with_the_grant(tx: Transaction, leased: Leased) -> Connection | None:
    """Return the connection as it is now, where it still has the grant that was leased; `None` where it has another.

    Compared by what the grant holds: a title, a venue or another key of encryption changes nothing about it.
    """
    connection = registry.by_ids(tx, [leased.connection.id]).get(leased.connection.id)
    grant = of_connection(tx.vault, connection) if connection is not None else None
    return connection if grant is not None and _are_same(grant, leased.grant) else None


def _has_grant(connection: Connection) -> ColumnElement[bool]:
    """Return the condition that a connection still has the very grant with which it was read."""
    return (connection_table.c.id == connection.id) & (connection_table.c.grant_secrets == connection.grant)


def _count_failure(tx: Transaction, leased: Leased) -> int:
    """Count a failure of the grant that was leased; 0 where the connection has another one by now."""
    connection = _with_the_grant(tx, leased)
    if connection is None:
        return 0
    is_it = _has_grant(connection)
    if not registry.update(tx, is_it, {"renewal_failures": connection_table.c.renewal_failures + 1}):
        return 0
    return int(tx.run(select(connection_table.c.renewal_failures).where(is_it)).scalar_one())

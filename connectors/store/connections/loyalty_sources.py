"""Loyalty sources: where 7stamp posts the events of each business, and the secret that proves them.

Owns the table `loyalty_source`; when 7stamp is told is `connectors.sync.loyalty_subscriptions`'.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field

from sqlalchemy import ColumnElement, func, or_, select

from connectors.domain.clock import DAY, HOUR, MINUTE
from connectors.domain.connection import WORKING
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import connection_table, loyalty_source_table

_SECRET_BYTES = 32
_FORMER_SECRET_LIVES = DAY
_TOLD_EVERY = DAY
"""7stamp is told once a day also what it knows: it may have dropped an address that failed for long."""
_LONGEST_PAUSE = 6 * HOUR


@dataclass(frozen=True, slots=True)
class LoyaltySource:
    """A business's address for events: its token, and the secrets that prove them, the one in use first."""

    business_id: str
    token: str = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)
    webhook_id: str | None
    origin: str | None
    failures: int
    last_event_at: int | None


def _source(tx: Transaction, row: AnyRow) -> LoyaltySource:
    former = tx.vault.decrypt(row.former_secret) if row.former_secret and row.former_until > tx.now else None
    return LoyaltySource(
        business_id=row.business_id,
        token=tx.vault.decrypt(row.token),
        secrets=(tx.vault.decrypt(row.secret), *((former,) if former else ())),
        webhook_id=row.webhook_id,
        origin=row.origin,
        failures=row.failures,
        last_event_at=row.last_event_at,
    )


def find(tx: Transaction, business_id: str) -> LoyaltySource | None:
    """Read a business's source; `None` where it has none."""
    row = tx.run(select(loyalty_source_table).where(_of(business_id))).first()
    return _source(tx, row) if row is not None else None


def by_token(tx: Transaction, token: str) -> LoyaltySource | None:
    """Find the source at an address."""
    is_token = loyalty_source_table.c.token_hash == tx.vault.hash("loyalty token", token)
    row = tx.run(select(loyalty_source_table).where(is_token)).first()
    return _source(tx, row) if row is not None else None


def _of(business_id: str) -> ColumnElement[bool]:
    return loyalty_source_table.c.business_id == business_id


def get_or_make(tx: Transaction, business_id: str) -> LoyaltySource:
    """Read a business's source, made where there is none."""
    token = secrets.token_urlsafe(24)
    row = {
        "business_id": business_id,
        "token": tx.vault.encrypt(token),
        "token_hash": tx.vault.hash("loyalty token", token),
        "secret": tx.vault.encrypt(_make_secret()),
        "next_at": tx.now,
    }
    tx.run(tx.insert(loyalty_source_table).values(row).on_conflict_do_nothing())
    return _source(tx, tx.run(select(loyalty_source_table).where(_of(business_id))).one())


def _make_secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(_SECRET_BYTES)).decode()}"


def renew_secret(tx: Transaction, business_id: str) -> None:
    """Make another secret, of which 7stamp is to be told; the one before proves events for a day longer."""
    columns = {
        # in SQL, so that the secret that stands there now is kept, whatever was read before
        "former_secret": loyalty_source_table.c.secret,
        "former_until": tx.now + _FORMER_SECRET_LIVES,
        "secret": tx.vault.encrypt(_make_secret()),
        "next_at": tx.now,
    }
    tx.run(loyalty_source_table.update().where(_of(business_id)).values(columns))


def record_told(tx: Transaction, business_id: str, webhook_id: str, origin: str) -> None:
    """Note that 7stamp posts to the address now; it is told again in a day."""
    columns = {"webhook_id": webhook_id, "origin": origin, "next_at": tx.now + _TOLD_EVERY, "failures": 0}
    tx.run(loyalty_source_table.update().where(_of(business_id)).values(columns))


def record_failure(tx: Transaction, source: LoyaltySource) -> None:
    """Note that 7stamp could not be told: it is tried again with growing pauses."""
    pause = min(MINUTE * 2 ** min(source.failures, 10), _LONGEST_PAUSE)
    columns = {"failures": source.failures + 1, "next_at": tx.now + pause}
    tx.run(loyalty_source_table.update().where(_of(source.business_id)).values(columns))


def record_event(tx: Transaction, business_ids: set[str]) -> None:
    """Note that events of these businesses arrived."""
    known = loyalty_source_table.c.business_id.in_(sorted(business_ids))
    tx.run(loyalty_source_table.update().where(known).values(last_event_at=tx.now))


def delete(tx: Transaction, business_id: str) -> None:
    """Delete a business's source: whoever posts to its address finds nobody."""
    tx.run(loyalty_source_table.delete().where(_of(business_id)))


@dataclass(frozen=True, slots=True)
class DueSource:
    """A business of whose address 7stamp is to be told, by the key of one of its working connections."""

    business_id: str
    connection_id: str


def due(tx: Transaction, origin: str, limit: int) -> list[DueSource]:
    """List businesses with a working connection that have no source, or whose 7stamp is to be told again.

    That is so once a day, after a failure, and where it was told another address of this host than `origin`.
    """
    source = loyalty_source_table
    # another address is tried at once, but one that 7stamp refuses is not tried in a circle
    is_elsewhere = (source.c.origin != origin) & (source.c.failures == 0)
    is_due = or_(source.c.business_id.is_(None), source.c.next_at <= tx.now, is_elsewhere)
    rows = tx.run(
        select(connection_table.c.business_id, func.min(connection_table.c.id).label("connection_id"))
        .join(source, source.c.business_id == connection_table.c.business_id, isouter=True)
        .where(connection_table.c.health.in_(WORKING), is_due)
        .group_by(connection_table.c.business_id)
        .order_by(connection_table.c.business_id)
        .limit(limit)
    )
    return [DueSource(row.business_id, row.connection_id) for row in rows]

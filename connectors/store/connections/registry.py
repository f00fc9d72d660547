"""The registry of connections: what each joins, its secrets, and how it is doing.

Owns the table `connection`. When each is read next is computed in `schedule`, which asks for the change here; what a
new or removed connection means for the ledger is `connectors.sync.lifecycle`'s.
"""

from __future__ import annotations

import json
import secrets
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from sqlalchemy import ColumnElement, and_, bindparam, func, or_, select

from connector_sdk.authorisation import Grant
from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connectors.domain.clock import SECOND
from connectors.domain.connection import WORKING, Business, Connection, Health, Stretch
from connectors.domain.events import HealthChanged, Wakeup
from connectors.domain.retry_pauses import FORMER_ADDRESS_LIVES
from connectors.store import ledger
from connectors.store.connections import stored_grants
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound
from connectors.store.query_parts import AnyRow
from connectors.store.schema import business_table, connection_table

_MOST_SKIPPED = 100
_account = lru_cache(maxsize=4096)(TillAccount.model_validate_json)
"""An account of its stored text: an immutable value, of texts that come again and again, parsed once."""
_NOT_REMOVED = connection_table.c.health != Health.removed


# Reading


def connection_of(row: AnyRow) -> Connection:
    """Build the value of a row that has all columns of the table."""
    return Connection(
        # settings, key and token stay encrypted in the value: whoever needs one decrypts it where it is used
        id=row.id,
        connector=row.connector,
        account=_account(row.account),
        business_id=row.business_id,
        title=row.title,
        scope=tuple(json.loads(row.scope)),
        health=Health(row.health),
        health_since=row.health_since,
        authorised_at=row.authorised_at,
        reason=Message.restored(row.reason) if row.reason else None,
        began_at=row.began_at,
        poll_seconds=row.poll_seconds,
        next_poll_at=row.next_poll_at,
        next_lookback_at=row.next_lookback_at,
        checkpoint_at=row.checkpoint_at,
        last_poll_at=row.last_poll_at,
        last_lookback_at=row.last_lookback_at,
        last_hook_at=row.last_hook_at,
        key_hash=row.key_hash,
        failures=row.failures,
        generation=row.generation,
        settings=row.settings,
        sevenstamp_key=row.sevenstamp_key,
        hook_token=row.hook_token,
        key_login=row.key_login,
        expires_at=row.expires_at,
        skipped=tuple(Stretch(start, end) for start, end in json.loads(row.skipped)),
        former_hook_until=row.former_hook_until,
        refused_at=row.refused_at,
        grant=row.grant_secrets,
        renew_at=row.renew_at,
        renewing_until=row.renewing_until,
        consent_trouble_at=row.consent_trouble_at,
        account_checked_at=row.account_checked_at,
        left_out=tuple(json.loads(row.left_out)) if row.left_out is not None else None,
        read_key=row.read_key,
        subscribed=row.subscribed,
        claim_consent=row.claim_consent,
    )


def get(tx: Transaction, connection_id: str) -> Connection:
    """Read a connection that is not removed. Raises `NotFound`, which names the known ones."""
    connection = find(tx, connection_id)
    if connection is None:
        known = ", ".join(connection.id for connection in list_all(tx))
        # a mistyped id is the usual reason: naming the others is the way out
        way_out = f"known: {known}" if known else "none is connected"
        raise NotFound(f"there is no connection {connection_id!r}; {way_out}")
    return connection


def lock(tx: Transaction, connection_id: str) -> Connection:
    """Read a connection for a change: others that change it wait. Raises `NotFound`."""
    tx.run(select(connection_table.c.id).where(connection_table.c.id == connection_id).with_for_update())
    return get(tx, connection_id)


def find(tx: Transaction, connection_id: str) -> Connection | None:
    """Read a connection that is not removed; `None` where there is none."""
    row = tx.run(select(connection_table).where(connection_table.c.id == connection_id, _NOT_REMOVED)).first()
    return connection_of(row) if row is not None else None


def list_all(tx: Transaction, business_id: str | None = None) -> list[Connection]:
    """List all connections (of a business) that are not removed, oldest first."""
    query = select(connection_table).where(_NOT_REMOVED)
    if business_id is not None:
        query = query.where(connection_table.c.business_id == business_id)
    rows = tx.run(query.order_by(connection_table.c.began_at, connection_table.c.id))
    return [connection_of(row) for row in rows]


def asking(tx: Transaction, business_id: str, preferred: str | None = None) -> Connection | None:
    """Return the connection whose 7stamp key asks for a business: the preferred one, or else one that works.

    `None` where the business has none.
    """
    mine = list_all(tx, business_id)
    return min(mine, key=lambda one: (one.health not in WORKING, one.id != preferred), default=None)


def count(tx: Transaction) -> int:
    """Count all connections, the removed ones too."""
    return int(tx.run(select(func.count()).select_from(connection_table)).scalar_one())


def count_of_business(tx: Transaction, business_id: str) -> int:
    """Count the connections of a business that are not removed."""
    number = select(func.count()).select_from(connection_table)
    return int(tx.run(number.where(connection_table.c.business_id == business_id, _NOT_REMOVED)).scalar_one())


_OF_IDS = select(connection_table).where(connection_table.c.id.in_(bindparam("ids", expanding=True)))


def by_ids(tx: Transaction, ids: Sequence[str]) -> dict[str, Connection]:
    """Map id to connection, removed ones too, for those that there are."""
    return {row.id: connection_of(row) for row in tx.run(_OF_IDS, {"ids": list(ids)})}


class AccountKey(NamedTuple):
    """What names a till account."""

    connector: str
    id: str


_OF_ACCOUNTS = select(connection_table).where(
    connection_table.c.connector.in_(bindparam("connectors", expanding=True)),
    connection_table.c.account_id.in_(bindparam("ids", expanding=True)),
    _NOT_REMOVED,
)


def of_account(tx: Transaction, connector: str, account_id: str) -> list[Connection]:
    """List the connections of a till account that are not removed."""
    return of_accounts(tx, [AccountKey(connector, account_id)])[0]


def of_accounts(tx: Transaction, accounts: Sequence[AccountKey]) -> list[list[Connection]]:
    """List the connections of each of several till accounts that are not removed."""
    ids, names = {account.id for account in accounts}, {account.connector for account in accounts}
    found = defaultdict[AccountKey, list[Connection]](list)
    for row in tx.run(_OF_ACCOUNTS, {"ids": sorted(ids), "connectors": sorted(names)}):
        found[AccountKey(row.connector, row.account_id)].append(connection_of(row))
    return [list(found[account]) for account in accounts]


def removed_of_account(tx: Transaction, connector: str, account_id: str, business_id: str) -> list[Connection]:
    """List the removed connections of a business to a till account, the one removed last first."""
    query = select(connection_table).where(
        connection_table.c.connector == connector,
        connection_table.c.account_id == account_id,
        connection_table.c.business_id == business_id,
        connection_table.c.health == Health.removed,
    )
    return [connection_of(row) for row in tx.run(query.order_by(connection_table.c.health_since.desc()))]


def all_of_business(tx: Transaction, business_id: str) -> list[Connection]:
    """List all connections of a business, the removed ones too."""
    query = select(connection_table).where(connection_table.c.business_id == business_id)
    return [connection_of(row) for row in tx.run(query.order_by(connection_table.c.id))]


def by_hook_token(tx: Transaction, connector: str, token: str) -> Connection | None:
    """Find the connection at a hook address of its own, or at the one it had before while that still lives."""
    token_hash = tx.vault.hash("hook token", token)
    # the address from before the last renewal is answered for a day, for tills whose cafe changes it by hand
    is_former = and_(
        connection_table.c.former_hook_token_hash == token_hash, connection_table.c.former_hook_until > tx.now
    )
    row = tx.run(
        select(connection_table).where(
            or_(connection_table.c.hook_token_hash == token_hash, is_former),
            connection_table.c.connector == connector,
            _NOT_REMOVED,
        )
    ).first()
    return connection_of(row) if row else None


_SENDABLE = (
    select(connection_table.c.id, connection_table.c.generation)
    # both pauses count: of a key that was told to wait, and of a business whose plan is used up
    .join(business_table, business_table.c.id == connection_table.c.business_id)
    .where(
        connection_table.c.id.in_(bindparam("ids", expanding=True)),
        connection_table.c.health.in_(WORKING),
        connection_table.c.send_after <= bindparam("now"),
        business_table.c.paused_until <= bindparam("now"),
    )
)


def sendable(tx: Transaction, ids: Collection[str]) -> dict[str, int]:
    """Map those of these connections for which something may be sent now to their generations."""
    return {row.id: row.generation for row in tx.run(_SENDABLE, {"ids": sorted(ids), "now": tx.now})}


# Writing


@dataclass(frozen=True, slots=True)
class NewConnection:
    """A connection to store; `settings` and `sevenstamp_key` in the clear, times in UTC microseconds."""

    connector: str
    account: TillAccount
    business: Business
    title: str
    scope: tuple[str, ...]
    settings: Mapping[str, object] = field(repr=False)
    sevenstamp_key: str = field(repr=False)
    poll_seconds: int | None
    key_login: str | None = None
    grant: Grant | None = field(default=None, repr=False)
    read_key: str | None = None
    hook_token: str | None = field(default=None, repr=False)
    """The token of an address that the till knows already; one is made where there is none."""


def insert(tx: Transaction, new: NewConnection) -> str:
    """Store a connection that is read at once; return its id."""
    connection_id = _unused_id(tx, new.connector)
    token = new.hook_token or secrets.token_urlsafe(24)
    row = {
        "id": connection_id,
        "connector": new.connector,
        "account_id": new.account.id,
        "account": new.account.model_dump_json(),
        "business_id": new.business.id,
        "title": new.title,
        "scope": json.dumps(new.scope),
        "health": Health.active,
        "health_since": tx.now,
        "authorised_at": tx.now,
        "began_at": tx.now,
        "poll_seconds": new.poll_seconds,
        "next_poll_at": tx.now,
        # a second later than the first poll, so that the newest receipts show first
        "next_lookback_at": tx.now + SECOND,
        "failures": 0,
        "generation": 1,
        "settings": tx.vault.encrypt(json.dumps(new.settings)),
        **_key_columns(tx, new.sevenstamp_key, new.key_login),
        **_hook_columns(tx, token),
        "account_checked_at": tx.now,
        "left_out": _left_out(new.scope, new.account),
        "read_key": new.read_key,
        **stored_grants.columns(tx, new.grant),
    }
    tx.run(connection_table.insert(), [row])
    return connection_id


def _unused_id(tx: Transaction, connector: str) -> str:
    """Choose an id: short, for people read it out, and none that a connection has or had."""
    while True:
        connection_id = f"{connector}-{secrets.token_hex(3)}"
        if not by_ids(tx, [connection_id]):
            return connection_id


def _left_out(scope: tuple[str, ...], account: TillAccount) -> str:
    """Return the locations that whoever chose the scope saw and left out."""
    return json.dumps([location.id for location in account.locations if scope and location.id not in scope])


def _key_columns(tx: Transaction, key: str, login: str | None) -> dict[str, str | None]:
    return {
        "sevenstamp_key": tx.vault.encrypt(key),
        "key_hash": tx.vault.hash("7stamp key", key),
        "key_login": login,
    }


def _hook_columns(tx: Transaction, token: str) -> dict[str, str]:
    return {"hook_token": tx.vault.encrypt(token), "hook_token_hash": tx.vault.hash("hook token", token)}


def update(tx: Transaction, condition: ColumnElement[bool], columns: Mapping[str, object]) -> int:
    """Change columns of the connections that a condition says; return how many.

    For `schedule` and for this module: nothing here is journalled, so whoever changes what a person would ask about
    writes the line.
    """
    return tx.run(connection_table.update().where(condition).values(columns)).rowcount


def update_and_list(
    tx: Transaction, condition: ColumnElement[bool], columns: Mapping[str, object], health: Health
) -> list[str]:
    """Change columns as `update` does, and list the ids of those that are of this health."""
    change = connection_table.update().where(condition).values(columns)
    rows = tx.run(change.returning(connection_table.c.id, connection_table.c.health)).all()
    return [row.id for row in rows if row.health == health]


def set_times(tx: Transaction, column: str, times: Mapping[str, int]) -> None:
    """Set one column of times, for many connections at once: connection id → UTC microseconds."""
    change = connection_table.update().where(connection_table.c.id == bindparam("id_"))
    rows = [{"id_": connection_id, "time_": at} for connection_id, at in times.items()]
    tx.run(change.values({column: bindparam("time_")}), rows)


@dataclass(frozen=True, slots=True)
class ConnectionChange:
    """What to change; `None` leaves a field as it is.

    `key_login` goes with the key, `read_key` with settings and account. `ends_grant` drops the grant that the
    connection has: a token was pasted instead. `left_out` goes with `scope`; without it whoever chose the scope has
    seen all locations, and left out the others.
    """

    title: str | None = None
    scope: tuple[str, ...] | None = None
    settings: Mapping[str, object] | None = field(default=None, repr=False)
    account: TillAccount | None = None
    sevenstamp_key: str | None = field(default=None, repr=False)
    poll_seconds: int | None = None
    key_login: str | None = None
    grant: Grant | None = field(default=None, repr=False)
    ends_grant: bool = False
    left_out: tuple[str, ...] | None = None
    read_key: str | None = None


def change(tx: Transaction, connection: Connection, wanted: ConnectionChange) -> None:
    """Write what changes; senders and readers notice by the generation."""
    # whatever changes: cached connectors and senders of the former generation are dropped
    columns: dict[str, object] = {"generation": connection_table.c.generation + 1}
    if wanted.scope is not None:
        columns["scope"] = json.dumps(wanted.scope)
    if wanted.title is not None:
        columns["title"] = wanted.title
    if wanted.poll_seconds is not None:
        columns |= {"poll_seconds": wanted.poll_seconds, "next_poll_at": tx.now}
    # new settings may be a new token: older news of a withdrawn one says nothing of it
    if wanted.settings is not None:
        settings = tx.vault.encrypt(json.dumps(wanted.settings))
        columns |= {"settings": settings, "authorised_at": tx.now}
    if wanted.read_key is not None:
        columns["read_key"] = wanted.read_key
    if wanted.grant is not None or wanted.ends_grant:
        columns |= {**stored_grants.columns(tx, wanted.grant), "authorised_at": tx.now}
    account = wanted.account or connection.account
    if wanted.account is not None:
        columns |= {"account": account.model_dump_json(), "account_checked_at": tx.now}
    if wanted.scope is not None:
        columns["left_out"] = (
            json.dumps(wanted.left_out) if wanted.left_out is not None else _left_out(wanted.scope, account)
        )
    if wanted.sevenstamp_key is not None:
        columns |= _key_columns(tx, wanted.sevenstamp_key, wanted.key_login)
    update(tx, connection_table.c.id == connection.id, columns)


def set_claim_consent(tx: Transaction, connection_id: str, text: str | None) -> None:
    """Set what customers agree to who claim receipts by themselves."""
    update(tx, connection_table.c.id == connection_id, {"claim_consent": text})


def renew_hook_address(tx: Transaction, connection_id: str) -> Connection:
    """Make another hook address; the one it had lives a day longer, the one before that ends. Raises `NotFound`."""
    connection = lock(tx, connection_id)
    columns = {
        **_hook_columns(tx, secrets.token_urlsafe(24)),
        # in SQL, so that the hash that stands there now is kept, whatever was read before
        "former_hook_token_hash": connection_table.c.hook_token_hash,
        "former_hook_until": tx.now + FORMER_ADDRESS_LIVES,
        "generation": connection.generation + 1,
    }
    update(tx, connection_table.c.id == connection_id, columns)
    ledger.journal.write(tx, connection_id, Message("connection.address_renewed"))
    return get(tx, connection_id)


def record_refused_hook(tx: Transaction, connection_id: str) -> None:
    """Report a rejected signature to the cafe: the till may be using an old secret."""
    update(tx, connection_table.c.id == connection_id, {"refused_at": tx.now})
    ledger.journal.write(tx, connection_id, Message("hook.refused"))


def set_health(tx: Transaction, connection_id: str, health: Health, reason: Message | None) -> None:
    """Change a connection's health; it is journalled, and plugins are told, only where it is a change."""
    columns: dict[str, object] = {
        "health": health,
        "health_since": tx.now,
        "reason": reason.stored() if reason else None,
    }
    # whoever works again is read at once: somebody looks at the page
    if health is Health.active:
        columns |= {"failures": 0, "next_poll_at": tx.now, "next_lookback_at": tx.now + SECOND}
    # compared in the statement: of two that notice the same, one writes the line
    is_other = (connection_table.c.id == connection_id) & (connection_table.c.health != health) & _NOT_REMOVED
    if update(tx, is_other, columns):
        message = Message(f"connection.{health}", {"why": reason} if reason else {})
        ledger.journal.write(tx, connection_id, message)
        tx.events.append(HealthChanged(get(tx, connection_id).facts(), health, reason))
        tx.wakeups.update({Wakeup.poll, Wakeup.deliver})


def set_reason(tx: Transaction, connection_id: str, reason: Message) -> None:
    """Change why a connection is not well, without a change of its health."""
    update(tx, connection_table.c.id == connection_id, {"reason": reason.stored()})


def set_health_of_key(tx: Transaction, key_hash: str, health: Health, reason: Message) -> None:
    """Change the health of every working connection that uses a 7stamp key."""
    users = select(connection_table.c.id).where(
        connection_table.c.key_hash == key_hash, connection_table.c.health.in_(WORKING)
    )
    for connection_id in tx.run(users).scalars().all():
        set_health(tx, connection_id, health, reason)


def leave_out_pause(tx: Transaction, connection: Connection) -> None:
    """Have the receipts closed since a connection was paused earn nothing: only a backfill admits them."""
    skipped = [*connection.skipped, Stretch(connection.health_since, tx.now)][-_MOST_SKIPPED:]
    update(tx, connection_table.c.id == connection.id, {"skipped": json.dumps(skipped)})
    ledger.journal.write(tx, connection.id, Message("connection.pause_left_out"))


def leave_out(tx: Transaction, connection: Connection, *location_ids: str) -> None:
    """Note locations that a person left to nobody."""
    left_out = json.dumps([*(connection.left_out or ()), *location_ids])
    update(tx, connection_table.c.id == connection.id, {"left_out": left_out})


def pause_key(tx: Transaction, key_hash: str, until: int) -> None:
    """Send nothing with a 7stamp key before `until`: 7stamp asked for that (429)."""
    users = (connection_table.c.key_hash == key_hash) & (connection_table.c.send_after < until)
    update(tx, users, {"send_after": until})


def mark_removed(tx: Transaction, connection_id: str) -> None:
    """Mark a connection as removed and destroy its secrets; the row stays, for the ledger names it."""
    # encrypted nothing, for the columns take no null; the row's former pages are wiped by the database
    nothing = tx.vault.encrypt("{}")
    columns = {
        "health": Health.removed,
        "health_since": tx.now,
        "reason": None,
        "settings": nothing,
        "sevenstamp_key": nothing,
        "key_hash": "",
        **stored_grants.columns(tx, None),
        "subscribed": None,
        "hook_token": nothing,
        # a random one, for the column is unique: the former address must not answer any more
        "hook_token_hash": tx.vault.hash("hook token", secrets.token_hex(16)),
        "former_hook_token_hash": None,
        "former_hook_until": None,
        "generation": connection_table.c.generation + 1,
    }
    update(tx, connection_table.c.id == connection_id, columns)

"""Connections, their businesses and their rules; what of them is due, and when it is next.

Owns adoption (a new connection to an account takes over what a removed one left) and the uniqueness of locations.
"""

from __future__ import annotations

import json
import random
import secrets
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import and_, bindparam, case, func, or_, select, true

from connector_sdk.connector import TillAccount
from connector_sdk.messages import Message
from connector_sdk.rule import StampRule
from connectors.domain.clock import HOUR, SECOND
from connectors.domain.connection import WORKING, Business, Connection, Health, named, overlap
from connectors.domain.stamps import RuleVersion
from connectors.store import captured, journal, tallies
from connectors.store.engine import Transaction
from connectors.store.errors import NotFound, QuotaMet, Taken
from connectors.store.ledger import tickets
from connectors.store.schema import (
    business_table,
    connection_table,
    hint_table,
    identify_table,
    kept_body_table,
    kept_table,
    operation_table,
    rule_version_table,
    sale_table,
)

LOOKBACK_EVERY = HOUR
_POLL_WITHOUT_HOOKS = 60
_POLL_WITH_HOOKS = 900
_HOOKS_ARRIVE = 24 * HOUR  # hooks count as arriving while the last is no older than this


# immutable values of texts that come again and again: read once
_account = lru_cache(maxsize=4096)(TillAccount.model_validate_json)
rule_of = lru_cache(maxsize=4096)(StampRule.model_validate_json)


def connection_of(row: Any) -> Connection:
    """The value of a row with all columns of the table."""
    return Connection(
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
        skipped=tuple((start, end) for start, end in json.loads(row.skipped)),
        former_hook_until=row.former_hook_until,
        refused_at=row.refused_at,
    )


def get(tx: Transaction, connection_id: str) -> Connection:
    """Raises `NotFound`, which names the known ones."""
    row = tx.run(
        select(connection_table).where(
            connection_table.c.id == connection_id, connection_table.c.health != Health.removed
        )
    ).first()
    if row is None:
        known = [one.id for one in everyone(tx)]
        raise NotFound(
            f"there is no connection {connection_id!r}; "
            + (f"known: {', '.join(known)}" if known else "none is connected")
        )
    return connection_of(row)


def everyone(tx: Transaction) -> list[Connection]:
    """All connections that are not removed, oldest first."""
    rows = tx.run(
        select(connection_table)
        .where(connection_table.c.health != Health.removed)
        .order_by(connection_table.c.began_at, connection_table.c.id)
    )
    return [connection_of(row) for row in rows]


def count(tx: Transaction) -> int:
    return int(tx.run(select(func.count()).select_from(connection_table)).scalar_one())


_OF_IDS = select(connection_table).where(connection_table.c.id.in_(bindparam("ids", expanding=True)))


def of_ids(tx: Transaction, ids: Sequence[str]) -> dict[str, Connection]:
    rows = tx.run(_OF_IDS, {"ids": list(ids)})
    return {row.id: connection_of(row) for row in rows}


def of_account(tx: Transaction, connector: str, account_id: str) -> list[Connection]:
    """The connections, not removed, of a till account."""
    rows = tx.run(
        select(connection_table).where(
            connection_table.c.connector == connector,
            connection_table.c.account_id == account_id,
            connection_table.c.health != Health.removed,
        )
    )
    return [connection_of(row) for row in rows]


def of_hook_token(tx: Transaction, connector: str, token: str) -> Connection | None:
    """The connection at an address of its own, or at the one it had before while that still lives."""
    shown = tx.vault.hash("hook token", token)
    row = tx.run(
        select(connection_table).where(
            or_(
                connection_table.c.hook_token_hash == shown,
                and_(connection_table.c.former_hook_token_hash == shown, connection_table.c.former_hook_until > tx.now),
            ),
            connection_table.c.connector == connector,
            connection_table.c.health != Health.removed,
        )
    ).first()
    return connection_of(row) if row else None


@dataclass(frozen=True, slots=True)
class NewConnection:
    """What `add` needs; `settings` and `sevenstamp_key` in the clear."""

    connector: str
    account: TillAccount
    business: Business
    title: str
    scope: tuple[str, ...]
    rule: StampRule
    settings: Mapping[str, Any]
    sevenstamp_key: str
    poll_seconds: int | None
    key_login: str | None = None
    expires_at: int | None = None
    hook_token: str | None = None
    """The token of an address that the till knows already; one is made where there is none."""


def add(tx: Transaction, new: NewConnection) -> Connection:
    """Store a connection, adopting what a removed one to the same account left. Raises `Taken`, `QuotaMet`."""
    mine = (connection_table.c.business_id == new.business.id) & (connection_table.c.health != Health.removed)
    if tx.run(select(func.count()).select_from(connection_table).where(mine)).scalar_one() >= tx.quotas.tills:
        raise QuotaMet(tx.quotas.tills)
    _refuse_overlap(tx, new.connector, new.account, new.scope, new.business.id, ignoring=None)
    _store_business(tx, new.business)
    one = f"{new.connector}-{secrets.token_hex(3)}"
    token = new.hook_token or secrets.token_urlsafe(24)
    former = _former(tx, new)
    tx.run(
        connection_table.insert(),
        [
            {
                "id": one,
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
                "next_lookback_at": tx.now + SECOND,
                "failures": 0,
                "generation": 1,
                "settings": tx.vault.encrypt(json.dumps(new.settings)),
                "sevenstamp_key": tx.vault.encrypt(new.sevenstamp_key),
                "key_hash": tx.vault.hash("7stamp key", new.sevenstamp_key),
                "hook_token": tx.vault.encrypt(token),
                "hook_token_hash": tx.vault.hash("hook token", token),
                "key_login": new.key_login,
                "expires_at": new.expires_at,
            }
        ],
    )
    if former:  # the youngest one's rules go on; receipts keep the rules they were planned by in any case
        _write_rules(tx, one, rules(tx, former[0]))
    set_rule(tx, one, new.rule)
    if former:
        _adopt(tx, one, former, new.scope)
    journal.note(tx, one, Message("connection.added", {"account": new.account.name, "where": _where(new)}))
    tx.wake.update({"poll", "deliver"})
    return get(tx, one)


def _where(new: NewConnection) -> str:
    return named(new.scope, new.account.locations)


def _refuse_overlap(
    tx: Transaction,
    connector: str,
    account: TillAccount,
    scope: tuple[str, ...],
    business_id: str,
    ignoring: str | None,
) -> None:
    for other in of_account(tx, connector, account.id):
        if other.id == ignoring or not overlap(scope, other.scope):
            continue
        where = named(other.scope, account.locations)
        if other.business_id != business_id:
            raise Taken(f"{account.name} ({where}) is already connected for another business: choose other locations")
        raise Taken(
            f"{account.name} is already connected as {other.id} ({where}): "
            f"change that one with `connectors connection edit {other.id}`, or choose other locations",
            other.id,
        )


def _former(tx: Transaction, new: NewConnection) -> list[str]:
    """Removed connections of the same business to the same account whose locations this one takes over."""
    rows = tx.run(
        select(connection_table.c.id, connection_table.c.scope)
        .where(
            connection_table.c.connector == new.connector,
            connection_table.c.account_id == new.account.id,
            connection_table.c.business_id == new.business.id,
            connection_table.c.health == Health.removed,
        )
        .order_by(connection_table.c.health_since.desc())
    )
    return [row.id for row in rows if overlap(tuple(json.loads(row.scope)), new.scope)]


def _adopt(tx: Transaction, one: str, former: Sequence[str], scope: tuple[str, ...]) -> None:
    mine = sale_table.c.connection_id.in_(list(former)) & (
        sale_table.c.location_id.in_(list(scope)) if scope else true()
    )
    moved = select(sale_table.c.id).where(mine).scalar_subquery()
    for table in (operation_table, identify_table):
        tx.run(table.update().where(table.c.sale_id.in_(moved)).values(connection_id=one))
    tx.run(sale_table.update().where(mine).values(connection_id=one))
    for table in (kept_table, kept_body_table):  # what could not be read waits on, for the new connection
        tx.run(table.update().where(table.c.connection_id.in_(list(former))).values(connection_id=one))
    for changed in (one, *former):
        tallies.recount(tx, changed)


def _store_business(tx: Transaction, new: Business) -> None:
    values = {
        "name": new.name,
        "country": new.country,
        "currency": new.currency,
        "zone": new.zone,
        "language": new.language,
    }
    if tx.run(business_table.update().where(business_table.c.id == new.id).values(values)).rowcount == 0:
        tx.run(business_table.insert(), [{"id": new.id, **values}])


def every_business(tx: Transaction) -> list[Business]:
    """All businesses that were ever connected, by id."""
    rows = tx.run(select(business_table).order_by(business_table.c.id))
    return [Business(row.id, row.name, row.country, row.currency, row.zone, row.language) for row in rows]


def ever_of_business(tx: Transaction, business_id: str) -> list[Connection]:
    """All connections of a business, the removed ones too."""
    rows = tx.run(
        select(connection_table).where(connection_table.c.business_id == business_id).order_by(connection_table.c.id)
    )
    return [connection_of(row) for row in rows]


def business_of(tx: Transaction, business_id: str) -> Business:
    row = tx.run(select(business_table).where(business_table.c.id == business_id)).one()
    return Business(row.id, row.name, row.country, row.currency, row.zone, row.language)


def rules(tx: Transaction, connection_id: str) -> list[RuleVersion]:
    """A connection's rule versions, in the order in which they took effect."""
    return rules_of(tx, [connection_id])[connection_id]


_RULES = (
    select(rule_version_table)
    .where(rule_version_table.c.connection_id.in_(bindparam("ids", expanding=True)))
    .order_by(rule_version_table.c.connection_id, rule_version_table.c.number)
)


def rules_of(tx: Transaction, ids: Sequence[str]) -> dict[str, list[RuleVersion]]:
    """The same for several connections at once."""
    found: dict[str, list[RuleVersion]] = {one: [] for one in ids}
    for row in tx.run(_RULES, {"ids": list(ids)}):
        found[row.connection_id].append(RuleVersion(row.number, row.effective_from, rule_of(row.rule)))
    return found


def _write_rules(tx: Transaction, connection_id: str, versions: Sequence[RuleVersion]) -> None:
    tx.run(
        rule_version_table.insert(),
        [
            {
                "connection_id": connection_id,
                "number": number,
                "effective_from": version.effective_from,
                "rule": version.rule.model_dump_json(),
            }
            for number, version in enumerate(versions, start=1)
        ],
    )


def set_rule(tx: Transaction, connection_id: str, rule: StampRule) -> bool:
    """Make `rule` the one in force from now on (the first: from the beginning); whether that changed anything."""
    versions = rules(tx, connection_id)
    if versions and versions[-1].rule == rule:
        return False
    tx.run(
        rule_version_table.insert(),
        [
            {
                "connection_id": connection_id,
                "number": len(versions) + 1,
                "effective_from": tx.now if versions else 0,
                "rule": rule.model_dump_json(),
            }
        ],
    )
    return bool(versions)


@dataclass(frozen=True, slots=True)
class Edit:
    """What to change; `None` leaves a field as it is."""

    title: str | None = None
    scope: tuple[str, ...] | None = None
    rule: StampRule | None = None
    settings: Mapping[str, Any] | None = None
    account: TillAccount | None = None
    sevenstamp_key: str | None = None
    poll_seconds: int | None = None
    key_login: str | None = None
    expires_at: int | None = None


def edit(tx: Transaction, connection_id: str, change: Edit) -> Connection:
    """Change a connection; new secrets reactivate one that needed authorisation. Raises `Taken`, `NotFound`."""
    kept = get(tx, connection_id)
    values: dict[str, Any] = {"generation": kept.generation + 1}
    if change.scope is not None:
        _refuse_overlap(tx, kept.connector, kept.account, change.scope, kept.business_id, ignoring=kept.id)
        values["scope"] = json.dumps(change.scope)
    if change.title is not None:
        values["title"] = change.title
    if change.poll_seconds is not None:
        values.update(poll_seconds=change.poll_seconds, next_poll_at=tx.now)
    if change.settings is not None:
        values.update(settings=tx.vault.encrypt(json.dumps(change.settings)), authorised_at=tx.now)
        values["expires_at"] = change.expires_at
    if change.account is not None:
        values["account"] = change.account.model_dump_json()
    if change.sevenstamp_key is not None:
        values["sevenstamp_key"] = tx.vault.encrypt(change.sevenstamp_key)
        values["key_hash"] = tx.vault.hash("7stamp key", change.sevenstamp_key)
        values["key_login"] = change.key_login
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(values))
    if change.rule is not None and set_rule(tx, connection_id, change.rule):
        journal.note(tx, connection_id, Message("connection.rule"))
    for what, changed in (
        ("title", change.title is not None and change.title != kept.title),
        ("locations", change.scope is not None and change.scope != kept.scope),
        ("till", change.settings is not None),
        ("key", change.sevenstamp_key is not None),
    ):
        if changed:
            journal.note(tx, connection_id, Message(f"connection.edited.{what}"))
    if (change.settings is not None or change.sevenstamp_key is not None) and kept.health in (
        Health.needs_authorisation,
        Health.failing,
    ):
        set_health(tx, connection_id, Health.active, None)
    tx.wake.update({"poll", "deliver"})
    return get(tx, connection_id)


FORMER_ADDRESS_LIVES = 24 * HOUR


def refused(tx: Transaction, connection_id: str) -> None:
    """A hook came whose proof does not hold: its cafe should know, for its sales may be among them."""
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(refused_at=tx.now))
    journal.note(tx, connection_id, Message("hook.refused"))


def renew_address(tx: Transaction, connection_id: str) -> Connection:
    """Another hook address; the one it had lives a day longer, and the one before that no longer. Raises `NotFound`."""
    kept, token = get(tx, connection_id), secrets.token_urlsafe(24)
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(
            hook_token=tx.vault.encrypt(token),
            hook_token_hash=tx.vault.hash("hook token", token),
            former_hook_token_hash=connection_table.c.hook_token_hash,
            former_hook_until=tx.now + FORMER_ADDRESS_LIVES,
            generation=kept.generation + 1,
        )
    )
    journal.note(tx, connection_id, Message("connection.address_renewed"))
    return get(tx, connection_id)


def found_unwell(tx: Transaction, seen: Connection, health: Health, reason: Message) -> None:
    """A call made with what `seen` was then says so: it counts unless a person changed something meanwhile."""
    row = tx.run(
        select(connection_table.c.generation, connection_table.c.health).where(connection_table.c.id == seen.id)
    ).first()
    if row is not None and row.generation == seen.generation and row.health in WORKING:
        set_health(tx, seen.id, health, reason)


def set_health(tx: Transaction, connection_id: str, health: Health, reason: Message | None) -> None:
    """Change how a connection is doing; journalled and told to plugins only where it is a change."""
    values = {"health": health, "health_since": tx.now, "reason": reason.stored() if reason else None}
    if health is Health.active:
        values.update(failures=0, next_poll_at=tx.now, next_lookback_at=tx.now + SECOND)
    changed = tx.run(
        connection_table.update()
        .where(
            connection_table.c.id == connection_id,
            connection_table.c.health != health,
            connection_table.c.health != Health.removed,
        )
        .values(values)
    )
    if changed.rowcount:
        journal.note(tx, connection_id, Message(f"connection.{health}", {"why": reason} if reason else {}))
        tx.told.append(("health", get(tx, connection_id).facts(), health.value, reason))
        tx.wake.update({"poll", "deliver"})


def leave_out_pause(tx: Transaction, kept: Connection) -> None:
    """The receipts closed since a connection was paused earn nothing: only a backfill admits them."""
    skipped = [*kept.skipped, (kept.health_since, tx.now)][-100:]
    tx.run(connection_table.update().where(connection_table.c.id == kept.id).values(skipped=json.dumps(skipped)))
    journal.note(tx, kept.id, Message("connection.pause_left_out"))


def look_back_now(tx: Transaction, connection_id: str) -> None:
    """Read the last business days whole as soon as may be."""
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(next_lookback_at=tx.now))
    tx.wake.add("poll")


def look_soon(tx: Transaction, connection_id: str, pause: int = 5 * SECOND, young: int = HOUR) -> None:
    """Read a young connection's till again `pause` after the last read: somebody waits for its first receipt."""
    soon = func.coalesce(connection_table.c.last_poll_at, 0) + pause
    tx.run(
        connection_table.update()
        .where(
            connection_table.c.id == connection_id,
            connection_table.c.health == Health.active,
            connection_table.c.failures == 0,
            connection_table.c.began_at > tx.now - young,
            soon <= tx.now,
            connection_table.c.next_poll_at > tx.now,
        )
        .values(next_poll_at=tx.now)
    )
    tx.wake.add("poll")


def recheck(tx: Transaction, connection_id: str) -> None:
    """Read the till at once, so that its own answer says how the connection is doing; at most every ten seconds.

    A till that fails is read again with growing pauses, which a hook does not shorten.
    """
    due = func.coalesce(connection_table.c.last_poll_at, 0) + 10 * SECOND
    tx.run(
        connection_table.update()
        .where(
            connection_table.c.id == connection_id,
            connection_table.c.health.in_(WORKING),
            connection_table.c.failures == 0,
            connection_table.c.next_poll_at > tx.now,
        )
        .values(next_poll_at=case((due > tx.now, due), else_=tx.now))
    )
    tx.wake.add("poll")


def hook_name_learned(tx: Transaction, connection_id: str, name: str) -> None:
    """Remember what the till's hooks call the account of a connection that was made before this was asked."""
    kept = get(tx, connection_id)
    account = kept.account.model_copy(update={"hook_name": name})
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(account=account.model_dump_json(), generation=kept.generation + 1)
    )


def set_health_of_key(tx: Transaction, key_hash: str, health: Health, reason: Message) -> None:
    """The same for every working connection that uses a 7stamp key."""
    rows = tx.run(
        select(connection_table.c.id).where(
            connection_table.c.key_hash == key_hash, connection_table.c.health.in_(WORKING)
        )
    )
    for one in rows.scalars().all():
        set_health(tx, one, health, reason)


def remove(tx: Transaction, connection_id: str) -> None:
    """Forget a connection and its secrets; its sales and operations stay in the ledger."""
    get(tx, connection_id)
    journal.note(tx, connection_id, Message("connection.removed"))
    nothing = tx.vault.encrypt("{}")
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(
            health=Health.removed,
            health_since=tx.now,
            reason=None,
            settings=nothing,
            sevenstamp_key=nothing,
            key_hash="",
            hook_token=nothing,
            hook_token_hash=tx.vault.hash("hook token", secrets.token_hex(16)),
            former_hook_token_hash=None,
            former_hook_until=None,
            generation=connection_table.c.generation + 1,
        )
    )
    tx.run(hint_table.delete().where(hint_table.c.connection_id == connection_id))
    captured.forget(tx, connection_id)


def pause_key(tx: Transaction, key_hash: str, until: int) -> None:
    """Send nothing with a 7stamp key before `until`: it asked for that (429)."""
    tx.run(
        connection_table.update()
        .where(connection_table.c.key_hash == key_hash, connection_table.c.send_after < until)
        .values(send_after=until)
    )


def sendable(tx: Transaction, ids: Collection[str]) -> dict[str, int]:
    """Those of these connections for which something may be sent now, with their generations."""
    rows = tx.run(
        select(connection_table.c.id, connection_table.c.generation)
        .join(business_table, business_table.c.id == connection_table.c.business_id)
        .where(
            connection_table.c.id.in_(sorted(ids)),
            connection_table.c.health.in_(WORKING),
            connection_table.c.send_after <= tx.now,
            business_table.c.paused_until <= tx.now,
        )
    )
    return {row.id: row.generation for row in rows}


# --- what is due -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Turn:
    """A read that is due and claimed; `ticket` orders what it will see."""

    connection: Connection
    ticket: int


def _poll_pause(one: Connection, now: int) -> int:
    hooks = one.last_hook_at is not None and now - one.last_hook_at < _HOOKS_ARRIVE
    seconds = one.poll_seconds or (_POLL_WITH_HOOKS if hooks else _POLL_WITHOUT_HOOKS)
    backoff = min(2**one.failures, 64)
    return _jittered(min(seconds * backoff, max(seconds, 3600)) * SECOND)


def _jittered(pause: int) -> int:
    return int(pause * random.uniform(0.9, 1.1))  # noqa: S311 - spreads load


def due_polls(tx: Transaction, limit: int, only: str | None = None) -> list[Turn]:
    """Claim the polls that are due (or one connection's, due or not) and say when each is next."""
    return _claim(tx, connection_table.c.next_poll_at, limit, only, _poll_pause)


def due_lookbacks(tx: Transaction, limit: int, only: str | None = None) -> list[Turn]:
    """The same for look-backs."""
    return _claim(tx, connection_table.c.next_lookback_at, limit, only, lambda _one, _now: _jittered(LOOKBACK_EVERY))


def _claim(tx: Transaction, column: Any, limit: int, only: str | None, pause: Any) -> list[Turn]:
    wanted = select(connection_table).where(connection_table.c.health.in_(WORKING))
    wanted = wanted.where(connection_table.c.id == only) if only else wanted.where(column <= tx.now)
    rows = [connection_of(row) for row in tx.run(wanted.order_by(column).limit(limit))]
    if not rows:
        return []
    tx.run(
        connection_table.update()
        .where(connection_table.c.id == bindparam("id_"))
        .values({column.name: bindparam("next_at")}),
        [{"id_": one.id, "next_at": tx.now + pause(one, tx.now)} for one in rows],
    )
    first = tickets(tx, len(rows))
    return [Turn(one, first + number) for number, one in enumerate(rows)]


def hooked(tx: Transaction, ids: Sequence[str]) -> None:
    """Note that hooks arrive."""
    tx.run(connection_table.update().where(connection_table.c.id.in_(sorted(set(ids)))).values(last_hook_at=tx.now))


def reached(tx: Transaction, connection_id: str, checkpoint_at: int) -> None:
    """Everything changed at the till before then has been ingested."""
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(checkpoint_at=checkpoint_at))


def read_well(tx: Transaction, connection_id: str, *, lookback: bool) -> None:
    """A read went through to its end."""
    values: dict[str, Any] = {"last_poll_at": tx.now, "failures": 0}
    if lookback:
        values["last_lookback_at"] = tx.now
    tx.run(connection_table.update().where(connection_table.c.id == connection_id).values(values))
    row = tx.run(select(connection_table.c.health).where(connection_table.c.id == connection_id)).one()
    if row.health == Health.failing:
        set_health(tx, connection_id, Health.active, None)


def read_badly(tx: Transaction, seen: Connection, reason: Message, *, retry_after: float | None) -> None:
    """A read failed: try later, and say so once it keeps failing."""
    connection_id = seen.id
    failures = tx.run(
        connection_table.update()
        .where(connection_table.c.id == connection_id)
        .values(failures=connection_table.c.failures + 1)
        .returning(connection_table.c.failures)
    ).scalar_one()
    if retry_after is not None:
        tx.run(
            connection_table.update()
            .where(connection_table.c.id == connection_id)
            .values(next_poll_at=tx.now + int(retry_after * SECOND))
        )
    if failures >= 3:
        found_unwell(tx, seen, Health.failing, reason)
    elif failures == 1:
        journal.note(tx, connection_id, Message("connection.slow", {"why": reason}))


# --- the plan of a business --------------------------------------------------------------------------------------


def pause_business(tx: Transaction, business_id: str, until: int) -> bool:
    """Send nothing for a business before `until`; whether it was not paused before."""
    changed = tx.run(
        business_table.update()
        .where(business_table.c.id == business_id, business_table.c.paused_until < tx.now)
        .values(paused_until=until, plan_checked_at=tx.now)
    )
    return changed.rowcount > 0


def paused_businesses(tx: Transaction, checked_before: int, limit: int = 50) -> list[tuple[str, str, int]]:
    """Paused businesses not looked at since: (business id, id of a connection to ask with, paused until)."""
    rows = tx.run(
        select(business_table.c.id, func.min(connection_table.c.id).label("asked"), business_table.c.paused_until)
        .join(connection_table, connection_table.c.business_id == business_table.c.id)
        .where(
            business_table.c.paused_until > 0,
            business_table.c.plan_checked_at <= checked_before,
            connection_table.c.health.in_(WORKING),
        )
        .group_by(business_table.c.id, business_table.c.paused_until)
        .limit(limit)
    )
    return [(row.id, row.asked, row.paused_until) for row in rows]


def plan_checked(tx: Transaction, business_id: str, *, resumes: bool) -> None:
    values: dict[str, Any] = {"plan_checked_at": tx.now}
    if resumes:
        values["paused_until"] = 0
        tx.wake.add("deliver")
    tx.run(business_table.update().where(business_table.c.id == business_id).values(values))

"""TODO docstring."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import ColumnElement, Table, or_, select

from connectors.domain.clock import SECOND
from connectors.store.engine import Transaction
from connectors.store.schema import connection_table, consent_table, console_link_table, console_session_table

OPERATOR = "operator"
"""The name under which the operator's changes are journalled."""


_SESSIONS_AT_MOST, _LINKS_AT_MOST, _CONSENTS_AT_MOST = 100, 20, 20


LINK_FOR = 600 * SECOND


_CONSENT_FOR = 600 * SECOND


@dataclass(frozen=True, slots=True)
class Visitor:
    """Who a session or link is for: a business (`key` where it signed in with one), or the operator (no business)."""

    business_id: str | None
    business_name: str
    zone: str
    login: str
    key: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Session:
    """One row; times in UTC microseconds, `device` is what the browser called itself."""

    id_hash: str
    visitor: Visitor
    key_hash: str | None
    remembered: bool
    device: str
    made_at: int
    seen_at: int
    expires_at: int
    checked_at: int
    by_operator: bool
    """Whether the operator opened it: signed in as such, or let somebody in by a link."""
    confirmed: bool = False
    """Whether somebody proved who they are when it began; a link that a signed-in device made proves nobody."""

    @property
    def operator(self) -> bool:
        return self.visitor.business_id is None


def _session(tx: Transaction, row: Any) -> Session:
    key = tx.vault.decrypt(row.key) if row.key else None
    visitor = Visitor(row.business_id, row.business_name, row.zone, row.login, key)
    return Session(
        row.id_hash,
        visitor,
        row.key_hash,
        bool(row.remembered),
        row.device,
        row.made_at,
        row.seen_at,
        row.expires_at,
        row.checked_at,
        bool(row.by_operator),
        bool(row.confirmed),
    )


def hashed(tx: Transaction, session_id: str) -> str:
    return tx.vault.hash("console session", session_id)


@dataclass(frozen=True, slots=True)
class Opened:
    """Whom a link lets in. Its key is looked at before anything is shown; `until` bounds a session without one.

    What a link `by_operator` opened ends with everything else that the operator opened.
    """

    visitor: Visitor
    until: int | None
    by_operator: bool
    confirmed: bool = False
    """Whether `connectors console link` made it, which only the operator can run."""


def begin(
    tx: Transaction,
    visitor: Visitor,
    *,
    device: str,
    remembered: bool,
    lives: int,
    by: Opened | None = None,
    passkey_id: str | None = None,
) -> str:
    """A new session's id, said only here; those that have ended go, and an owner's idlest beyond a bound.

    `by` is the link it is opened with, `passkey_id` the passkey.
    """
    one = secrets.token_urlsafe(32)
    tx.run(console_session_table.delete().where(console_session_table.c.expires_at <= tx.now))
    mine = console_session_table.c.business_id == visitor.business_id
    gone = _delete_oldest(tx, console_session_table, mine, "seen_at", _SESSIONS_AT_MOST)
    tx.run(console_link_table.delete().where(console_link_table.c.made_by.in_(gone)))
    expires_at = tx.now + lives
    if by is not None and by.until is not None:
        expires_at = min(expires_at, by.until)
    tx.run(
        console_session_table.insert(),
        [
            {
                "id_hash": hashed(tx, one),
                "business_id": visitor.business_id,
                "business_name": visitor.business_name,
                "zone": visitor.zone,
                "login": visitor.login,
                "key": tx.vault.encrypt(visitor.key) if visitor.key else None,
                "key_hash": tx.vault.hash("7stamp key", visitor.key) if visitor.key else None,
                "remembered": int(remembered),
                "device": device[:120],
                "made_at": tx.now,
                "seen_at": tx.now,
                "expires_at": expires_at,
                "checked_at": 0 if by is not None else tx.now,
                "by_operator": int(visitor.business_id is None or (by is not None and by.by_operator)),
                "confirmed": int(by is None or by.confirmed),
                "passkey_id": passkey_id,
            }
        ],
    )
    return one


def _delete_oldest(tx: Transaction, table: Table, mine: ColumnElement[bool], age: str, most: int) -> list[str]:
    """Room for one more: the oldest beyond `most` go, and are named."""
    key = next(iter(table.primary_key.columns))
    newest = select(key).where(mine).order_by(table.c[age].desc()).offset(most - 1).limit(1000)
    old = list(tx.run(newest).scalars())
    if old:
        tx.run(table.delete().where(key.in_(old)))
    return old


def find(tx: Transaction, session_id: str, idle: int) -> Session | None:
    """The session of that id, unless it has ended or has not been used for `idle` (a remembered one may be)."""
    row = tx.run(
        select(console_session_table).where(
            console_session_table.c.id_hash == hashed(tx, session_id),
            console_session_table.c.expires_at > tx.now,
            or_(console_session_table.c.remembered == 1, console_session_table.c.seen_at > tx.now - idle),
        )
    ).first()
    return _session(tx, row) if row else None


def record_use(tx: Transaction, one: Session, *, used: bool, checked: bool) -> None:
    """It was used, or its key was looked at."""
    values = ({"seen_at": tx.now} if used else {}) | ({"checked_at": tx.now} if checked else {})
    tx.run(console_session_table.update().where(console_session_table.c.id_hash == one.id_hash).values(values))


def devices(tx: Transaction, business_id: str | None) -> list[Session]:
    """The sessions of a business (or of the operator), last used first."""
    rows = tx.run(
        select(console_session_table)
        .where(console_session_table.c.business_id == business_id, console_session_table.c.expires_at > tx.now)
        .order_by(console_session_table.c.seen_at.desc())
        .limit(100)
    ).all()
    return [_session(tx, row) for row in rows]


def end(tx: Transaction, id_hash: str, business_id: str | None) -> bool:
    """Sign a device of that business out; whether there was one."""
    gone = console_session_table.delete().where(
        console_session_table.c.id_hash == id_hash, console_session_table.c.business_id == business_id
    )
    if tx.run(gone).rowcount == 0:
        return False
    tx.run(console_link_table.delete().where(console_link_table.c.made_by == id_hash))
    return True


def end_of_key(tx: Transaction, key_hash: str) -> bool:
    """7stamp refuses the key: whoever signed in with it is signed out, and its links open nothing; whether any was."""
    ended = 0
    for table in (console_session_table, console_link_table):
        ended += tx.run(table.delete().where(table.c.key_hash == key_hash)).rowcount
    return ended > 0


def end_of_passkey(tx: Transaction, passkey_id: str) -> None:
    """End the sessions that a passkey opened, and the links they made."""
    gone = tx.run(
        console_session_table.delete()
        .where(console_session_table.c.passkey_id == passkey_id)
        .returning(console_session_table.c.id_hash)
    )
    tx.run(console_link_table.delete().where(console_link_table.c.made_by.in_(list(gone.scalars()))))


def end_operators(tx: Transaction) -> None:
    """End everything the operator opened: sessions, links for any business, and the sessions of such links."""
    for table in (console_session_table, console_link_table):
        tx.run(table.delete().where(or_(table.c.business_id.is_(None), table.c.by_operator == 1)))


def end_everywhere(tx: Transaction, business_id: str | None) -> None:
    """End all sessions and links of a business, whoever opened them, or everything the operator opened."""
    if business_id is None:
        end_operators(tx)
        return
    for table in (console_session_table, console_link_table):
        tx.run(table.delete().where(table.c.business_id == business_id))


def knows_key(tx: Transaction, key_hash: str) -> bool:
    """Return whether a session or a connection has the 7stamp key with this keyed hash."""
    signed_in = select(console_session_table.c.id_hash).where(console_session_table.c.key_hash == key_hash)
    connected = select(connection_table.c.id).where(connection_table.c.key_hash == key_hash)
    return tx.run(select(or_(signed_in.exists(), connected.exists()))).scalar_one() in (True, 1)


def make_link(tx: Transaction, visitor: Visitor, maker: Session | None = None) -> str:
    """A token that opens one session within ten minutes; it ends with the session that made it.

    Without a `maker` the operator made it, by a command. Without a key to be looked at, what it opens lives no longer
    than its maker.
    """
    token = secrets.token_urlsafe(24)
    tx.run(console_link_table.delete().where(console_link_table.c.expires_at <= tx.now))
    _delete_oldest(
        tx, console_link_table, console_link_table.c.business_id == visitor.business_id, "expires_at", _LINKS_AT_MOST
    )
    content = {
        "visitor": {
            "business_id": visitor.business_id,
            "business_name": visitor.business_name,
            "zone": visitor.zone,
            "login": visitor.login,
            "key": visitor.key,
        },
        "until": maker.expires_at if maker is not None and visitor.key is None else None,
        "confirmed": maker is None,
    }
    tx.run(
        console_link_table.insert(),
        [
            {
                "token_hash": tx.vault.hash("console link", token),
                "business_id": visitor.business_id,
                "key_hash": tx.vault.hash("7stamp key", visitor.key) if visitor.key else None,
                "made_by": maker.id_hash if maker is not None else None,
                "content": tx.vault.encrypt(json.dumps(content)),
                "expires_at": tx.now + LINK_FOR,
                "by_operator": int(maker is None or maker.operator or maker.by_operator),
            }
        ],
    )
    return token


def link_of(tx: Transaction, token: str) -> Opened | None:
    """Return whom a link lets in, without spending it; `None` where it is unknown, spent or too old."""
    row = tx.run(
        select(console_link_table.c.content, console_link_table.c.by_operator).where(*_live_link(tx, token))
    ).first()
    return _opened(tx, row) if row is not None else None


def spend_link(tx: Transaction, token: str) -> Opened | None:
    """Whose session a link opens, once; `None` where it is unknown, spent or too old."""
    row = tx.run(
        console_link_table.delete()
        .where(*_live_link(tx, token))
        .returning(console_link_table.c.content, console_link_table.c.by_operator)
    ).first()
    return _opened(tx, row) if row is not None else None


def _live_link(tx: Transaction, token: str) -> tuple[ColumnElement[bool], ...]:
    token_hash = tx.vault.hash("console link", token)
    return console_link_table.c.token_hash == token_hash, console_link_table.c.expires_at > tx.now


def _opened(tx: Transaction, row: Any) -> Opened:
    content = json.loads(tx.vault.decrypt(row.content))
    return Opened(
        Visitor(**content["visitor"]), content["until"], bool(row.by_operator), content.get("confirmed", False)
    )


def ask_consent(tx: Transaction, session: Session, content: Mapping[str, str]) -> str:
    """The state of an OAuth journey of this session, good once and for ten minutes."""
    state = secrets.token_urlsafe(24)
    tx.run(consent_table.delete().where(consent_table.c.made_at <= tx.now - 6 * _CONSENT_FOR))
    _delete_oldest(tx, consent_table, consent_table.c.session_hash == session.id_hash, "made_at", _CONSENTS_AT_MOST)
    tx.run(
        consent_table.insert(),
        [
            {
                "state_hash": tx.vault.hash("consent", state),
                "session_hash": session.id_hash,
                "content": tx.vault.encrypt(json.dumps(dict(content))),
                "made_at": tx.now,
            }
        ],
    )
    return state


def use_consent(tx: Transaction, session: Session, state: str) -> tuple[str, dict[str, str]]:
    """`("good", content)` once; else `forged`, `used` or `stale`, with the content where it was this session's."""
    found = tx.run(select(consent_table).where(consent_table.c.state_hash == tx.vault.hash("consent", state))).first()
    if found is None or found.session_hash != session.id_hash:
        return "forged", {}
    content: dict[str, str] = json.loads(tx.vault.decrypt(found.content))
    if found.made_at <= tx.now - _CONSENT_FOR:
        return "stale", content
    used = tx.run(
        consent_table.update()
        .where(consent_table.c.state_hash == found.state_hash, consent_table.c.used_at.is_(None))
        .values(used_at=tx.now)
    )
    return ("good" if used.rowcount else "used"), content

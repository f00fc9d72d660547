"""Sessions of the console, links that open one, and the consents that a session asks tills for.

Owns the tables `console_session`, `console_link` and `consent`: how long each lives, how many there are, and what ends
together. Of ids, tokens and states only keyed hashes are stored; cookies and pages are the console's.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import NamedTuple

from sqlalchemy import ColumnElement, Table, or_, select

from connectors.domain.clock import SECOND
from connectors.store.access import push_devices
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import (
    colleague_table,
    connection_table,
    consent_table,
    console_link_table,
    console_session_table,
)

OPERATOR = "operator"
"""The name under which the operator's changes are journalled."""

LINK_FOR = 600 * SECOND
"""How long a link can be used."""
_CONSENT_FOR = 600 * SECOND
_CONSENT_KEPT_FOR = 6 * _CONSENT_FOR  # so that one who comes late is told so, and not that it is forged
_SESSIONS_AT_MOST, _LINKS_AT_MOST, _CONSENTS_AT_MOST = 100, 20, 20
_DELETED_AT_ONCE = 1000
_LONGEST_DEVICE = 120


class StaffRole(StrEnum):
    """What somebody of a business may do in the console; each may do what those before may, and more."""

    counter = "counter"
    """Gives stamps and redeems vouchers beside the till; sees receipts, and no settings."""
    manager = "manager"
    """Runs the days: receipts, numbers, rules, imports, and what a person must decide."""
    owner = "owner"
    """Everything: tills, keys, programs, people. Whoever has a 7stamp key of the business is one."""

    def may_act_as(self, role: StaffRole) -> bool:
        """Tell whether whoever has this role may do what needs `role`."""
        order = list(StaffRole)
        return order.index(self) >= order.index(role)


@dataclass(frozen=True, slots=True)
class Principal:
    """Who a session or link is for: a business (`key` where it signed in with one), or the operator (no business).

    Of a colleague who was invited, `login` is the name that the owner gave them.
    """

    business_id: str | None
    business_name: str
    zone: str
    login: str
    key: str | None = field(default=None, repr=False)
    role: StaffRole = StaffRole.owner
    colleague_id: str | None = None
    """The invited colleague whose session it is; `None` of whoever signed in with a key."""


def principal_of(tx: Transaction, row: AnyRow) -> Principal:
    """Return who a session's or passkey's row is for, the key decrypted."""
    key = tx.vault.decrypt(row.key) if row.key else None
    return Principal(row.business_id, row.business_name, row.zone, row.login, key)


def principal_columns(tx: Transaction, principal: Principal) -> dict[str, object]:
    """Return the columns in which sessions and passkeys hold who they are for."""
    return {
        "business_id": principal.business_id,
        "business_name": principal.business_name,
        "zone": principal.zone,
        "login": principal.login,
        "key": tx.vault.encrypt(principal.key) if principal.key else None,
        "key_hash": hash_of_key(tx, principal),
    }


def hash_of_key(tx: Transaction, principal: Principal) -> str | None:
    """Return the keyed hash by which everything that stands on a 7stamp key is found; `None` without a key."""
    return tx.vault.hash("7stamp key", principal.key) if principal.key else None


# --- sessions --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Session:
    """One row; times in UTC microseconds, `device` is what the browser called itself."""

    id_hash: str
    principal: Principal
    key_hash: str | None
    remembered: bool
    """Whether it lives on however long it is not used, until `expires_at`."""
    device: str
    made_at: int
    seen_at: int
    """When it was last used."""
    expires_at: int
    checked_at: int
    """When 7stamp last accepted its key; 0 before the first look at it."""
    by_operator: bool
    """Whether the operator opened it: signed in as such, or let somebody in by a link."""
    confirmed: bool = False
    """Whether somebody proved who they are when it began; a link that a signed-in device made proves nobody."""

    @property
    def operator(self) -> bool:
        """Whether the operator is signed in by it."""
        return self.principal.business_id is None


# what a colleague may do stands in their own row alone: another role counts at once, on each of their devices
_WITH_ROLE = select(console_session_table, colleague_table.c.role).outerjoin(
    colleague_table, colleague_table.c.id == console_session_table.c.colleague_id
)


def _session(tx: Transaction, row: AnyRow) -> Session:
    return Session(
        row.id_hash,
        replace(principal_of(tx, row), role=StaffRole(row.role or StaffRole.owner), colleague_id=row.colleague_id),
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


def _hashed(tx: Transaction, session_id: str, *, of_colleague: bool) -> str:
    """Return the keyed hash under which a session is stored.

    A colleague's is another: a host of a version that knows no roles finds no such session, and gives it no rights.
    """
    return tx.vault.hash("colleague session" if of_colleague else "console session", session_id)


@dataclass(frozen=True, slots=True)
class Opened:
    """Whom a link lets in. Its key is looked at before anything is shown; `until` bounds a session without one.

    What a link `by_operator` opened ends with everything else that the operator opened.
    """

    principal: Principal
    until: int | None
    by_operator: bool
    confirmed: bool = False
    """Whether `connectors console link` made it, which only the operator can run."""


def begin(
    tx: Transaction,
    principal: Principal,
    *,
    device: str,
    remembered: bool,
    lives: int,
    by: Opened | None = None,
    passkey_id: str | None = None,
) -> str:
    """Begin a session of `lives` microseconds and return its id, which nothing stores.

    `by` is the link it is opened with, `passkey_id` the passkey. Sessions that have ended are deleted, and so are the
    owner's that were not used for longest, where there would be more than a hundred.
    """
    # Only the hash is stored: whoever reads the database, or a backup of it, can open no session.
    session_id = secrets.token_urlsafe(32)
    _make_room_for_session(tx, principal.business_id)
    tx.run(
        console_session_table.insert(),
        [
            {
                "id_hash": _hashed(tx, session_id, of_colleague=principal.colleague_id is not None),
                **principal_columns(tx, principal),
                "colleague_id": principal.colleague_id,
                "remembered": int(remembered),
                "device": device[:_LONGEST_DEVICE],
                "made_at": tx.now,
                "seen_at": tx.now,
                "expires_at": _session_ends(tx.now + lives, by),
                # a link carries a key that was good when the link was made: it is looked at again before it shows
                # anything. Whoever signed in otherwise has just shown a good one.
                "checked_at": 0 if by is not None else tx.now,
                "by_operator": int(principal.business_id is None or (by is not None and by.by_operator)),
                "confirmed": int(by is None or by.confirmed),
                "passkey_id": passkey_id,
            }
        ],
    )
    return session_id


def _session_ends(expires_at: int, by: Opened | None) -> int:
    """Return when a session ends: one that a link opens without a key lives no longer than the link's maker."""
    return expires_at if by is None or by.until is None else min(expires_at, by.until)


def _make_room_for_session(tx: Transaction, business_id: str | None) -> None:
    """Delete ended sessions, and the owner's longest unused with the links they made, so that one more fits."""
    tx.run(console_session_table.delete().where(console_session_table.c.expires_at <= tx.now))
    owned = console_session_table.c.business_id == business_id
    surplus = _oldest(tx, console_session_table, owned, "seen_at", _SESSIONS_AT_MOST)
    tx.run(console_session_table.delete().where(console_session_table.c.id_hash.in_(surplus)))
    _delete_links_of(tx, surplus)


def _end_with(tx: Transaction, id_hashes: list[str]) -> None:
    """End what ends with sessions that somebody ended: the links they made, and messages to their devices."""
    _delete_links_of(tx, id_hashes)
    push_devices.remove_of_sessions(tx, id_hashes)


def _delete_links_of(tx: Transaction, id_hashes: list[str]) -> None:
    """Delete the links that sessions made: a link ends with its maker."""
    tx.run(console_link_table.delete().where(console_link_table.c.made_by.in_(id_hashes)))


def _oldest(tx: Transaction, table: Table, owned: ColumnElement[bool], age: str, most: int) -> list[str]:
    """Return the primary keys of an owner's oldest rows, by the column `age`, beyond `most` with one more."""
    key = next(iter(table.primary_key.columns))
    oldest = select(key).where(owned).order_by(table.c[age].desc()).offset(most - 1).limit(_DELETED_AT_ONCE)
    return list(tx.run(oldest).scalars())


def find(tx: Transaction, session_id: str, idle: int) -> Session | None:
    """Return the session of an id; `None` where it has ended, or is not a remembered one and was unused for `idle`."""
    row = tx.run(
        _WITH_ROLE.where(
            console_session_table.c.id_hash.in_(
                [_hashed(tx, session_id, of_colleague=of_colleague) for of_colleague in (False, True)]
            ),
            console_session_table.c.expires_at > tx.now,
            or_(console_session_table.c.remembered == 1, console_session_table.c.seen_at > tx.now - idle),
        )
    ).first()
    # one that began in the instant in which its colleague was removed is none
    if row is None or (row.colleague_id is not None and row.role is None):
        return None
    return _session(tx, row)


def record_use(tx: Transaction, session: Session, *, used: bool, checked: bool) -> None:
    """Record that a session was `used` now, or that its key was `checked` now."""
    # one update for both: a page that is opened costs at most one write
    values = ({"seen_at": tx.now} if used else {}) | ({"checked_at": tx.now} if checked else {})
    tx.run(console_session_table.update().where(console_session_table.c.id_hash == session.id_hash).values(values))


def devices(tx: Transaction, business_id: str | None) -> list[Session]:
    """Return the sessions of a business (or of the operator), last used first."""
    rows = tx.run(
        _WITH_ROLE.where(
            console_session_table.c.business_id == business_id, console_session_table.c.expires_at > tx.now
        )
        .order_by(console_session_table.c.seen_at.desc())
        .limit(_SESSIONS_AT_MOST)
    ).all()
    return [_session(tx, row) for row in rows]


def name_device(tx: Transaction, id_hash: str, name: str) -> None:
    """Call the device of a session as its owner does."""
    session = console_session_table.update().where(console_session_table.c.id_hash == id_hash)
    tx.run(session.values(device=name[:_LONGEST_DEVICE]))


# --- what ends sessions ----------------------------------------------------------------------------------------


def end(tx: Transaction, id_hash: str, business_id: str | None) -> bool:
    """End a session of a business (or of the operator); return whether there was one."""
    session = console_session_table.delete().where(
        console_session_table.c.id_hash == id_hash, console_session_table.c.business_id == business_id
    )
    if tx.run(session).rowcount == 0:
        return False
    _end_with(tx, [id_hash])
    return True


def end_of_key(tx: Transaction, key_hash: str) -> bool:
    """End the sessions and links of a key that 7stamp refuses; return whether there were any."""
    # Found by the key's hash, whoever signed in with it. Passkeys that stand on it are `passkeys.end_of_key`'s.
    sessions = tx.run(console_session_table.delete().where(console_session_table.c.key_hash == key_hash))
    links = tx.run(console_link_table.delete().where(console_link_table.c.key_hash == key_hash))
    push_devices.restrict_of_key(tx, key_hash)
    return sessions.rowcount + links.rowcount > 0


def end_of_passkey(tx: Transaction, passkey_id: str) -> None:
    """End the sessions that a passkey opened, and the links they made."""
    ended = tx.run(
        console_session_table.delete()
        .where(console_session_table.c.passkey_id == passkey_id)
        .returning(console_session_table.c.id_hash)
    )
    _end_with(tx, list(ended.scalars()))


def end_of_colleague(tx: Transaction, colleague_id: str) -> None:
    """End the sessions of an invited colleague, and the links they made."""
    ended = tx.run(
        console_session_table.delete()
        .where(console_session_table.c.colleague_id == colleague_id)
        .returning(console_session_table.c.id_hash)
    )
    _delete_links_of(tx, list(ended.scalars()))
    push_devices.remove_of_colleague(tx, colleague_id)


def end_operators(tx: Transaction) -> None:
    """End everything the operator opened: sessions, links for any business, and the sessions of such links."""
    # Rows without a business are the operator's own; rows of a business that the operator let somebody into must end,
    # too, or a former operator could come back by a link made for any cafe.
    sessions, links = console_session_table.c, console_link_table.c
    opened = console_session_table.delete().where(or_(sessions.business_id.is_(None), sessions.by_operator == 1))
    push_devices.remove_of_sessions(tx, list(tx.run(opened.returning(sessions.id_hash)).scalars()))
    tx.run(console_link_table.delete().where(or_(links.business_id.is_(None), links.by_operator == 1)))


def end_everywhere(tx: Transaction, business_id: str | None) -> None:
    """End all sessions and links of a business, whoever opened them, or everything the operator opened."""
    if business_id is None:
        end_operators(tx)
        return
    tx.run(console_session_table.delete().where(console_session_table.c.business_id == business_id))
    tx.run(console_link_table.delete().where(console_link_table.c.business_id == business_id))
    push_devices.remove_of_business(tx, business_id)


def knows_key(tx: Transaction, key_hash: str) -> bool:
    """Return whether a session or a connection has the 7stamp key with this keyed hash."""
    # asked before a key goes to 7stamp: guesses of strangers meet a limit there, keys that are in use here do not
    signed_in = select(console_session_table.c.id_hash).where(console_session_table.c.key_hash == key_hash)
    connected = select(connection_table.c.id).where(connection_table.c.key_hash == key_hash)
    # SQLite answers 1, PostgreSQL true
    return tx.run(select(or_(signed_in.exists(), connected.exists()))).scalar_one() in (True, 1)


# --- links -----------------------------------------------------------------------------------------------------


def make_link(tx: Transaction, principal: Principal, maker: Session | None = None) -> str:
    """Make a link and return its token, which opens one session within ten minutes; it ends with its maker's session.

    Without a `maker` the operator made it, by a command. Without a key to be looked at, what it opens lives no longer
    than its maker.
    """
    # Whom it lets in is encrypted, because a key may be part of it; the columns beside it are what ends links by.
    token = secrets.token_urlsafe(24)
    _make_room_for_link(tx, principal.business_id)
    content = {
        "visitor": _visitor(principal),
        "until": maker.expires_at if maker is not None and principal.key is None else None,
        "confirmed": maker is None,
    }
    tx.run(
        console_link_table.insert(),
        [
            {
                "token_hash": _hash_of_token(tx, token),
                "business_id": principal.business_id,
                "key_hash": hash_of_key(tx, principal),
                "made_by": maker.id_hash if maker is not None else None,
                "content": tx.vault.encrypt(json.dumps(content)),
                "expires_at": tx.now + LINK_FOR,
                "by_operator": int(maker is None or maker.operator or maker.by_operator),
            }
        ],
    )
    return token


def _visitor(principal: Principal) -> dict[str, object]:
    """Return a principal as JSON; what is as ever is left out, as hosts of a version before read it."""
    content = asdict(principal)
    del content["role"]  # the colleague's row has it
    if principal.colleague_id is None:
        del content["colleague_id"]
    return content


def _make_room_for_link(tx: Transaction, business_id: str | None) -> None:
    """Delete expired links, and the owner's oldest, so that one more fits."""
    tx.run(console_link_table.delete().where(console_link_table.c.expires_at <= tx.now))
    owned = console_link_table.c.business_id == business_id
    surplus = _oldest(tx, console_link_table, owned, "expires_at", _LINKS_AT_MOST)
    tx.run(console_link_table.delete().where(console_link_table.c.token_hash.in_(surplus)))


def link_of(tx: Transaction, token: str) -> Opened | None:
    """Return whom a link lets in, without spending it; `None` where it is unknown, spent or too old."""
    row = tx.run(
        select(console_link_table.c.content, console_link_table.c.by_operator).where(_is_live_link(tx, token))
    ).first()
    return _opened(tx, row) if row is not None else None


def spend_link(tx: Transaction, token: str) -> Opened | None:
    """Return whom a link lets in, once: it is deleted; `None` where it is unknown, spent or too old."""
    # deleting and reading are one statement: of two requests with the same token only one gets the row
    row = tx.run(
        console_link_table.delete()
        .where(_is_live_link(tx, token))
        .returning(console_link_table.c.content, console_link_table.c.by_operator)
    ).first()
    return _opened(tx, row) if row is not None else None


def _hash_of_token(tx: Transaction, token: str) -> str:
    return tx.vault.hash("console link", token)


def _is_live_link(tx: Transaction, token: str) -> ColumnElement[bool]:
    """Return the condition that a row is this token's and has not expired."""
    return (console_link_table.c.token_hash == _hash_of_token(tx, token)) & (console_link_table.c.expires_at > tx.now)


def _opened(tx: Transaction, row: AnyRow) -> Opened:
    content = json.loads(tx.vault.decrypt(row.content))
    return Opened(
        Principal(**content["visitor"]), content["until"], bool(row.by_operator), content.get("confirmed", False)
    )


# --- consents --------------------------------------------------------------------------------------------------


class ConsentState(StrEnum):
    """What a browser that comes back from a till's page with a state brings."""

    good = "good"
    """The consent that this session asked for, used now for the first time."""
    forged = "forged"
    """A state that this session never asked for: nothing of it is used."""
    used = "used"
    """The consent was used before: the page was loaded twice."""
    stale = "stale"
    """The consent was asked for too long ago."""


class Consent(NamedTuple):
    """A consent that came back; `content` is what was stored with it, empty where it is `forged`."""

    state: ConsentState
    content: dict[str, str]


def ask_consent(tx: Transaction, session: Session, content: Mapping[str, str]) -> str:
    """Store what a session asks a till's consent for and return the OAuth state, good once and for ten minutes."""
    state = secrets.token_urlsafe(24)
    tx.run(consent_table.delete().where(consent_table.c.made_at <= tx.now - _CONSENT_KEPT_FOR))
    owned = consent_table.c.session_hash == session.id_hash
    surplus = _oldest(tx, consent_table, owned, "made_at", _CONSENTS_AT_MOST)
    tx.run(consent_table.delete().where(consent_table.c.state_hash.in_(surplus)))
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


def use_consent(tx: Transaction, session: Session, state: str) -> Consent:
    """Use a consent up and return it with what was stored when this session asked for it."""
    row = tx.run(select(consent_table).where(consent_table.c.state_hash == tx.vault.hash("consent", state))).first()
    # another session's state is as good as none: a page that made this browser come here must not connect its own
    # account at the till to this person's business
    if row is None or row.session_hash != session.id_hash:
        return Consent(ConsentState.forged, {})
    content: dict[str, str] = json.loads(tx.vault.decrypt(row.content))
    if row.made_at <= tx.now - _CONSENT_FOR:
        return Consent(ConsentState.stale, content)
    # one conditional update: of two requests with the same state only one finds it unused
    unused = tx.run(
        consent_table.update()
        .where(consent_table.c.state_hash == row.state_hash, consent_table.c.used_at.is_(None))
        .values(used_at=tx.now)
    )
    return Consent(ConsentState.good if unused.rowcount else ConsentState.used, content)

"""Passkeys that open the console, and the challenges that were answered with one.

Owns the tables `passkey` and `passkey_challenge`: how many there are, which are closed, and what a sign count means.
Signatures are verified by the console before anything is written here.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from sqlalchemy import func, select

from connectors.store import access
from connectors.store.access.sessions import Principal, hash_of_key, principal_columns, principal_of
from connectors.store.engine import Transaction
from connectors.store.query_parts import AnyRow
from connectors.store.schema import passkey_challenge_table, passkey_table

MOST = 10
"""How many passkeys the operator, or a business, can have."""
_LONGEST_LABEL, _LONGEST_DEVICE = 60, 120


class Outcome(Enum):
    """What became of adding or using a passkey; only `done` changes what it opens for good."""

    done = "done"
    """It was added, or signed a challenge that nobody had used."""
    replayed = "replayed"
    """The challenge was used before."""
    copied = "copied"
    """Its sign count did not grow: two authenticators may hold it. It opens nothing any more."""
    gone = "gone"
    """It was removed meanwhile."""
    known = "known"
    """The same credential is here already."""
    too_many = "too many"
    """Its owner has `MOST` of them."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A challenge that was answered; its `text` is used once until `expires_at` (UTC microseconds)."""

    text: str
    expires_at: int


@dataclass(frozen=True, slots=True)
class Credential:
    """What a browser registered: ids and key are base64url text, the key as COSE writes it."""

    credential_id: str
    user_handle: str
    public_key: str
    sign_count: int
    transports: Sequence[str]


@dataclass(frozen=True, slots=True)
class Passkey:
    """One row; times in UTC microseconds. `principal` is who signs in by it."""

    id: str
    credential: Credential
    principal: Principal
    key_hash: str | None
    label: str
    device: str
    made_at: int
    used_at: int | None
    refused_at: int | None
    """Since when it may have been copied, and opens nothing."""

    @property
    def keyless(self) -> bool:
        """Whether 7stamp refused the key that this cafe's passkey stands on."""
        return self.principal.business_id is not None and self.principal.key is None


def _passkey(tx: Transaction, row: AnyRow) -> Passkey:
    return Passkey(
        id=row.id,
        credential=Credential(
            row.credential_id, row.user_handle, row.public_key, row.sign_count, tuple(json.loads(row.transports))
        ),
        principal=principal_of(tx, row),
        key_hash=row.key_hash,
        label=row.label,
        device=row.device,
        made_at=row.made_at,
        used_at=row.used_at,
        refused_at=row.refused_at,
    )


def of_owner(tx: Transaction, business_id: str | None) -> list[Passkey]:
    """Return the passkeys of a business (or of the operator), newest first."""
    rows = tx.run(
        select(passkey_table)
        .where(passkey_table.c.business_id == business_id)
        .order_by(passkey_table.c.made_at.desc(), passkey_table.c.id)
    ).all()
    return [_passkey(tx, row) for row in rows]


def get(tx: Transaction, passkey_id: str, business_id: str | None) -> Passkey | None:
    """Return a passkey of this owner; `None` where it is another's or gone."""
    row = tx.run(
        select(passkey_table).where(passkey_table.c.id == passkey_id, passkey_table.c.business_id == business_id)
    ).first()
    return _passkey(tx, row) if row else None


def of_credential(tx: Transaction, credential_id: str) -> Passkey | None:
    """Return the passkey of a credential, whoever owns it; `None` for an unknown one."""
    row = tx.run(select(passkey_table).where(passkey_table.c.credential_id == credential_id)).first()
    return _passkey(tx, row) if row else None


def add(
    tx: Transaction, credential: Credential, principal: Principal, challenge: Challenge, *, label: str, device: str
) -> Outcome:
    """Store a new passkey of `principal` and use the challenge up."""
    # the challenge first: an answer that was used before says nothing, whatever else is wrong with it
    if not _use(tx, challenge):
        return Outcome.replayed
    if _count(tx, principal.business_id) >= MOST:
        return Outcome.too_many
    if of_credential(tx, credential.credential_id) is not None:
        return Outcome.known
    tx.run(
        passkey_table.insert(),
        [
            {
                "id": secrets.token_hex(8),
                "credential_id": credential.credential_id,
                **principal_columns(tx, principal),
                "user_handle": credential.user_handle,
                "public_key": credential.public_key,
                "sign_count": credential.sign_count,
                "transports": json.dumps(list(credential.transports)),
                "label": label[:_LONGEST_LABEL],
                "device": device[:_LONGEST_DEVICE],
                "made_at": tx.now,
            }
        ],
    )
    return Outcome.done


def _count(tx: Transaction, business_id: str | None) -> int:
    owned = passkey_table.c.business_id == business_id
    return int(tx.run(select(func.count()).select_from(passkey_table).where(owned)).scalar_one())


def use(tx: Transaction, passkey_id: str, sign_count: int, challenge: Challenge) -> Outcome:
    """Record that a passkey signed a challenge; only `Outcome.done` lets anybody in.

    Authenticators that do not count say 0 always. Of the others the count must grow: one that does not is of a copy, or
    of the original after a copy was used, and nobody can tell which.
    """
    if not _use(tx, challenge):
        return Outcome.replayed
    count = tx.run(
        select(passkey_table.c.sign_count).where(passkey_table.c.id == passkey_id, passkey_table.c.refused_at.is_(None))
    ).scalar()
    if count is None:
        return Outcome.gone
    # 0 and 0 is an authenticator that does not count
    if sign_count <= count and (sign_count or count):
        tx.run(passkey_table.update().where(passkey_table.c.id == passkey_id).values(refused_at=tx.now))
        access.sessions.end_of_passkey(tx, passkey_id)
        return Outcome.copied
    tx.run(passkey_table.update().where(passkey_table.c.id == passkey_id).values(sign_count=sign_count, used_at=tx.now))
    return Outcome.done


def _use(tx: Transaction, challenge: Challenge) -> bool:
    """Use a challenge up; return whether it was unused. Only those that were answered rightly have a row."""
    tx.run(passkey_challenge_table.delete().where(passkey_challenge_table.c.expires_at <= tx.now))
    # the primary key decides: of two requests with the same answer only one adds the row
    added = tx.run(
        tx.insert(passkey_challenge_table)
        .values(challenge=challenge.text, expires_at=challenge.expires_at)
        .on_conflict_do_nothing()
        .returning(passkey_challenge_table.c.challenge)
    ).first()
    return added is not None


def remove(tx: Transaction, passkey_id: str, business_id: str | None) -> bool:
    """Remove a passkey of this owner and end the sessions it opened; return whether there was one."""
    passkey = passkey_table.delete().where(passkey_table.c.id == passkey_id, passkey_table.c.business_id == business_id)
    if tx.run(passkey).rowcount == 0:
        return False
    access.sessions.end_of_passkey(tx, passkey_id)
    return True


def remove_operators(tx: Transaction) -> None:
    """Remove all passkeys of the operator, whose password changed."""
    tx.run(passkey_table.delete().where(passkey_table.c.business_id.is_(None)))


def opens(tx: Transaction, passkey_id: str) -> bool:
    """Return whether a passkey is still there and not closed."""
    usable = select(passkey_table.c.id).where(passkey_table.c.id == passkey_id, passkey_table.c.refused_at.is_(None))
    return tx.run(usable).first() is not None


def end_of_key(tx: Transaction, key_hash: str) -> bool:
    """Forget a key that 7stamp refuses; return whether passkeys stood on it: they open nothing until `renew_key`."""
    # The row stays, so that its owner need not register the device anew once there is a good key again.
    closed = passkey_table.update().where(passkey_table.c.key_hash == key_hash).values(key=None, key_hash=None)
    return tx.run(closed).rowcount > 0


def renew_key(tx: Transaction, principal: Principal) -> None:
    """Put this principal's own passkeys whose key was refused on the good key they signed in with.

    Only those of the same login: a key is refused when somebody leaves, and a colleague's key must not let them in.
    """
    if principal.business_id is None or principal.key is None:
        return
    tx.run(
        passkey_table.update()
        .where(
            passkey_table.c.business_id == principal.business_id,
            passkey_table.c.login == principal.login,
            passkey_table.c.key_hash.is_(None),
        )
        .values(key=tx.vault.encrypt(principal.key), key_hash=hash_of_key(tx, principal))
    )

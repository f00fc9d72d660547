"""Which key a database's values are encrypted with, and the key of its hashes.

Owns these rows of `setting`: `canary` (a known text; the key it is encrypted with is the one in use), `hash_key`
(random, encrypted like everything else: hashes cannot be computed anew, so it outlives every change of keys) and
`rotating` (there while former keys may still be in use).
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import Connection as Session
from sqlalchemy import Select, inspect, select
from sqlalchemy.dialects import postgresql, sqlite

from connectors.store.errors import WrongKey
from connectors.store.schema import setting_table
from connectors.store.vault import CANARY, MAKE_ONE, Key, Vault


def _value(name: str) -> Select[str]:
    return select(setting_table.c.value).where(setting_table.c.name == name)


_CANARY = _value("canary").with_for_update(read=True)


def recognise(session: Session, vault: Vault) -> None:
    """Have the vault use the key and the hash key of a database, which may be of an older version, or empty.

    Raises `WrongKey` where the vault does not know the key, and `StoreError` where a new database would get a weak one.
    """
    canary = session.execute(_value("canary")).scalar() if inspect(session).has_table("setting") else None
    if canary is None:
        vault.newest.refuse_weak()
        vault.hash_with(secrets.token_bytes(32))
        return
    _use(vault, canary)
    kept = session.execute(_value("hash_key")).scalar()
    # what hashes were keyed with before they had a key of their own stays their key
    vault.hash_with(bytes.fromhex(vault.decrypt(kept)) if kept else vault.current.hash_key)


def _use(vault: Vault, canary: str) -> None:
    vault.use(canary.partition(":")[0])
    if vault.decrypt(canary) != CANARY:
        raise WrongKey(vault.key_id)


def establish(session: Session, vault: Vault) -> None:
    """Write down the key and the hash key of a database that has none."""
    insert = (postgresql if session.dialect.name == "postgresql" else sqlite).insert(setting_table)
    rows = [
        {"name": "canary", "value": vault.encrypt(CANARY)},
        {"name": "hash_key", "value": vault.encrypt(vault.hash_key.hex())},
    ]
    session.execute(insert.on_conflict_do_nothing(), rows)
    recognise(session, vault)  # another process may have been as quick


def follow(session: Session, vault: Vault) -> None:
    """In a transaction that writes: use the key that is in use now. Raises `WrongKey` where it is not known.

    A process that learned the keys before they were changed would else go on writing with a former one.
    """
    canary = session.execute(_CANARY).scalar()
    if canary is not None and not canary.startswith(f"{vault.key_id}:"):
        vault.use(canary.partition(":")[0])


def begin(session: Session, vault: Vault, key: Key) -> None:
    """Change the key in use; what is encrypted with another stays to be encrypted anew."""
    key.refuse_weak()
    vault.use(key.id)
    for name, value in (("canary", CANARY), ("hash_key", vault.hash_key.hex())):
        session.execute(setting_table.update().where(setting_table.c.name == name).values(value=vault.encrypt(value)))
    session.execute(setting_table.delete().where(setting_table.c.name == "rotating"))
    session.execute(setting_table.insert(), [{"name": "rotating", "value": key.id}])


def rotating(session: Session) -> bool:
    """Whether a change of keys has begun and not ended."""
    return session.execute(_value("rotating")).scalar() is not None


def end(session: Session) -> None:
    session.execute(setting_table.delete().where(setting_table.c.name == "rotating"))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that an operator should know of the keys: wrong (`good` is false), or only worth knowing (`None`)."""

    good: bool | None
    text: str


def findings(session: Session, vault: Vault) -> list[Finding]:
    """What should be done about the keys; empty where nothing is to be done."""
    found: list[Finding] = []
    if vault.current.weakness is not None and vault.newest is vault.current:
        found.append(Finding(False, f"the secret key {vault.current.weakness}; {_way_out(vault)}"))
    if rotating(session):
        text = "a change of keys has begun and not ended: `connectors keys rotate` goes on with it, and so does a host"
        found.append(Finding(None, text))
    elif vault.file is None and vault.newest is not vault.current:
        text = (
            "CONNECTORS_SECRET_KEY is newer than the key in use: `connectors keys rotate` encrypts everything with it"
        )
        found.append(Finding(None, text))
    elif vault.file is None and vault.several:
        text = "nothing is encrypted with a former key: CONNECTORS_SECRET_KEYS_OLD may be removed"
        found.append(Finding(None, text))
    return found


def _way_out(vault: Vault) -> str:
    if vault.file is not None:
        return "run `connectors keys rotate`"
    return (
        f"{MAKE_ONE}, set CONNECTORS_SECRET_KEY to it and CONNECTORS_SECRET_KEYS_OLD to the one used so far, restart, "
        "and run `connectors keys rotate`"
    )

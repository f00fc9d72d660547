"""Which key a database's values are encrypted with, and the key of its hashes.

Owns the meaning of three stored settings: the canary (a known text; the key it is encrypted with is the one in use),
the hash key (random, encrypted like everything else: hashes cannot be computed anew, so it outlives every rotation)
and the mark of a rotation that has not ended. `stored_settings` writes the rows, `vault` encrypts.
"""

from __future__ import annotations

import secrets

from sqlalchemy import Connection as Session

from connectors.domain.finding import Finding
from connectors.store import stored_settings
from connectors.store.errors import WrongKey
from connectors.store.stored_settings import CANARY, HASH_KEY, ROTATING
from connectors.store.vault import CANARY_TEXT, MAKE_ONE, Key, Vault

_CHECK = "keys"


def recognise(session: Session, vault: Vault) -> None:
    """Have the vault use the key and the hash key of a database, which may be of an older version, or empty.

    Raises `WrongKey` where the vault does not know the key, and `StoreError` where a new database would get a weak one.
    """
    canary = stored_settings.find(session, CANARY) if stored_settings.has_table(session) else None
    if canary is None:  # a new database: nothing in it binds us to a key yet
        vault.newest.refuse_weak()
        vault.hash_with(secrets.token_bytes(32))
        return
    _use_key_of(vault, canary)
    hash_key = stored_settings.find(session, HASH_KEY)
    # what hashes were keyed with before they had a key of their own stays their key
    vault.hash_with(bytes.fromhex(vault.decrypt(hash_key)) if hash_key else vault.current.hash_key)


def _use_key_of(vault: Vault, canary: str) -> None:
    """Encrypt with the canary's key, after it has decrypted the canary. Raises `WrongKey`."""
    vault.use(_key_id(canary))
    if vault.decrypt(canary) != CANARY_TEXT:
        raise WrongKey(vault.key_id)


def _key_id(ciphertext: str) -> str:
    return ciphertext.partition(":")[0]


def establish(session: Session, vault: Vault) -> None:
    """Write down the key and the hash key of a database that has none. Raises `WrongKey`."""
    rows = {CANARY: vault.encrypt(CANARY_TEXT), HASH_KEY: vault.encrypt(vault.hash_key.hex())}
    stored_settings.add_missing(session, rows)
    # Two processes may open an empty database at once, each with a hash key it just made. Only one's rows were added:
    # reading them back makes both use the same.
    recognise(session, vault)


def follow(session: Session, vault: Vault) -> None:
    """Use the key that is in use now, in a transaction that writes. Raises `WrongKey` where it is not known.

    A process that learned the keys before a rotation would otherwise go on writing with a former key, which the
    rotation is about to remove.
    """
    canary = stored_settings.find_canary_and_lock(session)
    if canary is not None and _key_id(canary) != vault.key_id:
        vault.use(_key_id(canary))


def begin(session: Session, vault: Vault, key: Key) -> None:
    """Change the key in use; what is encrypted with another stays to be encrypted anew. Raises `StoreError`."""
    # All three rows change in one transaction: whoever reads the canary finds a hash key of the same key.
    key.refuse_weak()
    vault.use(key.id)
    stored_settings.put(session, CANARY, vault.encrypt(CANARY_TEXT))
    stored_settings.put(session, HASH_KEY, vault.encrypt(vault.hash_key.hex()))
    stored_settings.put(session, ROTATING, key.id)


def is_rotating(session: Session) -> bool:
    """Return whether a rotation has begun and not ended."""
    return stored_settings.find(session, ROTATING) is not None


def end(session: Session) -> None:
    """Note that a rotation has ended."""
    stored_settings.delete(session, ROTATING)


def find_problems(session: Session, vault: Vault) -> list[Finding]:
    """List what an operator should do about the keys; empty where nothing is to be done."""
    findings: list[Finding] = []
    # a weak key that a newer one is about to replace needs no words of its own: the rotation is named below
    if vault.current.weakness is not None and vault.newest is vault.current:
        findings.append(Finding(_CHECK, False, f"the secret key {vault.current.weakness}; {_way_out(vault)}"))
    if hint := _rotation_hint(session, vault):
        findings.append(Finding(_CHECK, None, hint))
    return findings


def _rotation_hint(session: Session, vault: Vault) -> str | None:
    """Return what is to be done to begin, finish or clean up after a rotation; `None` for nothing."""
    if is_rotating(session):
        return "a change of keys has begun and not ended: `connectors keys rotate` goes on with it, and so does a host"
    if vault.file is not None:  # the file is ours: `rotate` makes keys and removes them
        return None
    if vault.newest is not vault.current:
        return (
            "CONNECTORS_SECRET_KEY is newer than the key in use: `connectors keys rotate` encrypts everything with it"
        )
    if vault.several:
        return "nothing is encrypted with a former key: CONNECTORS_SECRET_KEYS_OLD may be removed"
    return None


def _way_out(vault: Vault) -> str:
    if vault.file is not None:
        return "run `connectors keys rotate`"
    return (
        f"{MAKE_ONE}, set CONNECTORS_SECRET_KEY to it and CONNECTORS_SECRET_KEYS_OLD to the one used so far, restart, "
        "and run `connectors keys rotate`"
    )

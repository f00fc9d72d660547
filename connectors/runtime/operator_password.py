"""The operator's password: from the setting, or made at the first start.

Owns hashing it; the hash and what ends when it changes are `connectors.store.access.operator_password`'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from pydantic import SecretStr

from connectors.store import access
from connectors.store.engine import Store


async def ensure_operator_password(store: Store, configured: SecretStr | None) -> str | None:
    """See that the operator has a password: the configured one, or one made now.

    Return a password that was made, to be shown once; `None` where there was one, or one is configured.
    """
    current_hash = await store.read(access.operator_password.password_hash)
    if configured is None:
        if current_hash is not None:
            return None
        generated = secrets.token_urlsafe(15)
        await _set(store, generated)
        return generated
    password = configured.get_secret_value()
    # Setting a password ends everything that the operator opened: not at every start with the same one.
    if current_hash is None or not _matches(current_hash, password):
        await _set(store, password)
    return None


def _matches(password_hash: str, password: str) -> bool:
    with contextlib.suppress(VerificationError, InvalidHashError):
        return PasswordHasher().verify(password_hash, password)
    return False


async def _set(store: Store, password: str) -> None:
    # argon2 is slow on purpose: beside the event loop, and before the transaction, which others wait for
    password_hash = await asyncio.to_thread(PasswordHasher().hash, password)
    await store.write(lambda tx: access.operator_password.set_password_hash(tx, password_hash))

"""The hash of the operator's password.

Owns what else ends when it changes; hashing and checking a password are the host's and the console's.
"""

from __future__ import annotations

from connectors.store import access, stored_settings
from connectors.store.engine import Transaction
from connectors.store.stored_settings import OPERATOR_PASSWORD


def password_hash(tx: Transaction) -> str | None:
    """Return the hash of the operator's password; `None` before there is one."""
    return stored_settings.find(tx.session, OPERATOR_PASSWORD)


def set_password_hash(tx: Transaction, value: str) -> None:
    """Store another hash; everything that the operator opened under the old one ends, and the operator's passkeys go.

    Whoever knew the old password may have added a passkey: a new password must end that, too.
    """
    if password_hash(tx) is not None:
        access.passkeys.remove_operators(tx)
        access.sessions.end_operators(tx)
    stored_settings.put(tx.session, OPERATOR_PASSWORD, value)
    access.security_log.record(tx, access.security_log.EventKind.password_changed)

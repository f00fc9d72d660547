"""TODO docstring."""

from __future__ import annotations

from sqlalchemy import select

from connectors.store import access
from connectors.store.engine import Transaction
from connectors.store.schema import setting_table

_NAME = "operator password"


def password_hash(tx: Transaction) -> str | None:
    return tx.run(select(setting_table.c.value).where(setting_table.c.name == _NAME)).scalar()


def set_password_hash(tx: Transaction, value: str) -> None:
    """Keep a new one; everything that the operator opened under the old one ends, and the operator's passkeys go.

    Whoever knew the old password may have added a passkey: a new password must end that, too.
    """
    if password_hash(tx) is not None:
        access.passkeys.remove_operators(tx)
        access.sessions.end_operators(tx)
    tx.run(
        tx.insert(setting_table)
        .values(name=_NAME, value=value)
        .on_conflict_do_update(index_elements=[setting_table.c.name], set_={"value": value})
    )
    access.security_log.record(tx, access.security_log.EventKind.password_changed)

"""The table `setting`: what the database itself remembers of an installation, a text under each name.

Owns every write to that table; what a value means is its reader's: `keyring` (keys), `migrate` (a rewrite that is due,
the oldest code), `job_schema`, `moving` and `access.operator_password`. Functions take a session, because keys are read
before there is a transaction.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlalchemy import Connection as Session
from sqlalchemy import Select, inspect, select

from connectors.store.dialect import insert_into
from connectors.store.schema import setting_table

CANARY = "canary"
"""A known text; the key that it is encrypted with is the one in use."""
HASH_KEY = "hash_key"
"""The key of all hashes, encrypted like everything else."""
ROTATING = "rotating"
"""The id of the key that a rotation encrypts with; there while former keys may still be in use."""
REWRITE = "rewrite"
"""There while the database's free space may hold what a migration has encrypted since."""
MOVED_TO = "moved to"
"""Where an embedded installation was moved: nothing uses its file any more."""
MOVING = "moving"
"""On a server: which installation is being moved into it, and with the name of a table how far that one has come."""
OLDEST_CODE = "oldest code"
"""The oldest schema whose code may run on this database's schema, while hosts are upgraded one after another."""
PROCRASTINATE = "procrastinate"
"""The version of Procrastinate whose tables a database server has."""
OPERATOR_PASSWORD = "operator password"  # noqa: S105 - the name of a row
"""The hash of the operator's password."""


def _value(name: str) -> Select[str]:
    return select(setting_table.c.value).where(setting_table.c.name == name)


# Shared: writers hold it side by side, and a rotation that changes the key waits until they have committed.
_CANARY_LOCKED = _value(CANARY).with_for_update(read=True)


def has_table(session: Session) -> bool:
    """Return whether the table is there: an empty database has none."""
    return inspect(session).has_table(setting_table.name)


def find(session: Session, name: str) -> str | None:
    """Return the value under a name, or `None`."""
    return session.execute(_value(name)).scalar()


def find_canary_and_lock(session: Session) -> str | None:
    """Return the canary, and on PostgreSQL keep it from being changed until this transaction ends."""
    return session.execute(_CANARY_LOCKED).scalar()


def add_missing(session: Session, values: Mapping[str, str]) -> None:
    """Write values under names that have none; another process may have been as quick."""
    rows = [{"name": name, "value": value} for name, value in values.items()]
    session.execute(insert_into(session.dialect.name, setting_table).on_conflict_do_nothing(), rows)


def put(session: Session, name: str, value: str) -> None:
    """Write a value, in place of one that is there."""
    session.execute(
        insert_into(session.dialect.name, setting_table)
        .values(name=name, value=value)
        .on_conflict_do_update(index_elements=[setting_table.c.name], set_={"value": value})
    )


def delete(session: Session, name: str) -> None:
    """Delete the value under a name, if there is one."""
    session.execute(setting_table.delete().where(setting_table.c.name == name))

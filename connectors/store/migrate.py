"""Brings a database to this version's schema, in one transaction.

Owns the use of Alembic; the steps themselves are in `migrations/versions`. Alembic is imported where there is a step to
take: a command on a database that is up to date, as nearly every one is, does not wait for it.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from sqlalchemy import Connection as Session
from sqlalchemy import Engine, String, column, inspect, select, table, text

from connectors.store import job_schema, stored_settings
from connectors.store.errors import NewerDatabase
from connectors.store.stored_settings import OLDEST_CODE, REWRITE
from connectors.store.vault import Vault

if TYPE_CHECKING:
    from alembic.config import Config

_OLDEST_CODE = "0017"
"""The oldest schema whose code runs on this one: a step that takes from older code what it needs raises it."""
_LOCK = text("SELECT pg_advisory_xact_lock(7002345)")
_REVISION = select(column("version_num", String)).select_from(table("alembic_version"))


def newest() -> str:
    """Return the revision of this version's schema: the number with which the last step's file begins.

    Raises `RuntimeError` where the package was built without its steps.
    """
    names = (file.name for file in (resources.files("connectors.store") / "migrations" / "versions").iterdir())
    revisions = [name.partition("_")[0] for name in names if name[:1].isdigit()]
    if not revisions:
        raise RuntimeError("this package was built without its migrations")
    return max(revisions)


def _config() -> Config:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(resources.files("connectors.store") / "migrations"))
    return config


def upgrade(engine: Engine, vault: Vault) -> str:
    """Upgrade to the newest schema and return its revision; steps encrypt with `vault`. Raises `NewerDatabase`.

    A newer schema is left as it is where its version says that this one's code may run on it.
    """
    head = newest()
    if not outdated(engine) and _revision(engine) is not None:
        return head
    from alembic import command
    from alembic.script import ScriptDirectory

    config = _config()
    # one transaction for all steps: a process that is killed in the middle leaves the schema it found
    with engine.begin() as session:
        if _is_server(session):
            session.execute(_LOCK)  # two that upgrade at once: the second finds it done
        revisions = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        current = revision(session)
        if current is not None and current not in revisions:
            _require_compatible(session, current)
            return current
        config.attributes.update(connection=session, vault=vault)
        command.upgrade(config, "head")
        stored_settings.put(session, OLDEST_CODE, _OLDEST_CODE)
        if _is_server(session):
            job_schema.prepare(session)
    return head


def _is_server(session: Session) -> bool:
    return session.dialect.name != "sqlite"


def _require_compatible(session: Session, current: str) -> None:
    """Refuse a schema of a later version on which this version's code must not run. Raises `NewerDatabase`."""
    oldest = stored_settings.find(session, OLDEST_CODE)
    if oldest is None or oldest > newest():
        raise NewerDatabase(current)


def outdated(engine: Engine) -> bool:
    """Return whether the database has a schema that `upgrade` would change, or refuse."""
    with engine.connect() as session:
        current = revision(session)
        if current is None:
            return False
        if current != newest():
            return current < newest() or (stored_settings.find(session, OLDEST_CODE) or current) > newest()
        return _is_server(session) and job_schema.is_outdated(session)


def _revision(engine: Engine) -> str | None:
    with engine.connect() as session:
        return revision(session)


def revision(session: Session) -> str | None:
    """Return the schema a database is at, as Alembic left it in its own table; `None` for an empty database."""
    if not inspect(session).has_table("alembic_version"):
        return None
    return session.execute(_REVISION).scalar()


def needs_rewriting(session: Session) -> bool:
    """Return whether an upgrade encrypted what stood in clear: the former text may be in the file's free space."""
    return stored_settings.find(session, REWRITE) is not None


def mark_rewritten(session: Session) -> None:
    """Note that the free space holds no former text any more."""
    stored_settings.delete(session, REWRITE)

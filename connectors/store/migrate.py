"""Brings a database to this version's schema, in one transaction.

Owns the use of Alembic; the steps themselves are in `migrations/versions`.
"""

from __future__ import annotations

from importlib import resources

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, select

from connectors.store.errors import NewerDatabase
from connectors.store.schema import setting_table
from connectors.store.vault import Vault

_REWRITE = select(setting_table.c.value).where(setting_table.c.name == "rewrite")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(resources.files("connectors.store") / "migrations"))
    return config


def upgrade(engine: Engine, vault: Vault) -> str:
    """Upgrade to the newest schema and return its revision; steps encrypt with `vault`. Raises `NewerDatabase`."""
    config = _config()
    head = ScriptDirectory.from_config(config).get_current_head()
    if head is None:
        raise RuntimeError("this package was built without its migrations")
    if _revision(engine) == head:
        return head
    with engine.begin() as session:
        known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
        current = revision(session)
        if current is not None and current not in known:
            raise NewerDatabase(current)
        config.attributes.update(connection=session, vault=vault)
        command.upgrade(config, "head")
    return head


def outdated(engine: Engine) -> bool:
    """Whether the database has a schema, and that is not the newest."""
    current = _revision(engine)
    return current is not None and current != ScriptDirectory.from_config(_config()).get_current_head()


def _revision(engine: Engine) -> str | None:
    with engine.connect() as session:
        return revision(session)


def revision(session: Connection) -> str | None:
    """The schema a database is at; `None` for an empty one."""
    return MigrationContext.configure(session).get_current_revision()


def wants_rewriting(session: Connection) -> bool:
    """Whether an upgrade encrypted what stood in clear: the former text may be in the file's free space."""
    return session.execute(_REWRITE).first() is not None


def rewritten(session: Connection) -> None:
    session.execute(setting_table.delete().where(setting_table.c.name == "rewrite"))

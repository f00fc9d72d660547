"""Databases for tests: a file of SQLite, or with `DATABASE=postgresql` one on a server of this process.

Each begins as a copy of an empty database at the newest schema, made once a process. Making one takes all the steps of
the schema, longer than most tests. What the steps do is tested in `tests/store` and by every command that begins
without a database.
"""

from __future__ import annotations

import os
import tempfile
from functools import cache
from pathlib import Path

import sqlalchemy
from sqlalchemy import text

from connectors.store import migrate
from connectors.store.engine import Store
from connectors.store.vault import Vault
from tests.postgresql import shared_postgresql

ON_POSTGRESQL = os.environ.get("DATABASE") == "postgresql"
"""Whether the tests that do not choose their database use PostgreSQL."""

_made_on_server: list[str] = []


def new_database(folder: Path, *, keyless: bool = False) -> str:
    """Return the address of a new database, whose file would be in `folder`.

    One of a `keyless` installation has a key in a file beside it, so it is a file, which the host makes itself.
    """
    if ON_POSTGRESQL and not keyless:
        _made_on_server.append(shared_postgresql().new_database())
        return _made_on_server[-1]
    if not keyless:
        lay_empty_database(folder / "ledger.db")
    return f"sqlite:///{folder / 'ledger.db'}"


def change_database(url: str, statement: str, *values: object) -> None:
    """Change one row of a database beside the host's back; `?` stands for each value."""
    engine = sqlalchemy.create_engine(url)
    for number in range(len(values)):
        statement = statement.replace("?", f":value{number}", 1)
    with engine.begin() as session:
        changed = session.execute(text(statement), {f"value{number}": value for number, value in enumerate(values)})
        assert changed.rowcount == 1
    engine.dispose()


def drop_all() -> None:
    """Delete the databases made on the server so far."""
    while _made_on_server:
        shared_postgresql().drop(_made_on_server.pop())


def lay_empty_database(file: Path) -> None:
    """Put an empty database where a host looks for its own, unless one is there already."""
    if not file.exists():
        file.write_bytes(_empty_file())


@cache
def _empty_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        store = Store(f"sqlite:///{file}", Vault("nothing is encrypted in an empty database"))
        migrate.upgrade(store._engine, store.vault)
        store._engine.dispose()
        return file.read_bytes()

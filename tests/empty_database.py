"""An empty database at the newest schema, made once a worker and copied for each test.

Making one takes all the steps of the schema, longer than most tests. What the steps do is tested in `tests/store` and
by every command that begins without a database.
"""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path

from connectors.store import migrate
from connectors.store.engine import Store
from connectors.store.vault import Vault


def lay_empty_database(file: Path) -> None:
    """Put an empty database where a host looks for its own, unless one is there already."""
    if not file.exists():
        file.write_bytes(_made())


@cache
def _made() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "ledger.db"
        store = Store(f"sqlite:///{file}", Vault("nothing is encrypted in an empty database"))
        migrate.upgrade(store._engine, store.vault)
        store._engine.dispose()
        return file.read_bytes()

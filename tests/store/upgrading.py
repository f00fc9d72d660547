"""A process that upgrades a database's schema and is killed at a statement of its choice."""

from __future__ import annotations

import os
import signal
import sys

from sqlalchemy import event

from connectors.store.engine import Store
from connectors.store.vault import Vault


def upgrade_until(url: str, secret: str, at: int) -> None:
    """Upgrade, but be killed before the nth statement; end with 3 where there are not so many."""
    store, statements = Store(url, Vault(secret)), 0

    @event.listens_for(store._engine, "before_cursor_execute")
    def _count(*_: object) -> None:
        nonlocal statements
        statements += 1
        if statements == at:
            os.kill(os.getpid(), signal.SIGKILL)

    store.prepare()
    sys.exit(3)

"""A process that changes a database's keys, in small steps, to be killed."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from connectors.store import rotation
from connectors.store.engine import Store
from connectors.store.vault import KeyFile, Vault


def vault_of(database: Path) -> Vault:
    return Vault(file=KeyFile(database.with_name(database.name + ".key")))


def rotate(database: Path, steps: Connection, rows: int) -> None:
    """Rotate to the end; a byte for each step that is committed."""

    async def progress(_done: int, _total: int) -> None:
        steps.send_bytes(b".")

    asyncio.run(_rotate(database, progress, rows))


def rotate_until_file_call(database: Path, call: int) -> None:
    """Rotate, but be killed at the nth call that makes the key file last."""
    calls = 0

    def killed_before(function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **named)

        return counted

    async def progress(_done: int, _total: int) -> None:
        return

    vault_of(database)  # what is imported and read so far is not counted
    for name in ("fsync", "replace", "unlink"):
        setattr(os, name, killed_before(getattr(os, name)))
    asyncio.run(_rotate(database, progress, 100))


async def _rotate(database: Path, progress: rotation.Progress, rows: int) -> None:
    store = Store(f"sqlite:///{database}", vault_of(database))
    await store.open()
    await rotation.rotate(store, progress, rows=rows)
    await store.close()

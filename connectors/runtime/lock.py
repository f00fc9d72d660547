"""The lock beside an embedded database: one host, or one working command, at a time.

Owns the lock file and the note of who holds the lock. A database server has neither: there hosts and commands of
several machines work side by side, and the lock is always free.
"""

from __future__ import annotations

import contextlib
import json
import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from filelock import FileLock, Timeout


class Role(StrEnum):
    """What a holder of the lock does while it holds it; a command holds it by the name of its kind."""

    host = "host"
    """Runs in the background, and does what commands leave to it."""
    upgrade = "upgrade"
    """Upgrades the schema."""
    probe = "probe"
    """Looks only whether the lock is free."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds the lock, as far as the note beside it says; a dead holder may have left its note."""

    role: str | None = None
    pid: int | None = None


_NOBODY = Holder()


class InstallationLock:
    """The lock of one database; `database` is its file, `None` for a database server."""

    def __init__(self, database: Path | None) -> None:
        self._database = database
        self._lock: FileLock | None = None

    def acquire(self, role: str) -> bool:
        """Take the lock for a role, if nobody else has it; return whether we hold it now.

        Whoever holds it already keeps it for the role it was taken for.
        """
        if self._database is None or self._lock is not None:
            return True
        lock = FileLock(_beside(self._database, ".lock"))
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._lock = lock
        # The operating system frees a dead process' lock by itself. The note only says who it is that others wait
        # for: it is believed while the lock is taken, and overwritten by the next holder.
        _beside(self._database, ".holder").write_text(json.dumps({"role": role, "pid": os.getpid()}))
        return True

    def release(self) -> None:
        """Let the lock go, if we hold it."""
        if self._database is None or self._lock is None:
            return
        with contextlib.suppress(OSError):
            _beside(self._database, ".holder").unlink()  # while we hold the lock: the next holder's note stays
        self._lock.release()
        self._lock = None

    def holder(self) -> Holder:
        """Return who holds the lock, or held it last, by the note beside it."""
        if self._database is None:
            return _NOBODY
        try:
            note = json.loads(_beside(self._database, ".holder").read_text())
        except (OSError, ValueError):  # none, or one that is just being written
            return _NOBODY
        return Holder(note.get("role"), note.get("pid"))

    def is_free(self) -> bool:
        """Return whether nobody holds the lock, whatever a dead holder left written; we do not hold it afterwards."""
        if self._lock is not None or not self.acquire(Role.probe):
            return False
        self.release()
        return True

    def is_held_by_host(self) -> bool:
        """Return whether a host holds the lock now, whatever a dead one left written."""
        return not self.is_free() and self.holder().role == Role.host


def _beside(database: Path, ending: str) -> Path:
    return database.with_name(database.name + ending)

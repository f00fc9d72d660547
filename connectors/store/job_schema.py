"""Procrastinate's own tables: made and upgraded with ours, in one transaction.

Owns which version of them a database has; what is put into them is `job_queue`'s.
"""

from __future__ import annotations

from importlib import metadata, resources
from pathlib import Path

from sqlalchemy import Connection as Session
from sqlalchemy import inspect

from connectors.store import stored_settings
from connectors.store.stored_settings import PROCRASTINATE


def prepare(session: Session) -> None:
    """Bring Procrastinate's tables to the version that is installed, in the caller's transaction."""
    installed = metadata.version("procrastinate")
    if not inspect(session).has_table("procrastinate_jobs"):
        _execute(session, (resources.files("procrastinate.sql") / "schema.sql").read_text())
    elif (present := stored_settings.find(session, PROCRASTINATE)) is not None:
        for step in _steps_after(present):
            _execute(session, step.read_text())
    stored_settings.put(session, PROCRASTINATE, installed)


def is_outdated(session: Session) -> bool:
    """Return whether `prepare` would change something."""
    present = stored_settings.find(session, PROCRASTINATE) if stored_settings.has_table(session) else None
    return present is None or bool(_steps_after(present))


def _steps_after(version: str) -> list[Path]:
    """List Procrastinate's migrations of versions later than one, in their order."""
    folder = Path(str(resources.files("procrastinate.sql") / "migrations"))
    present = _numbers(version)
    return [file for file in sorted(folder.glob("*.sql")) if _numbers(file.name.partition("_")[0]) > present]


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:3] if part.isdigit())


def _execute(session: Session, script: str) -> None:
    """Execute a script of several statements."""
    cursor = session.connection.cursor()
    try:
        cursor.execute(script)
    finally:
        cursor.close()

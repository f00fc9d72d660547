"""A backup that is restored: what was given since is planned again, and 7stamp knows it."""

from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import make_url

from connectors.runtime.host import Host
from tests.installation import ANNA, BORYS, build
from tests.postgresql import binaries, shared_postgresql

Restore = Callable[[], str]


def back_up_file(url: str, folder: Path) -> Restore:
    """Make a backup with SQLite's own, as `docs/operating/backups.md` says; return what restores it."""
    backup = folder / "backup.db"
    with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as database, closing(sqlite3.connect(backup)) as copy:
        database.backup(copy)
    return lambda: f"sqlite:///{backup}"


def back_up_server(url: str, folder: Path) -> Restore:
    """Make a backup with `pg_dump`; return what restores it into an empty database."""
    backup = folder / "backup.dump"
    subprocess.run([binaries() / "pg_dump", "--format=custom", f"--file={backup}", uri(url)], check=True, timeout=60)

    def restore() -> str:
        empty = shared_postgresql().new_database(empty=True)
        program = [binaries() / "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={uri(empty)}", backup]
        subprocess.run(program, check=True, timeout=60)
        return empty

    return restore


def uri(url: str) -> str:
    """The address as PostgreSQL's own programs take it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


@pytest.mark.parametrize("server", [False, True], ids=["file", "server"])
async def test_what_was_given_since_a_backup_is_planned_again_and_not_given_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: bool
) -> None:
    url = shared_postgresql().new_database() if server else f"sqlite:///{tmp_path / 'ledger.db'}"
    async with build(tmp_path, monkeypatch, database_url=url) as installation:
        await installation.connect()
        installation.cafe.sell(installation.cafe.client(ANNA))
        await installation.sync()
        restore = (back_up_server if server else back_up_file)(url, tmp_path)
        later = installation.cafe.sell(installation.cafe.client(BORYS))
        await installation.sync()
        assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 1)
        restored = installation.settings.model_copy(update={"database_url": restore()})
        async with Host(restored) as host:
            await host.services.sync.run(installation.connection.id)
            installation.host, installation.settings = host, restored
            states = {operation.receipt_id: operation.state for operation in await installation.operations()}
            assert states[str(later)] == "applied"
        assert (installation.stamps(ANNA), installation.stamps(BORYS)) == (1, 1)
        assert len(installation.applied()) == 2

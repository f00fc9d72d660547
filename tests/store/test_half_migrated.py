"""An upgrade that is killed, at whichever statement, leaves the schema it found, and the next one ends it."""

from __future__ import annotations

import gzip
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from connectors.store import migrate
from connectors.store.engine import Store
from connectors.store.vault import Vault
from tests.postgresql import shared_postgresql
from tests.processes import forking
from tests.store.stored_database import SECRET_KEY
from tests.store.test_database import differences
from tests.store.test_stored_databases import STORED
from tests.store.upgrading import upgrade_until

_STEP, _STEP_ON_SERVER = 9, 29
"""Every so many statements an upgrade is killed."""


@pytest.fixture(params=["an empty server", *sorted(path.name for path in STORED.iterdir())])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of a database that is older than this code."""
    if request.param == "an empty server":
        url = shared_postgresql().new_database(empty=True)
        yield url
        shared_postgresql().drop(url)
        return
    (tmp_path / "ledger.db").write_bytes(gzip.decompress((STORED / request.param / "ledger.db.gz").read_bytes()))
    yield f"sqlite:///{tmp_path / 'ledger.db'}"


def _schema(url: str) -> tuple[str | None, list[str], int]:
    """The revision, the tables with their columns, and how many rows all of them have."""
    engine = sqlalchemy.create_engine(url)
    try:
        with engine.connect() as session:
            tables = sqlalchemy.inspect(session)
            names = sorted(tables.get_table_names())
            rows = sum(
                session.execute(sqlalchemy.text(f'SELECT count(*) FROM "{name}"')).scalar_one() for name in names
            )
            columns = [f"{name}.{column['name']}" for name in names for column in tables.get_columns(name)]
            return migrate.revision(session), columns, rows
    finally:
        engine.dispose()


@pytest.mark.slow
def test_an_upgrade_killed_at_any_statement_leaves_what_it_found_and_the_next_one_ends_it(old: str) -> None:
    before, in_the_middle, at = _schema(old), 0, 1
    while True:
        process = forking().Process(target=upgrade_until, args=(old, SECRET_KEY, at))
        process.start()
        process.join(60)
        if process.exitcode == 3:
            break  # there were fewer statements than that: this one went to its end
        assert process.exitcode == -signal.SIGKILL
        found = _schema(old)
        # after the upgrade a start looks at more: killed there, it has been upgraded as a whole
        assert found == before or (found[0], differences(old)) == (migrate.newest(), []), f"killed at statement {at}"
        in_the_middle += found == before
        at += _STEP if old.startswith("sqlite") else _STEP_ON_SERVER
    assert in_the_middle > 3
    assert differences(old) == []
    assert _schema(old)[0] == migrate.newest()
    Store(old, Vault(SECRET_KEY)).prepare()  # and whoever starts then finds nothing to do

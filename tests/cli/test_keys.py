"""`connectors keys rotate` as an operator runs it: beside a running host, and alone."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from connectors.store.vault import Vault
from tests.processes import invoke, origin_in, run, started, wait_ready
from tests.store.test_rotation import keys_in_use
from tests.web.test_any_till import SECRET

pytestmark = pytest.mark.slow
WEAK, FIRST, SECOND = "a" * 16, "fC2b7xq0LrW9uYt1sKeZ5hVnJ8mDgPaQ", "Zk4w8Rj2mXs6Tn0cBv9LyHq3FdGp7UeA"


def connected(env: dict[str, str]) -> None:
    """Connect a till that only sends."""
    values = {"till_name": "Bar", "currency": "EUR", "zone": "Europe/Madrid", "proof": "address", "secret": SECRET}
    values |= {"map_receipt_id": "id", "map_paid": "sum", "map_closed_at": "at", "map_phone": "who.phone"}
    given = [part for name, value in values.items() for part in ("--set", f"{name}={value}")]
    added = invoke(
        ["connection", "add", "webhook", "--sevenstamp-key", "7loc_sc_keys", "--rule", "per-order", *given], env
    )
    assert added.returncode == 0, added.stderr


def test_the_key_file_is_changed_while_a_host_runs_and_without_one(tmp_path: Path) -> None:
    with started(["sandbox", "sevenstamp"], {}, tmp_path / "s.out"):
        database = tmp_path / "ledger.db"
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{database}",
            "CONNECTORS_SEVENSTAMP_URL": origin_in(tmp_path / "s.out"),
        }
        connected(env)
        first = _key(tmp_path)
        with started(["serve", "--port", "0"], env, tmp_path / "host.log"):
            wait_ready(origin_in(tmp_path / "host.log"))
            done = run(["keys", "rotate", "--json"], env)
            assert done.returncode == 0, done.stderr
            result = json.loads(done.stdout)
            second = _key(tmp_path)
            assert result == {"key": second, "encrypted": 5, "unreadable": 0, "former_keys": "removed"}
            assert first != second
            assert invoke(["connection", "list"], env).returncode == 0
        said = invoke(["keys", "rotate"], env)
        assert "\n  The former key is removed. Back the key file up again" in said.stdout, said.stderr
        assert keys_in_use(database) == {_key(tmp_path)}
        assert (tmp_path / "ledger.db.key").stat().st_mode & 0o777 == 0o600
        assert invoke(["connection", "list"], env).returncode == 0


def _key(folder: Path) -> str:
    """The id of the one key in the key file."""
    (secret,) = (folder / "ledger.db.key").read_text().split()
    return Vault(secret).key_id


def test_the_key_in_the_environment_is_changed_in_three_steps_and_a_weak_one_refused(tmp_path: Path) -> None:
    with started(["sandbox", "sevenstamp"], {}, tmp_path / "s.out"):
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": origin_in(tmp_path / "s.out"),
        }
        refused = invoke(["db", "upgrade"], {**env, "CONNECTORS_SECRET_KEY": WEAK})
        assert refused.returncode == 1
        assert "make one with `openssl rand -base64 32`" in refused.stderr
        assert WEAK not in refused.stderr
        first = {**env, "CONNECTORS_SECRET_KEY": FIRST}
        connected(first)
        nothing = invoke(["keys", "rotate"], first)
        assert "set CONNECTORS_SECRET_KEY to it and CONNECTORS_SECRET_KEYS_OLD to the one used so far" in nothing.stderr
        both = {**env, "CONNECTORS_SECRET_KEY": SECOND, "CONNECTORS_SECRET_KEYS_OLD": FIRST}
        assert invoke(["connection", "list"], both).returncode == 0
        assert "CONNECTORS_SECRET_KEYS_OLD may be removed" in invoke(["keys", "rotate"], both).stdout
        assert invoke(["connection", "list"], {**env, "CONNECTORS_SECRET_KEY": SECOND}).returncode == 0
        assert "made with another secret key" in invoke(["connection", "list"], first).stderr
        assert keys_in_use(tmp_path / "ledger.db") == {Vault(SECOND).key_id}

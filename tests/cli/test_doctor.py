"""What the doctor finds wrong with how a host is set up, and that a key goes nowhere in the clear."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.cli.test_any_till import MAPPING
from tests.processes import invoke, origin_in, started, wait_ready

pytestmark = pytest.mark.slow


@contextmanager
def installation(folder: Path) -> Iterator[dict[str, str]]:
    with started(["sandbox", "sevenstamp"], {}, folder / "s.out"):
        yield {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": origin_in(folder / "s.out"),
        }


def findings(env: dict[str, str]) -> tuple[int, dict[str, list[tuple[Any, str]]]]:
    done = invoke(["doctor", "--json"], env)
    found: dict[str, list[tuple[Any, str]]] = {}
    for one in json.loads(done.stdout):
        found.setdefault(one["check"], []).append((one["ok"], one["text"]))
    return done.returncode, found


def test_files_that_others_can_read_and_addresses_in_the_clear_are_said(tmp_path: Path) -> None:
    with installation(tmp_path) as env:
        code, found = findings(env)
        assert (code, found.keys() & {"key file", "database file", "addresses", "public address", "proxies"}) == (
            0,
            set(),
        )
        key, database = tmp_path / "ledger.db.key", tmp_path / "ledger.db"
        os.chmod(key, 0o644)
        os.chmod(database, 0o640)
        clear = {"CONNECTORS_PUBLIC_URL": "http://till.example", "POSTER_API_URL": "http://poster.example/api",
                 "SERVE_API_URL": "http://127.0.0.1:9/"}  # fmt: skip
        code, found = findings({**env, **clear})
        assert code == 1
        assert found["key file"] == [(False, f"{key} has mode 0644, so others can read it: chmod 600 {key}")]
        assert found["database file"][0][0] is False
        assert "CONNECTORS_PUBLIC_URL begins with http://" in found["addresses"][0][1]
        assert any("POSTER_API_URL begins with http://" in text for _, text in found["connector poster"])
        assert not any("begins with" in text for _, text in found.get("connector serve", []))
        assert found["public address"] == [(None, "http://till.example can be tried only while the host runs")]


@pytest.mark.parametrize("address", ["http://7stamp.example", "http://192.0.2.7:8080"])
def test_a_key_is_sent_to_no_7stamp_in_the_clear_unless_it_is_said_to_be_fine(tmp_path: Path, address: str) -> None:
    env = {"CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}", "CONNECTORS_SEVENSTAMP_URL": address}
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    add = ["connection", "add", "webhook", "--sevenstamp-key", "7loc_sc_x", "--settings", str(mapping)]
    for command in (["serve", "--port", "0"], add):
        done = invoke(command, env)
        assert done.returncode == 1
        assert "CONNECTORS_SEVENSTAMP_URL begins with http://" in done.stderr
        assert "CONNECTORS_ALLOW_HTTP=1" in done.stderr
    code, found = findings(env)
    assert code == 1
    assert "CONNECTORS_ALLOW_HTTP=1" in found["7stamp"][0][1]


def test_a_public_address_that_leads_elsewhere_and_a_proxy_that_is_not_trusted_are_said(tmp_path: Path) -> None:
    with (
        installation(tmp_path) as env,
        started(["serve", "--port", "0"], env, tmp_path / "host.out"),
        started(["sandbox", "poster"], {}, tmp_path / "p.out"),
    ):
        origin, elsewhere = origin_in(tmp_path / "host.out"), origin_in(tmp_path / "p.out")
        wait_ready(origin)
        assert findings({**env, "CONNECTORS_PUBLIC_URL": origin})[1]["public address"] == [
            (True, f"{origin} reaches this host")
        ]
        httpx.get(f"{origin}/healthz", headers={"X-Forwarded-For": "198.51.100.7"}, trust_env=False)
        for address, why in ((elsewhere, "does not reach this host"), ("http://127.0.0.1:1", "nobody answers")):
            code, found = findings({**env, "CONNECTORS_PUBLIC_URL": address})
            assert code == 1
            assert found["public address"][0][0] is False
            assert why in found["public address"][0][1]
        assert "CONNECTORS_TRUSTED_PROXIES is not set" in found["proxies"][0][1]


def test_a_key_that_is_being_changed_is_said(tmp_path: Path) -> None:
    first, second = ("Xq7Zr2Lw9Tn4Vb6Ky1Hd8Fs3" + str(number) for number in range(2))
    with installation(tmp_path) as env:
        assert "keys" not in findings({**env, "CONNECTORS_SECRET_KEY": first})[1]
        _, found = findings({**env, "CONNECTORS_SECRET_KEY": second, "CONNECTORS_SECRET_KEYS_OLD": first})
        assert "connectors keys rotate" in " ".join(text for _, text in found["keys"])

"""`connectors forget` beside a running host: it counts, asks, erases, says what it did, and nobody comes back."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.store.vault import Vault
from poster_connector.sandbox import SECRET, Account
from tests.processes import invoke, origin_in, run, started, wait_for, wait_ready

pytestmark = pytest.mark.slow
ANNA, BORYS, EMAIL = "+380501112201", "+380671239876", "anna.kovalenko@example.com"
SPELLINGS = (ANNA, ANNA[1:], ANNA[3:], ANNA[4:], "(050) 111-22-01", EMAIL, "Kovalenko")
MASTER = "the master key of this test run"
MAPPING = """
till_name = "Corner"
currency = "UAH"
zone = "Europe/Kyiv"
country = "UA"
proof = "address"
map_receipt_id = "no"
map_paid = "sum"
map_closed_at = "at"
map_phone = "guest.phone"
"""


def opened(file: Path) -> str:
    """Every value of a database, what is encrypted opened."""
    vault, texts = Vault(MASTER), list[str]()
    with sqlite3.connect(file) as database:
        tables = [row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in tables:
            for row in database.execute(f'SELECT * FROM "{table}"'):
                encrypted = f"{vault.key_id}:"
                texts += [vault.decrypt(v) if isinstance(v, str) and v.startswith(encrypted) else str(v) for v in row]
    return "\n".join(texts)


def test_a_customer_is_forgotten_while_the_host_runs(tmp_path: Path) -> None:
    (tmp_path / "mapping.toml").write_text(MAPPING)
    database = tmp_path / "ledger.db"
    with (
        started(["sandbox", "sevenstamp"], {}, tmp_path / "s.out"),
        started(["sandbox", "poster"], {}, tmp_path / "p.out"),
    ):
        sevenstamp, till = origin_in(tmp_path / "s.out"), origin_in(tmp_path / "p.out")
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{database}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_SECRET_KEY": MASTER,
            "POSTER_API_URL": f"{till}/api",
            "POSTER_APPLICATION_SECRET": SECRET,
        }
        key = ["--sevenstamp-key", "7loc_sc_cli", "--unknown-customer", "issue", "--json"]

        def command(*arguments: str, code: int = 0) -> str:
            done = (run if "--yes" in arguments else invoke)(list(arguments), env)
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout if code == 0 else done.stderr

        def forget(*arguments: str) -> Any:
            return json.loads(command("forget", *arguments, "--json"))

        poster = json.loads(command("connection", "add", "poster", "--set", f"access_token={Account().token}", *key))
        added = ["connection", "add", "webhook", "--settings", str(tmp_path / "mapping.toml"), *key]
        any_till = json.loads(command(*added))
        for phone in (ANNA, BORYS):
            httpx.post(f"{till}/_sandbox/sell", json={"phone": phone, "paid": 2000}, trust_env=False)
        with started(["serve", "--port", "0"], env, tmp_path / "host.log"):
            origin = origin_in(tmp_path / "host.log")
            wait_ready(origin)
            path = httpx.URL(any_till["hook_url"]).path

            def send(no: str, **more: Any) -> None:
                guest = {"phone": "(050) 111-22-01", "mail": EMAIL, "name": "Anna Kovalenko"}
                sale = {"no": no, "sum": "5.00", "at": datetime.now(UTC).isoformat(), "guest": guest, **more}
                assert httpx.post(f"{origin}{path}", json=sale, trust_env=False, timeout=60).status_code == 200

            def applied(number: int) -> list[Any]:
                def operations() -> list[Any]:
                    answer: list[Any] = httpx.get(f"{sevenstamp}/_sandbox/operations", trust_env=False).json()
                    return answer

                wait_for(lambda: len(operations()) >= number, f"{number} operations at 7stamp")
                return [operation for operation in operations() if operation["kind"] == "stamps_added"]

            send("1")
            send("2", sum="much")
            command("sync", poster["id"])
            before = applied(3)
            assert len(before) == 3
            number = len(applied(3))
            assert any(name in opened(database) for name in SPELLINGS)
            assert "Say --yes to go on" in command("forget", "--phone", ANNA, code=1)
            assert "one of --phone" in command("forget", "--yes", code=1)
            assert "country code" in command("forget", "--phone", "0501112201", "--yes", code=1)
            assert "no business" in command("forget", "--phone", ANNA, "--business", "none", "--yes", code=1)
            would = forget("--phone", ANNA, "--dry-run")
            assert would["dry_run"]
            assert set(would["total"]) == {
                "receipts", "snapshots", "known", "requests", "events", "drafts", "journal_lines", "operations_ended",
                "being_sent",
            }  # fmt: skip
            assert would["total"]["receipts"] == 2
            assert any(name in opened(database) for name in SPELLINGS)
            done = forget("--phone", ANNA, "--yes")
            assert done == {**would, "dry_run": False}
            assert [row["receipts"] for row in done["businesses"]] == [2]
            assert [name for name in SPELLINGS if name in opened(database)] == []
            assert BORYS in opened(database)
            command("sync", poster["id"])
            assert "Nothing of this customer is stored here." in command("forget", "--phone", ANNA, "--yes")
            assert len(applied(number)) == number
            assert "asked to be forgotten" in command("journal", poster["id"])
        said = (tmp_path / "host.log").read_text()
        files = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))
        for name in SPELLINGS:
            assert name not in said
            assert name.encode() not in files

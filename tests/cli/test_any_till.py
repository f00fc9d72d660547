"""Any till by commands alone: a mapping from a file, hooks over HTTP, what could not be read, and a renewed address."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from connector_sdk.signatures import BodyHmac
from tests.processes import invoke, origin_in, run, started, wait_for, wait_ready

pytestmark = pytest.mark.slow
SECRET = "a long secret of the till"
MAPPING = f"""
till_name = "Corner"
currency = "EUR"
zone = "Europe/Madrid"
proof = "hmac"
proof_header = "X-Signature"
secret = "{SECRET}"
map_receipt_id = "no"
map_paid = "sum"
map_closed_at = "at"
map_phone = "phone"
"""


def test_a_mapping_from_a_file_takes_sales_and_what_it_cannot_read_waits(tmp_path: Path) -> None:
    mapping = tmp_path / "mapping.toml"
    mapping.write_text(MAPPING)
    with started(["sandbox", "sevenstamp"], {}, tmp_path / "s.out"):
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": origin_in(tmp_path / "s.out"),
        }

        def command(*arguments: str, code: int = 0) -> str:
            done = (run if "--try-again" in arguments or "renew-address" in arguments else invoke)(list(arguments), env)
            assert done.returncode == code, done.stdout + done.stderr
            return done.stdout if code == 0 else done.stderr

        asked = ["--sevenstamp-key", "7loc_sc_x", "--settings", str(mapping), "--unknown-customer", "issue"]
        added = command("connection", "add", "webhook", *asked)
        assert "CONNECTORS_PUBLIC_URL is not set" in added
        one = json.loads(command("connection", "list", "--json"))[0]
        with started(["serve", "--port", "0"], env, tmp_path / "host.log"):
            origin = origin_in(tmp_path / "host.log")
            wait_ready(origin)

            def send(path: str, **sent: Any) -> int:
                at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
                body = json.dumps({"at": at, "phone": "+34600111222", **sent}).encode()
                headers = {"X-Signature": BodyHmac(SECRET).sign(body)}
                return httpx.post(
                    f"{origin}{path}", content=body, headers=headers, trust_env=False, timeout=60
                ).status_code

            path = httpx.URL(one["hook_url"]).path
            assert send(path, no="1", sum="5.00") == 200
            assert send(path, no="2", total="6.00") == 200
            assert send(path, ping=True) == 200
            unread = json.loads(command("unread", one["id"], "--json"))["unread"]
            assert [row["receipt"] for row in unread] == [None, "2"]
            assert json.loads(command("unread", one["id"], "--show", unread[1]["id"][:6]))["total"] == "6.00"
            assert "Say --yes to go on" in command("unread", one["id"], "--leave", unread[0]["id"], code=1)
            assert "ping" not in command("unread", one["id"], "--leave", unread[0]["id"], "--yes")
            mapping.write_text(MAPPING.replace('"sum"', '"sum || total"'))
            command("connection", "edit", one["id"], "--settings", str(mapping))
            assert json.loads(command("unread", one["id"], "--try-again", "--json"))["read"] == 1
            renewed = json.loads(command("connection", "renew-address", one["id"], "--yes", "--json"))
            assert renewed["hook_url"] != one["hook_url"]
            assert renewed["former_hook_until"] is not None
            assert send(httpx.URL(renewed["hook_url"]).path, no="3", sum="7.00") == 200
            assert send(path, no="4", sum="8.00") == 200
            address = f"{env['CONNECTORS_SEVENSTAMP_URL']}/_sandbox/operations"

            def stamped() -> list[str]:
                operations = httpx.get(address, trust_env=False).json()
                return sorted(each["code"].split(":")[2] for each in operations if each["kind"] == "stamps_added")

            wait_for(lambda: len(stamped()) >= 4, "four receipts to be stamped")
            assert stamped() == ["1", "2", "3", "4"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("till_name = ", "is no TOML"),
        ("a = [1]", "a is no single value"),
        ("colour = 'red'", "has no setting 'colour'"),
    ],
)
def test_a_file_of_settings_that_makes_no_sense_is_said_to(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mapping.toml").write_text(text)
    done = invoke(["try", "webhook", "--settings", str(tmp_path / "mapping.toml")], {})
    assert done.returncode == 1
    assert said in done.stderr
    done = invoke(["try", "webhook", "--settings", str(tmp_path / "none.toml")], {})
    assert "cannot be read" in done.stderr

"""The commands as a person or script uses them: a real database, sandboxes over HTTP.

Each command is a process of its own somewhere here; where only its outcome is asked for, it runs in this process.
"""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from connectors.sevenstamp.sandbox import Sandbox
from poster_connector.sandbox import Account, PosterSandbox
from tests.processes import invoke, origin_in, run, started, wait_for, wait_ready
from tests.served_sandboxes import served_by_thread

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("commands")]
TOKEN = f"access_token={Account().token}"
PHONE = "+380501112244"


@dataclass
class Terminal:
    """A shell with an installation in it."""

    env: dict[str, str]
    till: str
    sevenstamp: str
    folder: Path
    runner: Callable[[list[str], dict[str, str]], subprocess.CompletedProcess[str]] = invoke

    @property
    def real(self) -> Terminal:
        """The same installation, whose commands are processes of their own."""
        return replace(self, runner=run)

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = self.runner(list(arguments), self.env)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout if code == 0 else done.stderr

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))

    def add(self, *more: str) -> Any:
        return self.json(
            *("connection", "add", "poster", "--sevenstamp-key", "7loc_sc_cli", "--set", TOKEN),
            *("--unknown-customer", "issue", "--rule", "amount:10.00"),
            *more,
        )

    def sell(self, **more: Any) -> int:
        sold = httpx.post(f"{self.till}/_sandbox/sell", json={"phone": PHONE, "paid": 2750, **more}, trust_env=False)
        return int(sold.json()["receipt_id"])

    def applied(self) -> list[dict[str, Any]]:
        found = httpx.get(f"{self.sevenstamp}/_sandbox/operations", trust_env=False).json()
        return [one for one in found if one["kind"].startswith("stamps")]


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with served_by_thread(Sandbox(), PosterSandbox().application()) as (sevenstamp, till):
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'data' / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "POSTER_API_URL": f"{till}/api",
        }
        yield Terminal(env, till, sevenstamp, tmp_path)


def test_a_connection_from_the_first_command_to_the_last(terminal: Terminal) -> None:
    added = terminal.real.add("--title", "Cafe Lviv")
    assert {"id", "status", "hook_url"} <= set(added)
    assert (added["status"], added["title"]) == ("active", "Cafe Lviv")
    assert added["hook_url"] == "http://127.0.0.1:8700/hooks/tills/poster"
    key = terminal.folder / "data" / "ledger.db.key"
    assert key.stat().st_mode & 0o777 == 0o600
    receipt = terminal.sell()
    one = added["id"]
    assert terminal.real.json("preview", one, "--since", "2026-01-01")[0]["stamps"] == 2
    assert terminal.applied() == []
    synced = terminal.real.json("sync", one)
    assert synced["sales_seen"] == 1
    assert synced["operations"] == {"applied": 1, "pending": 0, "held": 0, "rejected": 0, "cancelled": 0}
    (operation,) = terminal.real.json("operations", one)
    assert {k: operation[k] for k in ("receipt_id", "kind", "count", "state", "reason", "code")} == {
        "receipt_id": str(receipt),
        "kind": "stamps_added",
        "count": 2,
        "state": "applied",
        "reason": None,
        "code": f"poster:861052:{receipt}:1",
    }
    (sent,) = terminal.applied()
    assert set(sent) == {"card_id", "kind", "count", "code", "idempotency_key", "at"}
    shown = terminal.real.json("connection", "show", one)
    assert shown["status"] == "active"
    assert shown["checkpoint"] is not None
    assert f"Receipt {receipt}, UAH\xa027.50, earned 2 stamps for the card ending" in terminal.real("journal", one)
    assert terminal.real.json("connection", "edit", one, "--rule", "per-order", "--refunds", "keep")["rule"] == {
        "kind": "per_order",
        "refunds": "keep",
        "unknown_customer": "issue",
    }
    assert terminal.json("connection", "edit", one, "--rule", "amount:5.00", "--minimum", "1.00")["rule"]["minimum"]
    assert terminal.json("connection", "edit", one, "--max-per-sale", "3")["rule"]["amount"]["minor"] == 500
    assert "amount:5.00 UAH, minimum 1.00 UAH, max per sale 3, refunds keep" in terminal("connection", "show", one)
    assert "say what to change" in terminal("connection", "edit", one, code=1)
    assert "no state 'bogus'" in terminal("operations", one, "--state", "bogus", code=1)
    terminal.real("connection", "pause", one)
    assert "is paused" in terminal("sync", one, code=1)
    terminal.real("connection", "resume", one)
    assert "--yes" in terminal("connection", "remove", one, code=1)
    terminal.real("connection", "remove", one, "--yes")
    assert terminal.real.json("connection", "list") == []
    assert terminal("journal", one).splitlines()[-1].endswith("stays in the ledger.")


def test_what_is_held_can_be_retried_and_dismissed(terminal: Terminal) -> None:
    one = terminal.add("--refunds", "flag")["id"]
    first, second = terminal.sell(), terminal.sell()
    terminal("sync", one)
    for receipt in (first, second):
        httpx.post(f"{terminal.till}/_sandbox/refund", json={"receipt_id": receipt}, trust_env=False)
    terminal("sync", one)
    held = terminal.json("operations", one, "--state", "held")
    assert [x["reason"] for x in held] == ["flagged", "flagged"]
    terminal.real("operations", one, "retry", held[0]["id"])
    terminal.real("operations", "dismiss", one, held[1]["id"], "--yes")
    assert "not held" in terminal("operations", one, "dismiss", held[1]["id"], "--yes", code=1)
    assert terminal.json("sync", one)["operations"]["applied"] == 1
    assert [x["state"] for x in terminal.json("operations", one)][-2:] == ["applied", "rejected"]


def test_backfill_counts_first_and_then_gives(terminal: Terminal) -> None:
    terminal.sell()
    one = terminal.add()["id"]
    assert terminal.json("sync", one)["operations"]["applied"] == 0
    counts = terminal.json("backfill", one, "--since", "2026-11-01", "--dry-run")
    assert (counts["receipts"], counts["stamps"]) == (1, 2)
    assert terminal.applied() == []
    assert terminal.real.json("backfill", one, "--since", "2026-11-01")["operations"]["applied"] == 1
    assert "not a day" in terminal("backfill", one, "--since", "yesterday", "--yes", code=1)


def test_a_rule_per_item_takes_names_and_refuses_what_is_not_on_the_menu(terminal: Terminal) -> None:
    said = terminal(
        *("connection", "add", "poster", "--sevenstamp-key", "7loc_sc_cli", "--set", TOKEN),
        *("--rule", "items:Capuccino"),
        code=1,
    )
    assert "no product 'Capuccino' on the menu; nearest: Cappuccino (161)" in " ".join(said.split())
    one = terminal.add("--rule", "items:cappuccino,162")["id"]
    assert set(terminal.json("connection", "show", one)["rule"]["products"]) == {"161", "162"}
    terminal.sell()
    assert terminal.json("sync", one)["operations"]["applied"] == 1
    edited = terminal("connection", "edit", one, "--rule", "category:Pastri", code=1)
    assert "nearest: Pastry (7)" in " ".join(edited.split())


def test_a_command_leaves_its_work_to_the_host_that_runs(terminal: Terminal) -> None:
    one = terminal.add("--poll-seconds", "3600")["id"]
    log = terminal.folder / "host.log"
    with started(["serve", "--port", "0"], terminal.env, log):
        wait_ready(origin_in(log))
        second = run(["serve", "--port", "0"], terminal.env)
        assert second.returncode == 1
        assert "another host (process" in second.stderr
        terminal.sell()
        result = terminal.json("sync", one)
        assert result["sales_seen"] == 1
        assert len(terminal.applied()) == 1
        terminal.json("backfill", one, "--since", "2026-11-01", "--yes")
        terminal.real.json("replan", one, "--since", "2026-11-01", "--yes")
        assert "not a day" in terminal("backfill", one, "--since", "x", "--yes", code=1)
    assert len(terminal.applied()) == 1


REFUSALS = [
    (
        ["connection", "add", "postre", "--sevenstamp-key", "7loc_sc_x"],
        "there is no connector 'postre'; known: poster",
    ),
    (
        ["connection", "add", "poster", "--sevenstamp-key", "7loc_sc_x", "--set", "acess_token=1"],
        "no setting 'acess_token'; nearest: access_token",
    ),
    (
        ["connection", "add", "poster", "--sevenstamp-key", "7loc_sc_x", "--set", "access_token=1"],
        "a token is the account number, a colon and a secret",
    ),
    (
        ["connection", "add", "poster", "--sevenstamp-key", "7loc_sc_x", "--set", "access_token=861052:bad"],
        "Poster refuses the token. In Poster's admin: Access → Integrations",
    ),
    (
        ["connection", "add", "poster", "--sevenstamp-key", "wrong", "--set", TOKEN],
        "7stamp refuses this key",
    ),
    (
        ["connection", "add", "poster", "--sevenstamp-key", "7loc_sc_x", "--set", TOKEN, "--rule", "amount:0.001"],
        "not an amount of UAH",
    ),
    (["connection", "show", "nosuch"], "there is no connection 'nosuch'; none is connected"),
    (["sync", "nosuch"], "there is no connection 'nosuch'"),
    (["sandbox", "postr"], "there is no sandbox 'postr'; known: poster, serve, square, sevenstamp"),
]


def test_what_cannot_be_done_is_said_and_nothing_is_stored(terminal: Terminal) -> None:
    for arguments, sentence in REFUSALS:
        assert sentence in " ".join(terminal(*arguments, code=1).split())
        assert terminal.json("connection", "list") == []


def test_an_account_is_connected_once_and_7stamp_must_be_named(terminal: Terminal) -> None:
    one = terminal.add()["id"]
    again = ["connection", "add", "poster", "--sevenstamp-key", "7loc_sc_cli", "--set", TOKEN]
    assert f"already connected as {one}" in terminal(*again, code=1)
    without = {k: v for k, v in terminal.env.items() if k != "CONNECTORS_SEVENSTAMP_URL"}
    for command in (again, ["sync", one], ["serve", "--port", "0"]):
        assert "CONNECTORS_SEVENSTAMP_URL is not set: set it to" in invoke(command, without).stderr


def test_the_doctor_and_the_plugins(terminal: Terminal) -> None:
    terminal.add()
    found = {one["check"]: one["ok"] for one in terminal.real.json("doctor")}
    assert found["7stamp"] is True
    assert found["database"] is True
    assert found["connector poster"] is None  # POSTER_APPLICATION_SECRET is optional
    wrong = {**terminal.env, "CONNECTORS_SEVENSTAMP_URL": "http://127.0.0.1:9"}
    assert invoke(["doctor"], wrong).returncode == 1
    assert terminal.real.json("plugins")[0]["connectors"] == ["poster"]


def test_wrong_key_missing_key_and_a_newer_database_stop_a_start(terminal: Terminal) -> None:
    terminal.add()
    wrong = {**terminal.env, "CONNECTORS_SECRET_KEY": "another key altogether"}
    assert "made with another secret key" in invoke(["connection", "list"], wrong).stderr
    file = terminal.folder / "data" / "ledger.db"
    key = file.with_name("ledger.db.key")
    kept = key.read_text()
    key.unlink()
    assert "key file ledger.db.key is missing" in terminal("connection", "list", code=1)
    assert not key.exists()
    key.write_text(kept)
    terminal.real("db", "upgrade")
    with sqlite3.connect(file) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.execute("UPDATE setting SET value = '9999' WHERE name = 'oldest code'")
    assert "made by a newer version (schema 9999)" in terminal("connection", "list", code=1)


@pytest.mark.parametrize(
    ("variable", "value", "sentence"),
    [
        ("CONNECTORS_DATABASE_URL", "foo", "CONNECTORS_DATABASE_URL is not right"),
        ("CONNECTORS_DATABASE_URL", "sqlite:////proc/x/y.db", "the database cannot be kept at /proc/x/y.db"),
        ("CONNECTORS_SEVENSTAMP_URL", "not-a-url", "CONNECTORS_SEVENSTAMP_URL is not right"),
        ("CONNECTORS_SETTLE_SECONDS", "abc", "CONNECTORS_SETTLE_SECONDS is not right"),
        ("CONNECTORS_LOG_LEVEL", "loud", "there is no log level 'loud'"),
    ],
)
def test_a_wrong_environment_is_a_sentence(tmp_path: Path, variable: str, value: str, sentence: str) -> None:
    env = {"CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'x.db'}", variable: value}
    done = invoke(["connection", "list"], env)
    assert done.returncode == 1
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def _signed_in(link: str) -> httpx.Client:
    """A browser that pressed the button of a sign-in link."""
    browser = httpx.Client(base_url=link.partition("/link/")[0], trust_env=False, follow_redirects=True)
    proof = re.search(r'name="proof" value="(\w+)"', browser.get(link).text)
    assert proof
    browser.post(link, data={"proof": proof[1]})
    return browser


def test_a_host_shows_the_operators_password_once_and_makes_links(terminal: Terminal, tmp_path: Path) -> None:
    one = terminal.add()["id"]
    for start in ("first", "second"):
        log = tmp_path / f"{start}.log"
        with started(["serve", "--port", "0"], terminal.env, log):
            origin = origin_in(log)
            wait_ready(origin)
            shown = re.search(r"shown only now: (\S+)", log.read_text())
            assert (shown is not None) == (start == "first")
            if shown:
                password = shown[1]
            for arguments, path in ((["--connection", one], "/"), ([], "/operator")):
                shell = terminal.real if start == "first" else terminal
                made = shell.json("console", "link", *arguments)["url"]
                link = f"{origin}/link/{made.partition('/link/')[2]}"
                browser = _signed_in(link)
                assert "Poster" in browser.get(path).text
                assert browser.get(f"/connections/{one}").status_code == 200
                browser.close()
            with httpx.Client(base_url=origin, trust_env=False, follow_redirects=True) as browser:
                proof = re.search(r'name="proof" value="(\w+)"', browser.get("/sign-in/operator").text)
                assert proof
                page = browser.post("/sign-in/operator", data={"proof": proof[1], "password": password})
                assert "1 connection on this installation" in page.text
    events = terminal.json("security", "log", "--limit", "100")
    kinds = [event["kind"] for event in events]
    assert {"password_changed", "link_made", "link_used", "sign_in"} == set(kinds)
    assert kinds[-1] == "password_changed"
    assert "The operator made a sign-in link" in terminal.real("security", "log")
    business = next(event["business"] for event in events if event["business"])
    assert {event["business"] for event in terminal.json("security", "log", "--business", business)} == {business}


def test_the_file_for_support_says_what_is_in_it_and_holds_no_secret(terminal: Terminal, tmp_path: Path) -> None:
    one = terminal.add()["id"]
    terminal.sell(comment="call +380 50 111 22 44")
    terminal.json("sync", one)
    file = tmp_path / "support.zip"
    assert "README.txt" in terminal.real("diagnostics", one, "--out", str(file))
    with zipfile.ZipFile(file) as archive:
        files = {name: archive.read(name).decode() for name in archive.namelist()}
    assert set(re.findall(r"^([\w.]+):", files["README.txt"], re.M)) == set(files) - {"README.txt"}
    whole = "".join(files.values())
    for secret in ("7loc_sc_cli", Account().token, Account().token.partition(":")[2], PHONE, PHONE[1:]):
        assert secret not in whole
    assert "earned 2 stamps" in files["journal.txt"]
    assert json.loads(files["connection.json"])["account_name"] == "Cafe Lviv"
    assert json.loads(files["operations.json"])[0]["state"] == "applied"


def test_the_demo_shows_receipts_becoming_stamps_and_opens_the_console(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    with started(["demo", "--for", "9"], {}, log) as process:
        link = _wait_for(log, r"open (http://\S+/link/\S+)")
        browser = _signed_in(link)
        page = browser.get(re.findall(r'href="(/connections/[\w-]+)"', browser.get("/").text)[0]).text
        browser.close()
        days = re.findall(r'<td class="end">(\d+)</td>', page)
        assert sum(number != "0" for number in days[: 3 * 7]) > 12  # a week with receipts and stamps
        assert process.wait(40) == 0
    said = log.read_text()
    assert "earned" in said
    last = [line for line in said.splitlines() if "7stamp holds" in line][-1]
    assert last.endswith("the same.")
    assert "Traceback" not in said


def test_the_demo_ends_when_it_is_told_to_also_in_the_background(tmp_path: Path) -> None:
    log = tmp_path / "demo.log"
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell starts what ends with `&`
    try:
        with started(["demo"], {}, log, fresh=True) as process:
            _wait_for(log, "(Two weeks of history)")  # while it still takes them in: one need not wait for that
            process.terminate()
            assert process.wait(40) == 0
    finally:
        signal.signal(signal.SIGINT, before)
    assert "Traceback" not in log.read_text()


def _wait_for(log: Path, pattern: str) -> str:
    return str(wait_for(lambda: re.search(pattern, log.read_text()), pattern)[1])

"""What a cafe or a till writes never steers the operator's terminal: every command is walked over hostile texts."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from connector_sdk.hooks import HookRequest
from connectors.cli.main import app
from connectors.runtime.host import Host
from connectors.settings import Settings
from connectors.store import connections
from connectors.sync import lifecycle
from tests.processes import CONNECTORS, environment, origin_in, started

pytestmark = pytest.mark.slow
# clears the screen, renames the window, writes backwards, hides what follows, begins a sequence in one byte
EVIL = "\x1b[2J\x1b]0;gone\x07\u202e\u2066\x9b31m\u200f\U000e0041\x7fX"
UNSEEN = "\u202e\u2066\x9b31m\u200f\U000e0041X"
"""The same without what identifiers of a till refuse anyway."""
STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\U000e0000-\U000e007f]"
)
MAPPING = {
    "till_name": f"Corner {EVIL}", "currency": "EUR", "zone": "Europe/Madrid", "proof": "address",
    "map_receipt_id": "no", "map_paid": "sum", "map_closed_at": "at", "map_phone": "phone",
    "map_location": "place", "map_status": "status",
    "closed_statuses": "paid", "map_lines": "lines", "map_product": "what", "map_codes": "code",
}  # fmt: skip
ENDLESS = {("serve",), ("demo",), ("sandbox",), ("worker",)}
"""Commands that only tell where they listen, and end by Ctrl-C."""


class Terminal:
    """An installation whose connection, receipts, places and journal hold hostile texts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ids: dict[str, str] = {}

    def __call__(self, *arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200"})
        return done.output + (done.stderr if done.stderr_bytes else "")


async def _arrive(host: Host, path: str, sent: dict[str, Any]) -> None:
    at = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    body = json.dumps({"at": at, "phone": "+34600111222", "status": "paid", "sum": "12.50", **sent}).encode()
    token = path.rsplit("/", 1)[1]
    assert (await host.hooks.for_connection("webhook", token, HookRequest("POST", {}, {}, body))).status == 200


async def _fill(host: Host) -> str:
    one = (await host.services.connections.list_all())[0]
    path = str((await host.services.connections.describe(one)).hook_url)
    await _arrive(host, path, {"no": f"7 {UNSEEN}", "place": f"Bar {UNSEEN}", "lines": [{"what": f"cup {UNSEEN}"}]})
    await _arrive(host, path, {"no": f"8 {UNSEEN}", "status": f"odd {EVIL}"})
    await _arrive(host, path, {"no": f"9 {EVIL}", "sum": f"much {EVIL}"})
    await _arrive(host, path, {"no": f"10 {UNSEEN}", "code": f"GIFT{EVIL}"})
    await host.store.write(
        lambda tx: lifecycle.edit(tx, one.id, connections.registry.ConnectionChange(title=f"Cafe {EVIL}"))
    )
    return one.id


@pytest.fixture
def terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.chdir(tmp_path)
    with started(["sandbox", "sevenstamp"], {}, tmp_path / "s.out"):
        monkeypatch.setenv("CONNECTORS_DATABASE_URL", f"sqlite:///{tmp_path / 'ledger.db'}")
        monkeypatch.setenv("CONNECTORS_SEVENSTAMP_URL", origin_in(tmp_path / "s.out"))
        mapping = tmp_path / "mapping.toml"
        mapping.write_text("".join(f"{name} = {_toml(value)}\n" for name, value in MAPPING.items()))
        body = tmp_path / "body.json"
        body.write_text(json.dumps({"no": f"7 {UNSEEN}", "at": "2026-11-20T08:15:30Z", "sum": "1", "phone": EVIL,
                                    "status": f"odd {EVIL}"}))  # fmt: skip
        good = json.loads(body.read_text()) | {"status": "paid", "lines": [{"what": f"cup {UNSEEN}"}]}
        (tmp_path / "good.json").write_text(json.dumps(good))
        (tmp_path / "evil.csv").write_text(
            f"no,at,sum,phone,place,what\n7 {UNSEEN},2026-11-20T08:15:30Z,1,+34600111222,Bar {UNSEEN},cup {UNSEEN}\n"
            f"8 {EVIL},when {EVIL},much {EVIL},{EVIL},{EVIL},{EVIL}\n",
            encoding="utf-8",
        )
        made = Terminal(tmp_path)
        said = made("connection", "add", "webhook", "--sevenstamp-key", "7loc_sc_x", "--settings", str(mapping),
                    "--unknown-customer", "issue")  # fmt: skip
        assert "Connected" in said, said

        async def fill() -> str:
            async with Host(Settings()) as host:
                return await _fill(host)

        made.ids["connection"] = asyncio.run(fill())
        yield made


def _toml(text: str) -> str:
    return '"' + "".join(f"\\U{ord(sign):08x}" if STEERING.match(sign) else sign for sign in text) + '"'


def _commands() -> set[tuple[str, ...]]:
    found = set()

    def walk(command: Any, names: tuple[str, ...]) -> None:
        inside = getattr(command, "commands", None)
        if inside is None:
            found.add(names)
        for name, one in (inside or {}).items():
            walk(one, (*names, name))

    walk(get_command(app), ())
    return found


def test_no_command_lets_a_title_a_receipt_or_a_place_steer_the_terminal(terminal: Terminal) -> None:
    one, folder = terminal.ids["connection"], terminal.folder
    settings = ["--settings", str(folder / "mapping.toml")]
    operations = json.loads(terminal("operations", "list", one, "--json"))
    operation = operations[0]["id"] if operations else "none"
    unread = json.loads(terminal("unread", one, "--json"))["unread"]
    asked: list[tuple[tuple[str, ...], list[str]]] = [
        (("connection", "list"), []),
        (("connection", "show"), [one]),
        (("connection", "edit"), [one, "--title", f"Cafe again {EVIL}"]),
        (("connection", "edit"), [one, "--set", f"{EVIL}=1"]),
        (("connection", "edit"), [one, "--location", EVIL]),
        (("connection", "renew-address"), [one, "--yes"]),
        (("connection", "pause"), [one]),
        (("connection", "resume"), [one]),
        (("connection", "recheck"), [one]),
        (("connection", "add"), [EVIL, "--sevenstamp-key", "7loc_sc_x"]),
        (("operations", "list"), [one]),
        (("operations", "list"), [one, "--state", EVIL]),
        (("operations", "retry"), [one, operation]),
        (("operations", "dismiss"), [one, operation, "--yes"]),
        (("console", "link"), []),
        (("db", "upgrade"), []),
        (("sync",), [one]),
        (("preview",), [one, "--since", "2026-01-01"]),
        (("backfill",), [one, "--since", "2026-01-01"]),
        (("import",), [one, str(folder / "evil.csv"), "--map", f"receipt_id={EVIL}"]),
        (("import",), [one, str(folder / "evil.csv"), "--dry-run"]),
        (("import",), [one, EVIL, "--encoding", EVIL]),
        (("replan",), [one, "--since", "2026-01-01", "--dry-run"]),
        (("reconcile",), [one]),
        (("reconcile",), [one, "--since", EVIL]),
        (("journal",), [one]),
        (("unread",), [one]),
        (("events",), [one]),
        (("voucher", "issue"), [one, "--title", EVIL]),
        (("voucher", "issue"), [one, "--title", "Coffee", "--code", EVIL]),
        (("voucher", "redeem"), [one, EVIL, "--yes"]),
        (("voucher", "show"), [one, EVIL]),
        (("token", "make"), [one, "--title", EVIL, "--scope", "read"]),
        (("token", "make"), [one, "--title", EVIL, "--scope", EVIL]),
        (("token", "list"), [one]),
        (("token", "revoke"), [one, EVIL, "--yes"]),
        (("subscription", "add"), [one, "--url", f"https://{EVIL}/", "--event", EVIL]),
        (("subscription", "list"), [one]),
        (("subscription", "show"), [one, EVIL]),
        (("subscription", "edit"), [one, EVIL, "--title", EVIL]),
        (("subscription", "test"), [one, EVIL]),
        (("subscription", "replay"), [one, EVIL, "--failed"]),
        (("subscription", "renew-secret"), [one, EVIL]),
        (("subscription", "stop"), [one, EVIL]),
        (("subscription", "resume"), [one, EVIL]),
        (("subscription", "remove"), [one, EVIL, "--yes"]),
        (("unread",), [one, "--try-again"]),
        (("forget",), ["--phone", "+34600111222", "--dry-run"]),
        (("forget",), ["--phone", EVIL, "--dry-run"]),
        (("security", "log"), []),
        (("security", "log"), ["--business", EVIL]),
        (("keys", "rotate"), []),
        (("plugins",), []),
        (("doctor",), []),
        (("new",), [EVIL]),
        (("check",), [EVIL]),
        (("try",), ["webhook", *settings, "--hook", str(folder / "body.json")]),
        (("try",), ["webhook", *settings, "--hook", str(folder / "good.json")]),
        (("diagnostics",), [one, "--out", str(folder / f"a{EVIL.replace(chr(47), '')}.zip")]),
        (("mapping", "try"), [str(folder / "body.json"), "--map", str(folder / "mapping.toml")]),
        (("mapping", "try"), [str(folder / "good.json"), "--map", str(folder / "mapping.toml")]),
        (("mapping", "show"), ["woocommerce"]),
        (("connection", "remove"), [one, "--yes"]),
        (("move",), ["--to", "sqlite:///elsewhere"]),
    ]
    assert {command for command, _ in asked} | ENDLESS == _commands()
    steered = []
    shown = ""
    for command, arguments in asked:
        for more in ([], ["--json"]):
            said = terminal(*command, *arguments, *more)
            shown += said
            if STEERING.search(said):
                steered.append((*command, *more))
    assert steered == []
    hostile = ("Cafe \\x1b[2J", "7 \\u202e", "7 \\u202e", "odd ")
    assert [text for text in hostile if text not in shown] == []  # they were there to be seen
    assert len(unread) >= 2


def test_a_body_is_shown_on_a_terminal_as_text_and_given_to_a_script_as_it_came(terminal: Terminal) -> None:
    one = terminal.ids["connection"]
    kept = json.loads(terminal("unread", one, "--json"))["unread"][0]["id"]

    async def spoil() -> None:
        async with Host(Settings()) as host:
            path = str(
                (await host.services.connections.describe((await host.services.connections.list_all())[0])).hook_url
            )
            hook = HookRequest("POST", {}, {}, b'{"no": "\x1b[2J", "x": 1}')
            await host.hooks.for_connection("webhook", path.rsplit("/", 1)[1], hook)

    asyncio.run(spoil())
    kept = json.loads(terminal("unread", one, "--json"))["unread"][0]["id"]
    env = {name: os.environ[name] for name in ("CONNECTORS_DATABASE_URL", "CONNECTORS_SEVENSTAMP_URL")}
    command = [*CONNECTORS, "unread", one, "--show", kept]
    piped = subprocess.run(command, env=environment(env), capture_output=True, timeout=60, check=True)
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=environment(env), stdin=theirs, stdout=theirs, stderr=theirs) as process:
        process.wait(60)
    said = os.read(ours, 65536)
    os.close(ours)
    os.close(theirs)
    assert b"\x1b[2J" in piped.stdout
    assert b"\\x1b[2J" in said
    assert b"\x1b[2J" not in said


def test_a_log_line_steers_no_terminal_either(terminal: Terminal) -> None:
    env = {
        "CONNECTORS_DATABASE_URL": "sqlite:///" + str(terminal.folder / "x.db"),
        "CONNECTORS_SEVENSTAMP_URL": "http://127.0.0.1:1",
    }
    done = subprocess.run([*CONNECTORS, "--log-level", "DEBUG", "sync", EVIL.replace("\x00", "")], env=environment(env),
                          capture_output=True, text=True, timeout=60, check=False)  # fmt: skip
    assert STEERING.search(done.stdout + done.stderr) is None

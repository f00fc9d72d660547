"""No secret and no customer reaches a log line, an error, an answer, or a page of the database in the clear."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx
import pytest

from poster_connector.sandbox import SECRET, Account
from tests.collector import Collector
from tests.processes import invoke, origin_in, run, started, wait_for, wait_ready
from tests.served_sandboxes import served_by_thread

PHONE, EMAIL = "+380671239876", "anna.secret@example.com"
KEY = "7loc_sc_very_secret_key"
ENCRYPTION_KEY = "the master key of this test run"
UNKNOWN_TOKEN, HOOK_TOKEN = "nosuchsecret99", "some-secret-token"
SECRETS = [
    Account().token,
    Account().token.partition(":")[2],
    UNKNOWN_TOKEN,
    KEY,
    SECRET,
    ENCRYPTION_KEY,
    HOOK_TOKEN,
]
CUSTOMER = [PHONE, PHONE.lstrip("+"), "0671239876", EMAIL]

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("secrecy")]


def test_a_run_with_faults_leaves_no_secret_and_no_customer_in_any_output_or_in_the_database(tmp_path: Path) -> None:
    collector = Collector()
    with (
        served_by_thread(collector) as (traces,),
        started(["sandbox", "sevenstamp"], {}, tmp_path / "s.out"),
        started(["sandbox", "poster"], {}, tmp_path / "p.out"),
    ):
        sevenstamp, till = origin_in(tmp_path / "s.out"), origin_in(tmp_path / "p.out")
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_SECRET_KEY": ENCRYPTION_KEY,
            "CONNECTORS_SETTLE_SECONDS": "0.5",
            "CONNECTORS_CALL_DEADLINE_SECONDS": "0.5",
            "CONNECTORS_LOG_LEVEL": "DEBUG",
            "CONNECTORS_TRACES_URL": f"{traces}/v1/traces",
            "POSTER_API_URL": f"{till}/api",
            "POSTER_APPLICATION_SECRET": SECRET,
        }
        text = _connect_with_wrong_and_right_secrets(env)
        log = tmp_path / "host.log"
        with started(["--log-level", "DEBUG", "serve", "--port", "0"], env, log):
            origin = origin_in(log)
            wait_ready(origin)
            _break_calls_and_sell(sevenstamp, till, origin)
            text += _output(run(["sync", *_connection_ids(env), "--json"], env))
            # faults have said what they had to say; with nine calls of ten failing, a busy machine takes minutes
            httpx.post(f"{sevenstamp}/_sandbox/faults", json={}, trust_env=False)
            text += _print_everything(env)
            names = {"take a hook", "take a receipt in", "send to 7stamp"}
            wait_for(lambda: names <= {span.name for span in collector.spans}, f"{names} at the collector", seconds=90)
        text += log.read_text()
    assert "applied" in text
    assert len(log.read_text().splitlines()) > 3
    pages = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))
    assert len(pages) > 100_000
    for secret in [*SECRETS, *CUSTOMER]:
        assert secret not in text, f"{secret} in an output"
        assert secret.encode() not in pages, f"{secret} in the database"
        assert secret.encode() not in collector.bodies, f"{secret} in a trace"


def _connect_with_wrong_and_right_secrets(env: Mapping[str, str]) -> str:
    add = ["connection", "add", "poster", "--unknown-customer", "issue", "--poll-seconds", "10", "--json"]
    token = f"access_token={Account().token}"
    attempts = [
        ["--sevenstamp-key", "7loc_wrong" + KEY, "--set", token],
        ["--sevenstamp-key", KEY, "--set", f"access_token=1:{UNKNOWN_TOKEN}"],
        ["--sevenstamp-key", KEY, "--set", token],
    ]
    return "".join(_output(run([*add, *attempt], env)) for attempt in attempts)


def _break_calls_and_sell(sevenstamp: str, till: str, origin: str) -> None:
    """Have calls fail in every way, sell to a customer who stands in comments too, and send hooks that are forged.

    No hook tells of the first receipt: a poll takes it in, so that both ways are walked.
    """
    faults = {"drop_after": 0.3, "drop_before": 0.3, "garbage": 0.2, "status_500": 0.2}
    httpx.post(f"{sevenstamp}/_sandbox/faults", json=faults, trust_env=False)
    sale = {"phone": PHONE, "paid": 1000, "comment": f"{PHONE} {EMAIL} call her"}
    httpx.post(f"{till}/_sandbox/sell", json=sale, trust_env=False)
    httpx.post(f"{till}/_sandbox/hooks", json={"url": f"{origin}/hooks/tills/poster"}, trust_env=False)
    for number in range(8):
        receipt = httpx.post(f"{till}/_sandbox/sell", json=sale, trust_env=False).json()
        if number % 3 == 0:
            httpx.post(f"{till}/_sandbox/refund", json=receipt, trust_env=False)
    httpx.post(f"{origin}/hooks/tills/poster", content=b'{"object": "' + PHONE.encode(), trust_env=False)
    httpx.post(f"{origin}/hooks/tills/poster/{HOOK_TOKEN}", content=b"{}", trust_env=False)


def _print_everything(env: Mapping[str, str]) -> str:
    (connection_id,) = _connection_ids(env)
    text = ""
    operations = ["operations", connection_id, "--json"]
    wait_for(lambda: "applied" in invoke(operations, env).stdout, "an operation to be applied", seconds=120, pause=0.2)
    for command in (["journal"], ["operations"], ["connection", "show"]):
        text += _output(run([*command, connection_id, "--json"], env))
    return text + _output(run(["doctor"], env))


def _output(process: subprocess.CompletedProcess[str]) -> str:
    return process.stdout + process.stderr


def _connection_ids(env: Mapping[str, str]) -> list[str]:
    return [connection["id"] for connection in json.loads(invoke(["connection", "list", "--json"], env).stdout)]

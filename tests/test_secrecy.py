"""No secret and no customer reaches a log line, an error, an answer, or a page of the database in the clear."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from poster_connector.sandbox import SECRET, Account
from tests.processes import origin_in, run, started, wait_for, wait_ready

PHONE, EMAIL = "+380671239876", "anna.secret@example.com"
KEY = "7loc_sc_very_secret_key"
MASTER = "the master key of this test run"

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("secrecy")]


def test_a_run_with_faults_leaves_no_secret_and_no_person_anywhere(tmp_path: Path) -> None:
    text = ""
    with (
        started(["sandbox", "sevenstamp"], {}, tmp_path / "s.out"),
        started(["sandbox", "poster"], {}, tmp_path / "p.out"),
    ):
        sevenstamp, till = origin_in(tmp_path / "s.out"), origin_in(tmp_path / "p.out")
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_SECRET_KEY": MASTER,
            "CONNECTORS_SETTLE_SECONDS": "0.5",
            "CONNECTORS_CALL_DEADLINE_SECONDS": "0.5",
            "CONNECTORS_LOG_LEVEL": "DEBUG",
            "POSTER_API_URL": f"{till}/api",
            "POSTER_APPLICATION_SECRET": SECRET,
        }
        add = ["connection", "add", "poster", "--unknown-customer", "issue", "--poll-seconds", "10", "--json"]
        token = f"access_token={Account().token}"
        text += _said(run([*add, "--sevenstamp-key", "7loc_wrong" + KEY, "--set", token], env))
        text += _said(run([*add, "--sevenstamp-key", KEY, "--set", "access_token=1:nosuchsecret99"], env))
        text += _said(run([*add, "--sevenstamp-key", KEY, "--set", token], env))
        log = tmp_path / "host.log"
        with started(["--log-level", "DEBUG", "serve", "--port", "0"], env, log):
            origin = origin_in(log)
            wait_ready(origin)
            faults = {"drop_after": 0.3, "drop_before": 0.3, "garbage": 0.2, "status_500": 0.2}
            httpx.post(f"{sevenstamp}/_sandbox/faults", json=faults, trust_env=False)
            httpx.post(f"{till}/_sandbox/hooks", json={"url": f"{origin}/hooks/tills/poster"}, trust_env=False)
            for number in range(8):
                sold = {"phone": PHONE, "paid": 1000, "comment": f"{PHONE} {EMAIL} call her"}
                receipt = httpx.post(f"{till}/_sandbox/sell", json=sold, trust_env=False).json()
                if number % 3 == 0:
                    httpx.post(f"{till}/_sandbox/refund", json=receipt, trust_env=False)
            httpx.post(f"{origin}/hooks/tills/poster", content=b'{"object": "' + PHONE.encode(), trust_env=False)
            httpx.post(f"{origin}/hooks/tills/poster/some-secret-token", content=b"{}", trust_env=False)
            (connection,) = _ids(env)
            text += _said(run(["sync", connection, "--json"], env))
            operations = ["operations", connection, "--json"]
            wait_for(lambda: "applied" in run(operations, env).stdout, "an operation to be applied", pause=0.2)
            for command in (["journal"], ["operations"], ["connection", "show"]):
                text += _said(run([*command, connection, "--json"], env))
            text += _said(run(["doctor"], env))
        text += log.read_text()
    assert "applied" in text
    assert len(log.read_text().splitlines()) > 3
    pages = b"".join(file.read_bytes() for file in tmp_path.glob("ledger.db*"))
    assert len(pages) > 100_000
    secrets = [
        Account().token,
        Account().token.partition(":")[2],
        "nosuchsecret99",
        KEY,
        SECRET,
        MASTER,
        "some-secret-token",
    ]
    people = [PHONE, PHONE.lstrip("+"), "0671239876", EMAIL]
    for secret in [*secrets, *people]:
        assert secret not in text, f"{secret} in what was said"
        assert secret.encode() not in pages, f"{secret} in the database"


def _said(process: object) -> str:
    return process.stdout + process.stderr  # type: ignore[attr-defined]


def _ids(env: dict[str, str]) -> list[str]:
    import json

    return [one["id"] for one in json.loads(run(["connection", "list", "--json"], env).stdout)]

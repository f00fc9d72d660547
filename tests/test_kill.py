"""The host is killed at random moments under load and faults: nothing lost, nothing doubled. `KILLS=20` for longer."""

from __future__ import annotations

import random
import time
from pathlib import Path

import httpx
import pytest

from poster_connector.sandbox import SECRET, Account
from tests.busy_cafe import Cafe, earned, held, stamps, until_settled
from tests.processes import KILLS, origin_in, run, started, wait_ready

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]


def test_kills_under_load_lose_nothing_and_double_nothing(tmp_path: Path) -> None:
    with (
        started(["sandbox", "sevenstamp", "--goal", "1000000"], {}, tmp_path / "7stamp.log"),
        started(["sandbox", "poster"], {}, tmp_path / "poster.log"),
    ):
        sevenstamp, till = origin_in(tmp_path / "7stamp.log"), origin_in(tmp_path / "poster.log")
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{tmp_path / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_SECRET_KEY": "a key that only tests use",
            "CONNECTORS_SETTLE_SECONDS": "1",
            "CONNECTORS_CALL_DEADLINE_SECONDS": "1",
            "POSTER_API_URL": f"{till}/api",
            "POSTER_APPLICATION_SECRET": SECRET,
        }
        added = run(
            [
                *("connection", "add", "poster", "--sevenstamp-key", "7loc_sc_kill"),
                *("--set", f"access_token={Account().token}", "--rule", "amount:10.00"),
                *("--unknown-customer", "issue", "--poll-seconds", "10"),
            ],
            env,
        )
        assert added.returncode == 0, added.stderr
        faults = {"drop_after": 0.2, "apply_late_ms": [0, 900], "ignore_idempotency_keys": True, "latency_ms": [0, 30]}
        assert httpx.post(f"{sevenstamp}/_sandbox/faults", json=faults, trust_env=False).is_success
        cafe = Cafe(till)
        cafe.start()
        _kill_again_and_again(env, tmp_path, cafe)
        cafe.stop()
        with started(["serve", "--port", "0"], env, tmp_path / "last.log"):
            origin = origin_in(tmp_path / "last.log")
            wait_ready(origin)
            httpx.post(f"{sevenstamp}/_sandbox/faults", json={"ignore_idempotency_keys": True}, trust_env=False)
            until_settled(sevenstamp, till)
        applied = stamps(sevenstamp)
        assert len({one["code"] for one in applied}) == len(applied), "an operation was applied twice"
        assert held(applied) == earned(till)
        assert cafe.sold > 2 * KILLS


def _kill_again_and_again(env: dict[str, str], folder: Path, cafe: Cafe) -> None:
    chance = random.Random(7)
    for number in range(KILLS):
        log = folder / f"host-{number}.log"
        with started(["serve", "--port", "0"], env, log) as process:
            origin = origin_in(log)
            httpx.post(f"{cafe.till}/_sandbox/hooks", json={"url": f"{origin}/hooks/tills/poster"}, trust_env=False)
            time.sleep(chance.uniform(0.05, 1.2))  # the moment is the point: nothing is waited for
            process.kill()

"""The host is killed at random moments under load and faults: nothing lost, nothing doubled. `KILLS=20` for longer."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import httpx
import pytest

from poster_connector.sandbox import SECRET, Account
from tests.processes import KILLS, origin_in, run, started, wait_for, wait_ready

PHONES = [f"+38050111{number:04d}" for number in range(2001, 2013)]

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
            _until_settled(sevenstamp, till)
        applied = _stamps(sevenstamp)
        assert len({one["code"] for one in applied}) == len(applied), "an operation was applied twice"
        assert _held(applied) == _earned(till)
        assert cafe.sold > 2 * KILLS


class Cafe(threading.Thread):
    """Sells, corrects and refunds without pause; the till's sandbox tells the host by hook, if it is there."""

    def __init__(self, till: str) -> None:
        super().__init__(daemon=True)
        self.till = till
        self.sold = 0
        self._ending = threading.Event()
        self._chance = random.Random(11)

    def run(self) -> None:
        receipts: list[int] = []
        with httpx.Client(trust_env=False, timeout=10) as client:
            while not self._ending.wait(0.04):
                phone = self._chance.choice(PHONES)
                paid = self._chance.randint(10, 60) * 100
                answer = client.post(f"{self.till}/_sandbox/sell", json={"phone": phone, "paid": paid})
                receipts.append(answer.json()["receipt_id"])
                self.sold += 1
                if self._chance.random() < 0.2:
                    body = {"receipt_id": self._chance.choice(receipts), "paid": self._chance.randint(10, 60) * 100}
                    client.post(f"{self.till}/_sandbox/{self._chance.choice(['refund', 'correct'])}", json=body)

    def stop(self) -> None:
        self._ending.set()
        self.join(10)


def _kill_again_and_again(env: dict[str, str], folder: Path, cafe: Cafe) -> None:
    chance = random.Random(7)
    for number in range(KILLS):
        log = folder / f"host-{number}.log"
        with started(["serve", "--port", "0"], env, log) as process:
            origin = origin_in(log)
            httpx.post(f"{cafe.till}/_sandbox/hooks", json={"url": f"{origin}/hooks/tills/poster"}, trust_env=False)
            time.sleep(chance.uniform(0.05, 1.2))  # the moment is the point: nothing is waited for
            process.kill()


def _stamps(sevenstamp: str) -> list[dict[str, object]]:
    found = httpx.get(f"{sevenstamp}/_sandbox/operations", trust_env=False, timeout=30).json()
    return [one for one in found if one["kind"] in ("stamps_added", "stamps_reversed")]


def _held(applied: list[dict[str, object]]) -> int:
    return sum(int(str(one["count"])) * (1 if one["kind"] == "stamps_added" else -1) for one in applied)


def _earned(till: str) -> int:
    receipts = httpx.post(f"{till}/_sandbox/receipts", json={}, trust_env=False, timeout=30).json()
    good = [one for one in receipts if one["status"] == "2" and one["print_fiscal"] != "2"]
    return sum(int(one["payed_sum"]) // 1000 for one in good)


def _until_settled(sevenstamp: str, till: str) -> None:
    """Wait until what 7stamp holds is what the receipts earn, and stays so in four looks."""
    agreeing = 0

    def settled() -> bool:
        nonlocal agreeing
        agreeing = agreeing + 1 if _held(_stamps(sevenstamp)) == _earned(till) else 0
        return agreeing == 4

    wait_for(settled, "7stamp and the till to agree", seconds=60, pause=0.5)

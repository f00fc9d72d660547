"""A cafe that sells, corrects and refunds without pause, and what its receipts and cards must come to.

Owns nothing of what is killed beside it: `test_kill` and `cluster` do that.
"""

from __future__ import annotations

import random
import threading

import httpx

from tests.processes import wait_for

PHONES = [f"+38050111{number:04d}" for number in range(2001, 2013)]


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


def stamps(sevenstamp: str) -> list[dict[str, object]]:
    """The stamps that 7stamp has applied, given and taken back."""
    found = httpx.get(f"{sevenstamp}/_sandbox/operations", trust_env=False, timeout=30).json()
    return [one for one in found if one["kind"] in ("stamps_added", "stamps_reversed")]


def held(applied: list[dict[str, object]]) -> int:
    """Their sum."""
    return sum(int(str(one["count"])) * (1 if one["kind"] == "stamps_added" else -1) for one in applied)


def earned(till: str) -> int:
    """The stamps that the till's receipts earn, one for each ten that were paid."""
    receipts = httpx.post(f"{till}/_sandbox/receipts", json={}, trust_env=False, timeout=30).json()
    good = [one for one in receipts if one["status"] == "2" and one["print_fiscal"] != "2"]
    return sum(int(one["payed_sum"]) // 1000 for one in good)


def until_settled(sevenstamp: str, till: str) -> None:
    """Wait until what 7stamp holds is what the receipts earn, and stays so in four looks."""
    agreeing = 0

    def settled() -> bool:
        nonlocal agreeing
        agreeing = agreeing + 1 if held(stamps(sevenstamp)) == earned(till) else 0
        return agreeing == 4

    wait_for(settled, "7stamp and the till to agree", seconds=90, pause=0.5)

"""The host is killed again and again while it delivers: each event arrives at least once, and in order per card."""

from __future__ import annotations

import asyncio
import random
import socket
import sqlite3
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from poster_connector.sandbox import Account
from tests.processes import KILLS, origin_in, run, started, wait_for, wait_ready
from tests.relay.subscriber import Subscriber, subscribing

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("kill")]
KEY = "7loc_sc_relay_kill"
CARDS = 6


@contextmanager
def subscriber_in_thread() -> Iterator[Subscriber]:
    """Serve a subscriber in a thread of its own, which fails now and then."""
    chance, ready, done = random.Random(3), threading.Event(), threading.Event()
    made: list[Subscriber] = []

    async def serve() -> None:
        async with subscribing(answer=lambda _one: 503 if chance.random() < 0.01 else 200) as subscriber:
            made.append(subscriber)
            ready.set()
            await asyncio.to_thread(done.wait)

    thread = threading.Thread(target=asyncio.run, args=(serve(),))
    thread.start()
    try:
        assert ready.wait(20)
        yield made[0]
    finally:
        done.set()
        thread.join(20)


class Loyalty(threading.Thread):
    """Has 7stamp tell of its cards without pause."""

    def __init__(self, sevenstamp: str) -> None:
        super().__init__(daemon=True)
        self.sevenstamp = sevenstamp
        self.told = 0
        self._ending = threading.Event()
        bearer = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=sevenstamp, trust_env=False, headers=bearer) as client:
            phones = [f"+38050111{2001 + number}" for number in range(CARDS)]
            self._cards = [client.post("/v1/cards", json={"phone": phone}).json()["id"] for phone in phones]

    def run(self) -> None:
        chance = random.Random(5)
        with httpx.Client(base_url=self.sevenstamp, trust_env=False, timeout=10) as client:
            while not self._ending.wait(0.01):
                event = {"event": "card_opened", "card_id": chance.choice(self._cards), "further": {"n": self.told}}
                client.post("/_sandbox/events", json=event)
                self.told += 1

    def stop(self) -> None:
        self._ending.set()
        self.join(10)


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_kills_under_deliveries_lose_nothing_and_keep_each_cards_order(tmp_path: Path) -> None:
    port, database = free_port(), tmp_path / "ledger.db"
    with (
        started(["sandbox", "sevenstamp"], {}, tmp_path / "7stamp.log"),
        started(["sandbox", "poster"], {}, tmp_path / "poster.log"),
        subscriber_in_thread() as subscriber,
    ):
        sevenstamp, till = origin_in(tmp_path / "7stamp.log"), origin_in(tmp_path / "poster.log")
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{database}",
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_SECRET_KEY": "a key that only tests use",
            "CONNECTORS_PUBLIC_URL": f"http://127.0.0.1:{port}",
            "CONNECTORS_RELAY_HOSTS": "127.0.0.1",
            "POSTER_API_URL": f"{till}/api",
        }
        token = ("--set", f"access_token={Account().token}")
        added = run(["connection", "add", "poster", "--sevenstamp-key", KEY, *token, "--json"], env)
        assert added.returncode == 0, added.stderr
        connection = added.stdout.split('"id": "')[1].split('"')[0]
        event = ("--event", "card_opened")
        made = run(["subscription", "add", connection, "--url", f"{subscriber.origin}/hook", *event], env)
        assert made.returncode == 0, made.stderr
        loyalty = Loyalty(sevenstamp)
        loyalty.start()
        chance = random.Random(7)
        for number in range(KILLS):
            log = tmp_path / f"host-{number}.log"
            with started(["serve", "--port", str(port)], env, log) as process:
                wait_ready(origin_in(log))
                time.sleep(chance.uniform(0.1, 1.2))  # the moment is the point: nothing is waited for
                process.kill()
        loyalty.stop()
        with started(["serve", "--port", str(port)], env, tmp_path / "last.log"):
            wait_ready(origin_in(tmp_path / "last.log"))
            subscriber.answer = lambda _one: 200
            wait_for(lambda: _settled(database), "everything to be delivered", seconds=90, pause=0.2)
    _assert_in_order(_recorded(database), subscriber)
    assert loyalty.told > 10 * KILLS


def _settled(database: Path) -> bool:
    with sqlite3.connect(database) as session:
        waiting = session.execute("SELECT count(*) FROM relay_delivery WHERE state = 'pending'").fetchone()[0]
        return not waiting and session.execute("SELECT count(*) FROM relay_delivery").fetchone()[0] > 0


def _recorded(database: Path) -> dict[str, list[str]]:
    """The ids of the recorded events of each card, in their order."""
    by_card: dict[str, list[str]] = defaultdict(list)
    with sqlite3.connect(database) as session:
        for event_id, lane in session.execute("SELECT id, lane FROM relay_event ORDER BY seq"):
            by_card[lane].append(event_id)
    return by_card


def _assert_in_order(recorded: dict[str, list[str]], subscriber: Subscriber) -> None:
    place = {event_id: (card, at) for card, ids in recorded.items() for at, event_id in enumerate(ids)}
    arrived: dict[str, list[int]] = defaultdict(list)
    for request in subscriber.received:
        card, at = place[request.headers["webhook-id"]]
        arrived[card].append(at)
    for card, ids in recorded.items():
        assert arrived[card] == sorted(arrived[card]), f"{card}: an event came before an older one was taken"
        taken = {r.headers["webhook-id"] for r in subscriber.taken if place[r.headers["webhook-id"]][0] == card}
        assert taken == set(ids), f"{card}: an event never arrived"

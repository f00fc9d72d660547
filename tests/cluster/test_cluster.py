"""Hosts and workers of a cluster, killed and replaced while a cafe sells: nothing lost, nothing doubled."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import httpx
import psycopg
import pytest

from poster_connector.sandbox import SECRET, Account
from tests.busy_cafe import Cafe, earned, held, stamps, until_settled
from tests.cluster.members import Cluster
from tests.postgresql import PostgresServer, running_postgresql
from tests.processes import KILLS, origin_in, run, started

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("cluster")]


@dataclass
class Town:
    """A server, sandboxes and the environment that joins them."""

    server: PostgresServer
    sevenstamp: str
    till: str
    env: dict[str, str]
    cluster: Cluster

    def what_is_open(self) -> str:
        """What of the work is left, for whoever looks at a run that did not come to its end."""
        queries = {
            "open": "SELECT state, hold, reason, count(*) FROM operation WHERE state <> 'applied' GROUP BY 1, 2, 3",
            "hints": "SELECT receipt_id, attempts, next_at FROM hint",
            "searches": "SELECT sale_id, attempts, next_at FROM identify",
            "connection": "SELECT health, reason, failures, send_after, next_poll_at FROM connection",
            "members": "SELECT role, seen_at FROM member",
            "jobs": "SELECT args, status, worker_id, attempts FROM procrastinate_jobs",
            "workers": "SELECT id, last_heartbeat, now() FROM procrastinate_workers",
            "now": "SELECT extract(epoch FROM now()) * 1000000",
        }
        with psycopg.connect(self.env["CONNECTORS_DATABASE_URL"]) as session:
            return "\n".join(f"{name}: {session.execute(query).fetchall()}" for name, query in queries.items())

    def faults(self, **faults: object) -> None:
        httpx.post(f"{self.sevenstamp}/_sandbox/faults", json=faults, trust_env=False).raise_for_status()


@pytest.fixture
def town(tmp_path: Path) -> Iterator[Town]:
    with ExitStack() as stack:
        server = stack.enter_context(running_postgresql())
        stack.enter_context(started(["sandbox", "sevenstamp", "--goal", "1000000"], {}, tmp_path / "7stamp.log"))
        stack.enter_context(started(["sandbox", "poster"], {}, tmp_path / "poster.log"))
        sevenstamp, till = origin_in(tmp_path / "7stamp.log"), origin_in(tmp_path / "poster.log")
        env = {
            "CONNECTORS_DATABASE_URL": server.new_database(empty=True),
            "CONNECTORS_SEVENSTAMP_URL": sevenstamp,
            "CONNECTORS_SECRET_KEY": "a key that only tests use",
            "CONNECTORS_SETTLE_SECONDS": "1",
            "CONNECTORS_CALL_DEADLINE_SECONDS": "1",
            "CONNECTORS_DEAD_AFTER_SECONDS": "2",
            "POSTER_API_URL": f"{till}/api",
            "POSTER_APPLICATION_SECRET": SECRET,
        }
        members = tmp_path / "members"
        members.mkdir()
        yield Town(server, sevenstamp, till, env, stack.enter_context(Cluster(env, members)))


def _connect(town: Town) -> None:
    added = run(
        [
            *("connection", "add", "poster", "--sevenstamp-key", "7loc_sc_cluster"),
            *("--set", f"access_token={Account().token}", "--rule", "amount:10.00"),
            *("--unknown-customer", "issue", "--poll-seconds", "10"),
        ],
        town.env,
    )
    assert added.returncode == 0, added.stderr


def test_members_that_are_killed_lose_nothing_and_double_nothing(town: Town) -> None:
    _connect(town)
    town.faults(drop_after=0.2, apply_late_ms=[0, 900], ignore_idempotency_keys=True, latency_ms=[0, 30])
    cluster, chance = town.cluster, random.Random(5)
    for _ in range(2):
        cluster.start_host()
        cluster.start_worker()
    cluster.wait_ready()
    cafe = Cafe(town.till)
    cafe.start()
    for number in range(2 * KILLS):
        receiver = chance.choice(cluster.hosts)
        hooks = {"url": f"{receiver.origin}/hooks/tills/poster"}
        httpx.post(f"{town.till}/_sandbox/hooks", json=hooks, trust_env=False)
        time.sleep(chance.uniform(0.05, 1.2))  # the moment is the point: nothing is waited for
        if number % 2:
            cluster.kill(receiver)
            cluster.start_host()
        else:
            cluster.kill(chance.choice(cluster.workers))
            cluster.start_worker()
        if number == KILLS:
            town.server.stop()
            time.sleep(0.5)
            town.server.start()
    cafe.stop()
    town.faults(ignore_idempotency_keys=True)
    try:
        until_settled(town.sevenstamp, town.till)
    except AssertionError as error:
        raise AssertionError(f"{error}: {town.what_is_open()}") from None
    applied = stamps(town.sevenstamp)
    assert len({one["code"] for one in applied}) == len(applied), "an operation was applied twice"
    assert held(applied) == earned(town.till)
    assert cafe.sold > 4 * KILLS
    assert "Traceback" not in cluster.logs()

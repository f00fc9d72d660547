"""Ten thousand connections, each due every minute, against a thousand: lateness, processor time and memory.

A till takes 200 ms to answer, and some of them hang. Lateness is how long after it was due a poll began, as the host's
own metrics say.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from bench.figures import Figure, report
from bench.idle import cpu_seconds, resident_mib
from bench.sandboxes import token
from connector_sdk.rule import StampRule
from connectors.domain.clock import DAY, MINUTE, SECOND
from connectors.runtime.host import Host
from connectors.services import ConnectOptions
from connectors.settings import Settings
from connectors.store import connections, ledger
from connectors.store.connections.registry import NewConnection
from connectors.store.engine import Transaction
from tests.processes import origin_in, started, wait_ready

KEY, METRICS_TOKEN = "a key for the bench only", "a token for the bench only"
TILL_SECONDS, BUSINESSES = 0.2, 50
FEW, MANY = 1_000, 10_000


@dataclass(frozen=True, slots=True)
class Figures:
    """What a host costs for so many connections; `late` maps bounds in seconds to the share of polls within them."""

    connections: int
    polls: int
    core_percent: float
    mib: float
    late: dict[float, float]

    @property
    def p99(self) -> float:
        """The smallest bound within which 99 of 100 polls began."""
        return min(bound for bound, share in self.late.items() if share >= 0.99)


async def fill(settings: Settings, number: int, hanging: int) -> None:
    """Store connections that are due at all moments of the next minute; the tills of some of them hang."""
    chance = random.Random(1)
    async with Host(settings) as host:
        of_account = await host.store.read(lambda tx: connections.registry.of_account(tx, "poster", token(0)[:6]))
        first = (
            of_account[0]
            if of_account
            else await host.services.onboarding.connect(
                "poster",
                {"access_token": token(0)},
                "7loc_sc_bench0",
                lambda _account: StampRule(),
                ConnectOptions(poll_seconds=60),
            )
        )

        def store(tx: Transaction, start: int) -> None:
            for index in range(start, min(start + 500, number)):
                account = first.account.model_copy(update={"id": f"a{index}", "name": f"Cafe {index}"})
                values = {"access_token": token(900_000 + index if index <= hanging else 0)}
                business = connections.businesses.get(tx, first.business_id)
                business = replace(business, id=f"b{index % BUSINESSES}")
                if index <= BUSINESSES:
                    connections.businesses.save(tx, business)
                name = connections.registry.insert(
                    tx,
                    NewConnection(
                        "poster", account, business, "", (), values, "7loc_sc_bench0", 60, read_key=f"k{index}"
                    ),
                )
                connections.rules.put_in_force(tx, name, StampRule())
                ledger.agreements.schedule(tx, name, tx.now + DAY)
                times = {name: tx.now + chance.randint(0, MINUTE) + 8 * SECOND}
                connections.registry.set_times(tx, "next_poll_at", times)
                connections.registry.set_times(tx, "next_lookback_at", {name: tx.now + chance.randint(10, 60) * MINUTE})

        for start in range(1, number, 500):
            await host.store.write(lambda tx, start=start: store(tx, start))  # type: ignore[misc]


def measure(number: int, seconds: float, hanging: int = 0) -> Figures:
    """Serve so many connections for a while."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        folder = Path(name)
        sandboxes = stack.enter_context(
            subprocess.Popen(
                [sys.executable, "-m", "bench.sandboxes", "1", str(TILL_SECONDS)], stdout=subprocess.PIPE, text=True
            )
        )
        stack.callback(sandboxes.terminate)
        assert sandboxes.stdout is not None
        origin = sandboxes.stdout.readline().strip()
        env = {
            "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
            "CONNECTORS_SEVENSTAMP_URL": origin,
            "CONNECTORS_SECRET_KEY": KEY,
            "CONNECTORS_METRICS_TOKEN": METRICS_TOKEN,
            "POSTER_API_URL": f"{origin}/api",
        }
        os.environ["POSTER_API_URL"] = env["POSTER_API_URL"]
        settings = Settings(
            database_url=env["CONNECTORS_DATABASE_URL"], sevenstamp_url=origin, secret_key=SecretStr(KEY)
        )
        asyncio.run(fill(settings, number, hanging))
        host = stack.enter_context(started(["serve", "--port", "0"], env, folder / "host.log", fresh=True))
        address = origin_in(folder / "host.log")
        wait_ready(address)
        time.sleep(20)
        before, polls_before, late_before = cpu_seconds(host.pid), *_metrics(address)
        time.sleep(seconds)
        share = (cpu_seconds(host.pid) - before) / seconds * 100
        polls, late = _metrics(address)
        began = late["+Inf"] - late_before["+Inf"]
        return Figures(
            number,
            int(polls - polls_before),
            share,
            resident_mib(host.pid),
            {float(bound): (late[bound] - late_before[bound]) / began for bound in late},
        )


def _metrics(address: str) -> tuple[float, dict[str, float]]:
    """Read how many polls ended, and how many began within each bound of lateness."""
    headers = {"Authorization": f"Bearer {METRICS_TOKEN}"}
    text = httpx.get(f"{address}/metrics", headers=headers, trust_env=False, timeout=30).text
    polls, late = 0.0, dict[str, float]()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name == "connectors_till_call_seconds_count" and sample.labels["call"] == "poll":
                polls = sample.value
            if sample.name == "connectors_read_lateness_seconds_bucket":
                late[sample.labels["le"]] = sample.value
    return polls, late


def main() -> None:
    """Print both, and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench.on_time", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    seconds = parser.parse_args().seconds
    few, many = measure(FEW, seconds), measure(MANY, seconds)
    hung = measure(MANY, seconds, hanging=1000)
    for label, figures in (("", few), ("", many), (", 1,000 tills hang", hung)):
        print(
            f"{figures.connections:,} connections every 60 s{label}: {figures.polls:,} polls, "
            f"{figures.core_percent:.1f} % of a core, {figures.mib:.0f} MiB, 99 of 100 begin within {figures.p99:g} s"
        )
    against = f"{FEW:,} connections"
    name = f"{MANY:,} connections every 60 s"
    report(Figure(f"{name}, processor", "% of a core", many.core_percent, few.core_percent, against, 11, at_most=True))
    report(Figure(f"{name}, memory", "MiB", many.mib, 238, "what is allowed", 1, at_most=True))
    for label, figures in (("", many), (" while 1,000 tills hang", hung)):
        late = f"{name}, 99 of 100 begin within{label}"
        report(Figure(late, "s", figures.p99, 2, "what is allowed", 1, at_most=True))


if __name__ == "__main__":
    main()

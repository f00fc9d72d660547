"""A cluster's workers: stamped sales per second of one and of four, till and 7stamp 100 ms away.

All workers are up, on one durable PostgreSQL, and stopped while hooks are stored; the time counts from when they go on.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import time
from pathlib import Path

import httpx
import uvloop
from pydantic import SecretStr

from bench.delivery import KEY, WARM, beside_sandboxes, connect, delivered, environment, hooks
from bench.figures import Figure, report
from connectors.runtime.host import Host
from connectors.settings import Settings
from tests.cluster.members import Cluster
from tests.postgresql import running_postgresql

ACCOUNTS, EACH, AWAY, MANY = 60, 30, 0.1, 4


async def measure(workers: int, each: int, origin: str, folder: Path) -> float:
    """Return the sales per second that so many workers stamp."""
    with running_postgresql(durable=True) as server:
        env = environment(origin, folder) | {"CONNECTORS_DATABASE_URL": server.new_database()}
        settings = Settings(
            database_url=env["CONNECTORS_DATABASE_URL"], sevenstamp_url=origin, secret_key=SecretStr(KEY)
        )
        async with (
            httpx.AsyncClient(base_url=origin, trust_env=False, timeout=600) as control,
            Host(settings) as host,
        ):
            await asyncio.gather(*(connect(host, number) for number in range(ACCOUNTS)))
            warm = (await control.post("/_bench/sell", content=json.dumps({"each": WARM}))).json()
            await delivered(host, control, await hooks(host, warm))  # cards are issued
            with Cluster(env, folder) as cluster:
                await asyncio.to_thread(cluster.start_host)
                for _ in range(workers):
                    await asyncio.to_thread(cluster.start_worker)
                # all are up and wait while the hooks are stored: what is measured is the work alone
                signal_all(cluster, signal.SIGSTOP)
                sold = (await control.post("/_bench/sell", content=json.dumps({"each": each}))).json()
                count = await hooks(host, sold)
                applied = asyncio.create_task(control.post("/_bench/applied", content=json.dumps({"more": count})))
                await asyncio.sleep(0.1)
                began = time.perf_counter()
                signal_all(cluster, signal.SIGCONT)
                (await applied).raise_for_status()
                return count / (time.perf_counter() - began)


def signal_all(cluster: Cluster, number: int) -> None:
    """Send a signal to all workers."""
    for worker in cluster.workers:
        worker.process.send_signal(number)


async def compare(each: int) -> None:
    """Measure one worker and then four, each over sandboxes of its own."""
    rates: dict[int, float] = {}
    for workers in (1, MANY):

        async def run(origin: str, folder: Path, workers: int = workers) -> None:
            rates[workers] = await measure(workers, each, origin, folder)

        await beside_sandboxes(ACCOUNTS, run, seconds=AWAY)
    report(Figure(f"{MANY} workers on PostgreSQL, 100 ms away", "sales/s", rates[MANY], rates[1], "one worker", 3.5))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--each", type=int, default=EACH)
    uvloop.run(compare(parser.parse_args().each))

"""Hooks of a till acknowledged per second over HTTP, each stored and fsynced, against a route that stores nothing.

Both are a process of their own; the same caller posts the same bodies to each in turn. The host's connections are
paused, so that nothing but the hooks is measured: a hook is taken for a paused connection too.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import aiohttp
import uvloop

from bench.delivery import beside_sandboxes, connect, environment
from bench.figures import Figure, report
from bench.sandboxes import token
from connectors.runtime.host import Host
from connectors.settings import Settings
from poster_connector.sandbox import Account
from tests.processes import origin_in, started, wait_ready

ACCOUNTS, HOOKS, CALLERS, ROUNDS = 20, 4_000, 64, 3


async def acknowledged(origin: str, run: int) -> list[float]:
    """Post the hooks and return how long each took (seconds), the whole run's time last."""
    bodies = [
        Account(token=token(number % ACCOUNTS)).hook(run * HOOKS + number + 1, "closed") for number in range(HOOKS)
    ]
    queue, took = iter(bodies), list[float]()

    async def caller(session: aiohttp.ClientSession, queue: Iterator[bytes]) -> None:
        for body in queue:
            began = time.perf_counter()
            async with session.post(f"{origin}/hooks/tills/poster", data=body) as answer:
                assert answer.status == 200, await answer.text()
            took.append(time.perf_counter() - began)

    async with aiohttp.ClientSession() as session:
        began = time.perf_counter()
        await asyncio.gather(*(caller(session, queue) for _ in range(CALLERS)))
        return [*took, time.perf_counter() - began]


async def connect_paused(settings: Settings) -> None:
    """Store connections that are paused."""
    async with Host(settings) as host:
        for number in range(ACCOUNTS):
            await host.services.connections.pause((await connect(host, number)).id)


async def measure(origin: str, folder: Path) -> None:
    """Measure both in turns, and report the medians of the rounds."""
    # a quota is no figure: twenty cafes do not send thousands of hooks a minute
    env = environment(origin, folder) | {"CONNECTORS_HOOKS_PER_MINUTE": "1000000"}
    await connect_paused(Settings())
    with ExitStack() as stack:
        bare = stack.enter_context(
            subprocess.Popen([sys.executable, "-m", "bench.bare"], stdout=subprocess.PIPE, text=True)
        )
        stack.callback(bare.terminate)
        assert bare.stdout is not None
        bare_origin = bare.stdout.readline().strip()
        stack.enter_context(started(["serve", "--port", "0"], env, folder / "host.log", fresh=True))
        address = origin_in(folder / "host.log")
        await asyncio.to_thread(wait_ready, address)
        rounds: dict[str, list[list[float]]] = {address: [], bare_origin: []}
        for run in range(ROUNDS + 1):
            for target, runs in rounds.items():
                measured = await acknowledged(target, run)
                if run:  # the first of each warms it up
                    runs.append(measured)
    rates = {target: statistics.median(HOOKS / run[-1] for run in runs) for target, runs in rounds.items()}
    slowest = {
        target: statistics.median(statistics.quantiles(run[:-1], n=100)[98] for run in runs) * 1000
        for target, runs in rounds.items()
    }
    against = "a bare Starlette route, which stores nothing"
    report(Figure("hooks acknowledged", "hooks/s", rates[address], rates[bare_origin], against, 0.5))
    report(Figure("hooks acknowledged, p99", "ms", slowest[address], slowest[bare_origin], against, 5.0, at_most=True))


if __name__ == "__main__":
    uvloop.run(beside_sandboxes(ACCOUNTS, measure))

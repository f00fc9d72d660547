"""A ledger with a million receipts against one with ten thousand: ingest, delivery, and the start of a host.

`--receipts 10000000` takes an hour and 30 GB to fill. The started host of the large ledger has ten thousand connections
too, that of the small one ten.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import uvloop
from pydantic import SecretStr

from bench.delivery import Opened, beside_sandboxes, opened
from bench.figures import Figure, report
from bench.ingest import taken_in
from bench.on_time import KEY, fill
from bench.pages import write_lines, write_receipts
from connector_sdk.sale import Sale
from connectors.settings import Settings
from tests.processes import origin_in, started, wait_ready

SMALL, LARGE, ROUNDS, ACCOUNTS, EACH = 10_000, 1_000_000, 5, 30, 20
FEW, MANY, STARTS = 10, 10_000, 5
_PART = 10_000


async def write(bench: Opened, receipts: int) -> None:
    """Write receipts that are stamped already, each with a line of the journal."""
    connection = bench.connections[0]
    for low in range(0, receipts, _PART):
        numbers = range(low, min(low + _PART, receipts))
        await bench.host.store.write(
            partial(write_receipts, connection=connection, numbers=numbers, receipts=receipts, prefix="old-")
        )
        await bench.host.store.write(
            partial(write_lines, connection=connection, numbers=numbers, lines=receipts, receipts=receipts)
        )


async def receipts_of(bench: Opened) -> list[Sale]:
    """Fetch receipts of customers whose cards are known."""
    (numbers, *_), till = bench.warm.values(), bench.host.tills.of(bench.connections[0])
    return [sale for number in numbers if (sale := await till.fetch(str(number))) is not None]


async def compare(large: int, origin: str, folder: Path) -> None:
    """Fill both ledgers, and measure them in turns."""
    async with AsyncExitStack() as stack:
        sizes: dict[int, Opened] = {}
        for size in (SMALL, large):
            (folder / str(size)).mkdir()
            sizes[size] = await stack.enter_async_context(opened(origin, folder / str(size), ACCOUNTS))
            began = time.perf_counter()
            await write(sizes[size], size)
            print(f"{size:,} receipts written in {time.perf_counter() - began:.0f} s", flush=True)
        ingested: dict[int, list[float]] = {size: [] for size in sizes}
        stamped: dict[int, list[float]] = {size: [] for size in sizes}
        for run in range(ROUNDS):
            for size, bench in sizes.items():
                ingested[size].append(await taken_in(bench.host, bench.connections[0], await receipts_of(bench), run))
                stamped[size].append(await bench.stamped(EACH))
    for name, rates in (("ingest", ingested), ("stored hook to applied stamp", stamped)):
        report(
            Figure(
                f"{name}, {large:,} receipts in the ledger",
                "sales/s",
                statistics.median(rates[large]),
                statistics.median(rates[SMALL]),
                f"{SMALL:,} receipts",
                0.8,
            )
        )


def seconds_to_ready(origin: str, folder: Path) -> float:
    """Return the seconds from the start of a host's process until it is ready, the median of several."""
    env = {
        "CONNECTORS_DATABASE_URL": f"sqlite:///{folder / 'ledger.db'}",
        "CONNECTORS_SEVENSTAMP_URL": origin,
        "CONNECTORS_SECRET_KEY": KEY,
        "POSTER_API_URL": f"{origin}/api",
    }
    took: list[float] = []
    for run in range(STARTS):
        began = time.perf_counter()
        log = folder / f"{run}.log"
        with started(["serve", "--port", "0"], env, log, fresh=True):
            wait_ready(origin_in(log))
            took.append(time.perf_counter() - began)
    return statistics.median(took)


async def measure(large: int, origin: str, folder: Path) -> None:
    """Compare the ledgers, and then the starts of a host over the large one and over an empty one."""
    await compare(large, origin, folder)
    full, empty = folder / str(large), folder / "empty"
    empty.mkdir()
    for place, number in ((full, MANY), (empty, FEW)):
        settings = Settings(
            database_url=f"sqlite:///{place / 'ledger.db'}", sevenstamp_url=origin, secret_key=SecretStr(KEY)
        )
        await asyncio.to_thread(asyncio.run, fill(settings, number, 0))
    report(
        Figure(
            f"start to ready, {MANY:,} connections and {large:,} receipts",
            "s",
            await asyncio.to_thread(seconds_to_ready, origin, full),
            await asyncio.to_thread(seconds_to_ready, origin, empty),
            f"{FEW} connections and no receipt",
            2.0,
            at_most=True,
        )
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.large_ledger", description=__doc__)
    parser.add_argument("--receipts", type=int, default=LARGE)
    uvloop.run(beside_sandboxes(ACCOUNTS, partial(measure, parser.parse_args().receipts)))

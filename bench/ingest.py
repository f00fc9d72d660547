"""Polled sales taken in per second, planned and committed, against the bare rows.

Each page of a hundred receipts is a commit with `synchronous=FULL`. The baseline writes the rows that this has written
into an empty database of the same schema, by `executemany`, in as many commits.
"""

from __future__ import annotations

import sqlite3
import statistics
import time
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import uvloop

from bench.delivery import beside_sandboxes, opened
from bench.figures import Figure, report
from connector_sdk.sale import Sale
from connectors.domain.connection import Connection
from connectors.runtime.host import Host
from connectors.store.engine import Store
from connectors.sync.snapshots import Snapshot, Source

PAGE, PAGES, ROUNDS = 100, 30, 3
_FILLED = ("sale", "sale_version", "operation", "journal")


async def taken_in(host: Host, connection: Connection, receipts: Sequence[Sale], run: int) -> float:
    """Return the sales per second of pages that a poll brings, all of them new."""
    pages = [
        [
            Snapshot(
                connection,
                receipts[place % len(receipts)].model_copy(update={"receipt_id": f"r{run}-{page}-{place}"}),
                Source.poll,
                run * PAGES + page + 10,
            )
            for place in range(PAGE)
        ]
        for page in range(PAGES)
    ]
    began = time.perf_counter()
    for page in pages:
        await host.ingestor.ingest(page)
    return PAGE * PAGES / (time.perf_counter() - began)


def bare_rows(host: Host, folder: Path, run: int) -> float:
    """Return the sales per second of the same rows, written by the driver alone."""
    url = f"sqlite:///{folder / f'bare-{run}.db'}"
    Store(url, host.store.vault).prepare()
    with closing(sqlite3.connect(folder / "ledger.db")) as source:
        rows = {
            table: source.execute(f"SELECT * FROM {table} ORDER BY rowid DESC LIMIT {PAGE * PAGES}").fetchall()
            for table in _FILLED
        }
    with closing(sqlite3.connect(folder / f"bare-{run}.db", isolation_level=None)) as bare:
        bare.execute("PRAGMA journal_mode=WAL")
        bare.execute("PRAGMA synchronous=FULL")
        began = time.perf_counter()
        for start in range(0, PAGE * PAGES, PAGE):
            bare.execute("BEGIN IMMEDIATE")
            for table, of_table in rows.items():
                page = of_table[start : start + PAGE]
                bare.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(page[0]))})", page)
            bare.execute("COMMIT")
        return PAGE * PAGES / (time.perf_counter() - began)


async def measure(origin: str, folder: Path) -> None:
    """Measure both in rounds and report the medians."""
    async with opened(origin, folder, accounts=1) as bench:
        connection = bench.connections[0]
        (numbers,) = bench.warm.values()
        till = bench.host.tills.of(connection)
        receipts = [sale for number in numbers if (sale := await till.fetch(str(number))) is not None]
        ours = [await taken_in(bench.host, connection, receipts, run) for run in range(ROUNDS)]
        bare = [bare_rows(bench.host, folder, run) for run in range(ROUNDS)]
    report(
        Figure(
            "polled sales taken in, planned and committed",
            "sales/s",
            statistics.median(ours),
            statistics.median(bare),
            "the same rows by executemany",
            0.25,
        )
    )


if __name__ == "__main__":
    uvloop.run(beside_sandboxes(1, measure))

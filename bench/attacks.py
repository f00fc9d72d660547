"""Measures what others notice while one client does its worst: each attack for twenty seconds, `--quick` for two.

Two cafes sell about once a second each, one by Poster and one by the attacker's own connector; `/healthz` is asked ten
times a second. The attacker is a process of a lower priority: elsewhere it would have a processor of its own.
Memory and processor time are read from `/proc`.
"""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.attacks.attacks import ATTACKS
from tests.attacks.deployment import can_attack, deployed
from tests.attacks.monitor import Measurements, Monitor

SECONDS, QUICK_SECONDS = 20.0, 2.0
PATIENCE = 60.0
REST_SECONDS = 3.0
"""Between attacks, in which what the last one left behind is done."""
COLUMNS = (
    "attack",
    "answers",
    "/healthz p50, ms",
    "p99, ms",
    "longest, ms",
    "not 200",
    "sales",
    "to a stamp p50, s",
    "longest, s",
    "sent again",
    "lost",
    "host, MiB",
    "workers, MiB",
    "cores",
)


def row(title: str, measurements: Measurements, answers: dict[str, int]) -> list[str]:
    """Return the measurements of one attack as a row of the table."""
    counted = ", ".join(f"{count:,} × {answer}" for answer, count in sorted(answers.items()))
    return [
        title,
        counted,
        *(f"{1000 * share(measurements.health, part):.0f}" for part in (0.5, 0.99, 1)),
        str(len(measurements.unhealthy)),
        str(len(measurements.stamps) + len(measurements.lost)),
        *(f"{share(measurements.stamps, part):.2f}" for part in (0.5, 1)),
        str(measurements.sent_again),
        str(len(measurements.lost)),
        f"{measurements.host_memory / 2**20:.0f}",
        f"{measurements.workers_memory / 2**20:.0f}",
        f"{measurements.processor_seconds / measurements.seconds:.2f}",
    ]


def share(values: list[float], part: float) -> float:
    """Return the value that so large a part of all does not exceed; 0 where there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * part))] if ordered else 0.0


def as_markdown(rows: list[list[str]]) -> str:
    """Return the table with what it was measured on, as Markdown."""
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    lines = [COLUMNS, ["---", "---", *["--:"] * (len(COLUMNS) - 2)], *rows]
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    return f"Measured on {datetime.now(UTC):%Y-%m-%d} ({machine}).\n\n{table}\n"


async def measure(folder: Path, seconds: float, names: list[str], console: Console) -> list[list[str]]:
    """Serve a host, measure it at rest, under each attack, and at rest again. Raises `RuntimeError` where it ended."""
    rows = []
    with deployed(folder) as deployment:
        async with Monitor.of(deployment, patience=PATIENCE) as monitor:
            await monitor.sell(Measurements())  # cards are issued, workers run
            rows.append(row("none", await monitor.measure_for(seconds), {}))
            for name in names:
                measurements, answers = await monitor.attack(name, seconds)
                rows.append(row(ATTACKS[name].title, measurements, answers))
                console.print(f"{rows[-1][0]}: {rows[-1][1]}", style="dim", highlight=False)
                await asyncio.sleep(min(REST_SECONDS, seconds))
            rows.append(row("none, afterwards", await monitor.measure_for(seconds), {}))
        if deployment.process.poll() is not None:
            raise RuntimeError(f"the host has ended:\n{deployment.log.read_text()}")
    return rows


def show(rows: list[list[str]], console: Console) -> None:
    """Print the table without the attacker's answers, which were printed before."""
    short = (
        "p50 ms",
        "p99",
        "longest",
        "not 200",
        "sales",
        "p50 s",
        "longest",
        "again",
        "lost",
        "MiB",
        "workers",
        "cores",
    )
    table = Table("attack", caption="/healthz in ms, then sales and their way to a stamp in s, then the host")
    for name in short:
        table.add_column(name, justify="right")
    for title, _, *cells in rows:
        table.add_row(title, *cells)
    console.print(table)


def main() -> None:
    """Arguments: `--quick`, `--markdown FILE`, names of attacks (all where there are none)."""
    arguments, console = sys.argv[1:], Console(width=None if sys.stdout.isatty() else 160)
    if not can_attack():
        console.print("attacks: clients cannot come from other addresses of the loopback network here")
        return
    seconds = QUICK_SECONDS if "--quick" in arguments else SECONDS
    file = Path(arguments[arguments.index("--markdown") + 1]) if "--markdown" in arguments else None
    names = [name for name in arguments if name in ATTACKS] or list(ATTACKS)
    with tempfile.TemporaryDirectory() as folder:
        rows = asyncio.run(measure(Path(folder), seconds, names, console))
    show(rows, console)
    if file is not None:
        file.write_text(as_markdown(rows))


if __name__ == "__main__":
    main()

"""Progress bars of commands: on a terminal only, so that a script's output stays what it asked for."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from connectors.cli.output import console

Report = Mapping[str, Any]
"""What a work says of its progress: `done` is a share from 0 to 1, other keys are counts. `Any` is the services'."""
Tell = Callable[[Report], Awaitable[None]]


async def ignore(_report: Report) -> None:
    """Show nothing: for work of a moment."""


def _receipts(report: Report) -> str:
    return f"{report.get('sales_seen', report.get('sales', 0))} receipts"


@contextmanager
def counted_bar(title: str, total: float) -> Iterator[tuple[Progress, TaskID]]:
    """Show a bar up to `total`, with a text beside it that whoever moves the bar sets as `note`."""
    with Progress(
        TextColumn(title), BarColumn(), TextColumn("{task.fields[note]}"), TimeElapsedColumn(),
        console=console, disable=not sys.stdout.isatty(), transient=True,
    ) as bar:  # fmt: skip
        yield bar, bar.add_task(title, total=total, note="")


@contextmanager
def report_bar(title: str, note: Callable[[Report], str] = _receipts) -> Iterator[Tell]:
    """Show a bar for a work that reports its share; gives what the work calls, `note` words what stands beside it."""
    with counted_bar(title, 1.0) as (bar, task):

        async def tell(report: Report) -> None:
            bar.update(task, completed=float(report.get("done", 0.0)), note=note(report))

        yield tell

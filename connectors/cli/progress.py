"""Progress bars of commands: on a terminal only, so that a script's output stays what it asked for."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich import progress as rich_progress

from connectors.cli.output import console
from connectors.services.results import Progress, ProgressReport


def _receipts(report: ProgressReport) -> str:
    # a replan reads nothing of the till: its sales are those that it planned
    seen = report.sales_seen if report.sales_seen is not None else report.sales
    return f"{seen or 0} receipts"


@contextmanager
def counted_bar(title: str, total: float) -> Iterator[tuple[rich_progress.Progress, rich_progress.TaskID]]:
    """Show a bar up to `total`, with a text beside it that whoever moves the bar sets as `note`."""
    columns = (
        rich_progress.TextColumn(title),
        rich_progress.BarColumn(),
        rich_progress.TextColumn("{task.fields[note]}"),
        rich_progress.TimeElapsedColumn(),
    )
    # gone when the work is done: what stays on the terminal is the result
    with rich_progress.Progress(*columns, console=console, disable=not sys.stdout.isatty(), transient=True) as bar:
        yield bar, bar.add_task(title, total=total, note="")


@contextmanager
def report_bar(title: str, note: Callable[[ProgressReport], str] = _receipts) -> Iterator[Progress]:
    """Show a bar for a work that reports its share; gives what the work calls, `note` words what stands beside it."""
    with counted_bar(title, 1.0) as (bar, task):

        async def tell(report: ProgressReport) -> None:
            bar.update(task, completed=report.done, note=note(report))

        yield tell

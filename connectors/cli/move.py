"""`connectors move`: move an installation from its file to a database server.

Owns the order: nothing runs on the file meanwhile, everything is copied, both sides are compared, and only then does
the file say that it is not in use any more.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, run, say, show_json, show_table, the_host
from connectors.cli.progress import counted_bar
from connectors.cli.secrets import SPELLING, secret_given
from connectors.runtime.host import Host
from connectors.runtime.recovery import recover_unfinished
from connectors.services import Refusal
from connectors.settings import Settings
from connectors.store.errors import Moved, StoreError
from connectors.store.moving import Compared, Move, shown_address, take_back

_SHOWN = ("sale", "operation", "connection", "business", "journal")


def move(
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help=f"The server's database, as postgresql://user:password@host/name. {SPELLING}"),
    ] = None,
    back: Annotated[
        bool, typer.Option("--back", help="Use the file again that was moved, without what happened since.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Move this installation from its file to a database server.

    The host must be stopped. A move that was interrupted goes on where it was, with the same command.
    """
    if back:
        confirm("What happened on the server since is not in the file, so stamps could be given twice. Go on?", yes)
        return run(_take_back)
    if to is None:
        raise typer.BadParameter("name the server's database", param_hint="--to")
    address = secret_given(to, "--to")
    compared = run(partial(_move, address))
    if as_json:
        return show_json({"moved": True, "tables": [_as_json(table) for table in compared]})
    if compared:
        rows = [
            [table.table, f"{table.here.rows:,}", f"{table.there.rows:,}"]
            for table in compared
            if table.table in _SHOWN
        ]
        show_table(["table", "rows here", "rows there"], rows, "")
        others = sum(table.here.rows for table in compared if table.table not in _SHOWN)
        say(f"✓ All {len(compared)} tables agree in number and content, with {others:,} rows of other tables.")
    say(f"✓ Moved to {shown_address(address)}.")
    say("  Set CONNECTORS_DATABASE_URL to its address, and CONNECTORS_SECRET_KEY to the key that is in use now: the")
    say("  first line of the key file beside the database, where no variable holds it.")
    return None


async def _take_back() -> None:
    file = Settings().database_file
    if file is None or not file.exists():
        raise Refusal("CONNECTORS_DATABASE_URL names no file that could be used again")
    if take_back(Settings().database_url):
        say(f"✓ {file.name} is used again.")
    else:
        say(f"{file.name} was not moved: there is nothing to undo.")


def _as_json(table: Compared) -> dict[str, object]:
    return {"table": table.table, "here": table.here.rows, "there": table.there.rows}


async def _move(address: str) -> Sequence[Compared]:
    """Move, or go on with a move; empty where only its last step was left."""
    to = Settings(database_url=address).database_url
    try:
        async with the_host() as host:
            if host.settings.database_file is None:
                raise Refusal("this installation is on a database server already")
            if not host.lock.acquire("move"):
                raise Refusal("a host runs on this database: stop it, move, and start it with the new address")
            # nobody sends now: what was on the wire when the last host ended is looked up by the next one
            await recover_unfinished(host.store)
            return await _copy_and_switch(host, to)
    except Moved:
        settings = Settings()
        if not await asyncio.to_thread(_finish, Move(settings.database_url, to, settings.vault())):
            raise
        return []


def _finish(move: Move) -> bool:
    try:
        return move.finish()
    finally:
        move.close()


async def _copy_and_switch(host: Host, to: str) -> Sequence[Compared]:
    """Run the move in a thread, which ends before the lock is let go: also where somebody interrupts it."""
    interrupted = threading.Event()
    work = asyncio.ensure_future(asyncio.to_thread(_run, host, to, interrupted))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        interrupted.set()
        await asyncio.gather(work, return_exceptions=True)
        raise


def _run(host: Host, to: str, interrupted: threading.Event) -> Sequence[Compared]:
    move = Move(host.settings.database_url, to, host.store.vault)
    try:
        move.prepare()
        with _bar("copying", interrupted) as progress:
            move.copy(progress)
        with _bar("comparing", interrupted) as progress:
            compared = move.switch(progress, shown_address(to))
        if wrong := [table.table for table in compared if not table.agrees]:
            raise StoreError(
                f"both sides differ in {', '.join(wrong)}: nothing was switched, and the file stays in use. Empty the "
                "server's database and move again"
            )
        return compared
    finally:
        move.close()


@contextmanager
def _bar(title: str, interrupted: threading.Event) -> Iterator[Callable[[int, int], None]]:
    """Show how far it has come; what calls it ends where somebody interrupts the command."""
    with counted_bar(title, 1) as (bar, task):

        def tell(done: int, total: int) -> None:
            if interrupted.is_set():
                raise StoreError("interrupted: run the command again, and it goes on")
            bar.update(task, completed=done, total=total, note=f"{done:,} rows")

        yield tell

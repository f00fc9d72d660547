"""`connectors move`: take an installation along from its file to a database server.

Owns the order: nothing runs on the file meanwhile, everything is copied, both sides are compared, and only then does
the file say that it is not in use any more.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, fail, run, say, show_json, show_table, the_host
from connectors.cli.progress import counted_bar
from connectors.runtime.host import Host
from connectors.runtime.recovery import recover_unfinished
from connectors.services import Refusal
from connectors.settings import Settings
from connectors.store.errors import StoreError
from connectors.store.moving import Compared, Move, shown_address, take_back

_SHOWN = ("sale", "operation", "connection", "business", "journal")


def move(
    to: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The server's database, such as postgresql://user:password@host/name."),
    ] = None,
    back: Annotated[
        bool, typer.Option("--back", help="Use the file again that was moved, without what happened since.")
    ] = False,
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Take this installation along from its file to a database server.

    The host must be stopped. A move that was interrupted goes on where it was, with the same command.
    """
    if back:
        confirm("What happened on the server since is not in the file, so stamps could be given twice. Go on?", yes)
        return _take_back()
    if to is None:
        raise typer.BadParameter("name the server's database", param_hint="--to")
    compared = run(partial(_move, Settings(database_url=to).database_url))
    if as_json:
        return show_json({"moved": True, "tables": [_as_json(table) for table in compared]})
    rows = [
        [table.table, f"{table.here.rows:,}", f"{table.there.rows:,}"] for table in compared if table.table in _SHOWN
    ]
    show_table(["table", "rows here", "rows there"], rows, "")
    others = sum(table.here.rows for table in compared if table.table not in _SHOWN)
    say(f"✓ Moved: {len(compared)} tables agree in number and content, {others:,} further rows among them.")
    say(f"  Set CONNECTORS_DATABASE_URL to {shown_address(to)} with its password, and CONNECTORS_SECRET_KEY to the key")
    say("  that is in use now (the first line of the key file beside the database, where no variable holds it).")
    return None


def _take_back() -> None:
    file = Settings().database_file
    if file is None or not file.exists():
        fail("CONNECTORS_DATABASE_URL names no file that could be used again")
    if take_back(Settings().database_url):
        return say(f"✓ {file.name} is used again.")
    return say(f"{file.name} was not moved: there is nothing to undo.")


def _as_json(table: Compared) -> dict[str, object]:
    return {"table": table.table, "here": table.here.rows, "there": table.there.rows}


async def _move(to: str) -> Sequence[Compared]:
    async with the_host() as host:
        if host.settings.database_file is None:
            raise Refusal("this installation is on a database server already")
        if not host.lock.acquire("move"):
            raise Refusal("a host runs on this database: stop it, move, and start it with the new address")
        # nobody sends now: what was on the wire when the last host ended is looked up by the next one
        await recover_unfinished(host.store)
        return await asyncio.to_thread(_copy_and_compare, host, to)


def _copy_and_compare(host: Host, to: str) -> Sequence[Compared]:
    move = Move(host.settings.database_url, to, host.store.vault)
    try:
        move.prepare()
        with counted_bar("copying", 1) as (bar, task):
            move.copy(lambda done, total: bar.update(task, completed=done, total=total, note=f"{done:,} rows"))
        with counted_bar("comparing", 1) as (bar, task):
            compared = move.compare(
                lambda done, total: bar.update(task, completed=done, total=total, note=f"{done:,} rows")
            )
        if wrong := [table.table for table in compared if not table.agrees]:
            raise StoreError(
                f"both sides differ in {', '.join(wrong)}: nothing was switched, and the file stays in use. Empty the "
                "server's database and move again"
            )
        move.finish(shown_address(to))
        return compared
    finally:
        move.close()

"""`connectors operations …`: the operations of a connection, and what a person can do about those that are held."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, run_with_host, say, show_json, show_table
from connectors.runtime.host import Host
from connectors.services import Refusal, nearest
from connectors.services.shapes import OperationShape
from connectors.store import queries
from connectors.store.ledger.operations import Operation

if TYPE_CHECKING:
    from typer._click import Context

_STATES = ("pending", "applied", "held", "rejected", "cancelled")
_COLUMNS = {"id": "id", "receipt_id": "receipt", "kind": "kind", "count": "count", "state": "state"}
"""The fields of an operation that people see, with the titles of their columns; why it waits stands behind them."""


class _Group(typer.core.TyperGroup):
    """`operations ID` lists; `operations retry ID OP` and `operations dismiss ID OP` act; so do they after the id."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Put the name of the command before the connection's id, where it stands behind it or is left out."""
        return super().parse_args(ctx, self._with_command_first(args))

    def _with_command_first(self, args: list[str]) -> list[str]:
        if not args or args[0] in self.commands:
            return args
        if len(args) > 1 and args[1] in self.commands:
            return [args[1], args[0], *args[2:]]
        # what begins with a dash is an option of the group, such as --help
        return args if args[0].startswith("-") else ["list", *args]


app = typer.Typer(cls=_Group, no_args_is_help=True, help="What is on its way to 7stamp: `connectors operations ID`.")


@app.command("list")
def list_(
    connection_id: str,
    state: Annotated[
        str | None, typer.Option(metavar="pending|applied|held|rejected|cancelled", help="Only these.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="The newest so many.")] = 1000,
    as_json: AsJson = False,
) -> None:
    """A connection's operations, newest last."""
    run_with_host(partial(_list, connection_id=connection_id, state=state, limit=limit, as_json=as_json))


async def _list(host: Host, connection_id: str, state: str | None, limit: int, as_json: bool) -> None:
    # an id that is not known would else look like a connection of which nothing is on its way
    await host.services.connections.require_known(connection_id)
    _require_known_state(state)
    read = partial(queries.operations.list_newest, connection_id=connection_id, state=state, limit=limit)
    operations = await host.store.read(read)
    if as_json:
        show_json([OperationShape.of(operation).model_dump() for operation in operations])
        return
    cells = [_cells(host, operation) for operation in operations]
    show_table([*_COLUMNS.values(), "why"], cells, "No operations.")


def _require_known_state(state: str | None) -> None:
    """Raise `Refusal` for a state that is none: an empty list would read as good news."""
    if state is not None and state not in _STATES:
        raise Refusal(f"there is no state {state!r}; known: {', '.join(nearest(state, _STATES))}")


def _cells(host: Host, operation: Operation) -> list[str]:
    row = OperationShape.of(operation).model_dump()
    return [*(str(row[name] or "") for name in _COLUMNS), _words(host, operation)]


def _words(host: Host, operation: Operation) -> str:
    return host.words.word(operation.reason) if operation.reason else ""


@app.command()
def retry(connection_id: str, operation_id: str) -> None:
    """Let a held or rejected operation go out again; a cap is waived for it."""
    run_with_host(partial(_retry, connection_id=connection_id, operation_id=operation_id))


async def _retry(host: Host, connection_id: str, operation_id: str) -> None:
    # only marked here: whoever delivers for this database takes it up, so two processes never send it twice
    await host.services.review.retry(connection_id, operation_id)
    say(f"✓ It goes out next: by itself where a host runs, else with `connectors sync {connection_id}`.")


@app.command()
def dismiss(connection_id: str, operation_id: str, yes: Yes = False) -> None:
    """Give up a held operation: it is never sent, unless it is retried."""
    # asked, because a customer goes without stamps by it, and nobody is reminded
    confirm(f"Dismiss {operation_id}? It will not be sent.", yes)
    run_with_host(partial(_dismiss, connection_id=connection_id, operation_id=operation_id))


async def _dismiss(host: Host, connection_id: str, operation_id: str) -> None:
    await host.services.review.dismiss(connection_id, operation_id)
    say("✓ Dismissed.")

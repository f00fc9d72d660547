"""`connectors operations …`: the operations of a connection, and what a person can do about those that are held."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, run, say, show_json, show_table, the_host
from connectors.domain.operation import outward
from connectors.runtime.host import Host
from connectors.services import Refusal, nearest
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
        if len(args) > 1 and args[1] in self.commands and args[0] not in self.commands:
            args = [args[1], args[0], *args[2:]]
        elif args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["list", *args]
        return super().parse_args(ctx, args)


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

    async def work() -> None:
        async with the_host() as host:
            await host.services.connections.require_known(connection_id)
            if state is not None and state not in _STATES:
                raise Refusal(f"there is no state {state!r}; known: {', '.join(nearest(state, _STATES))}")
            read = partial(queries.operations.list_newest, connection_id=connection_id, state=state, limit=limit)
            operations = await host.store.read(read)
            rows = [_as_json(operation) for operation in operations]
            if as_json:
                show_json(rows)
                return
            cells = [
                [*(str(row[name] or "") for name in _COLUMNS), _words(host, operation)]
                for row, operation in zip(rows, operations, strict=True)
            ]
            show_table([*_COLUMNS.values(), "why"], cells, "No operations.")

    run(work)


def _as_json(operation: Operation) -> dict[str, str | int | None]:
    return {
        "id": operation.id,
        "receipt_id": operation.receipt_id,
        "kind": operation.kind.value,
        "count": operation.count,
        "state": outward(operation.state),
        "reason": operation.reason.id.removeprefix("why.") if operation.reason else None,
        "code": operation.code,
    }


def _words(host: Host, operation: Operation) -> str:
    return host.words.word(operation.reason) if operation.reason else ""


@app.command()
def retry(connection_id: str, operation_id: str) -> None:
    """Let a held or rejected operation go out again; a cap is waived for it."""

    async def work() -> None:
        async with the_host() as host:
            await host.services.review.retry(connection_id, operation_id)
            say(f"✓ It goes out next: by itself where a host runs, else with `connectors sync {connection_id}`.")

    run(work)


@app.command()
def dismiss(connection_id: str, operation_id: str, yes: Yes = False) -> None:
    """Give up a held operation: it is never sent, unless it is retried."""
    confirm(f"Dismiss {operation_id}? It will not be sent.", yes)

    async def work() -> None:
        async with the_host() as host:
            await host.services.review.dismiss(connection_id, operation_id)
            say("✓ Dismissed.")

    run(work)

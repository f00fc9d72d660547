"""`connectors operations …`: the outbox, and what a person can do about what is held."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from connectors.cli.output import confirm, run, say, show_json, show_table, the_host
from connectors.domain.operation import outward
from connectors.services import Refusal, nearest
from connectors.store import ledger


class _Group(typer.core.TyperGroup):
    """`operations ID` lists; `operations retry ID OP` and `operations dismiss ID OP` act; so do they after the id."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if len(args) > 1 and args[1] in self.commands and args[0] not in self.commands:
            args = [args[1], args[0], *args[2:]]
        elif args and not args[0].startswith("-") and args[0] not in self.commands:
            args = ["list", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(cls=_Group, no_args_is_help=True, help="What is on its way to 7stamp: `connectors operations ID`.")

_STATES = ("pending", "applied", "held", "rejected", "cancelled")
AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]


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
            found = await host.store.read(
                lambda tx: ledger.operations.list_newest(tx, connection_id, state=state, limit=limit)
            )
            rows = [
                {
                    "id": one.id,
                    "receipt_id": one.receipt_id,
                    "kind": one.kind.value,
                    "count": one.count,
                    "state": outward(one.state),
                    "reason": one.reason.id.removeprefix("why.") if one.reason else None,
                    "code": one.code,
                    "words": host.words.word(one.reason) if one.reason else "",
                }
                for one in found
            ]
            if as_json:
                show_json([{k: v for k, v in row.items() if k != "words"} for row in rows])
                return
            cells = [
                [str(row[name] or "") for name in ("id", "receipt_id", "kind", "count", "state", "words")]
                for row in rows
            ]
            show_table(["id", "receipt", "kind", "count", "state", "why"], cells, "No operations.")

    run(work)


@app.command()
def retry(connection_id: str, operation_id: str) -> None:
    """Let a held or rejected operation go out again; a cap is waived for it."""

    async def work() -> None:
        async with the_host() as host:
            await host.services.review.retry(connection_id, operation_id)
            say(f"✓ It goes out next: by itself where a host runs, else with `connectors sync {connection_id}`.")

    run(work)


@app.command()
def dismiss(
    connection_id: str, operation_id: str, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False
) -> None:
    """Give up a held operation: it is never sent, unless it is retried."""
    confirm(f"Dismiss {operation_id}? It will not be sent.", yes)

    async def work() -> None:
        async with the_host() as host:
            await host.services.review.dismiss(connection_id, operation_id)
            say("✓ Dismissed.")

    run(work)

"""`connectors voucher …`: vouchers apart from receipts."""

from __future__ import annotations

from functools import partial
from typing import Annotated

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, run_with_host, say, show_json
from connectors.runtime.host import Host
from connectors.services.shapes import VoucherDoneShape, VoucherShape
from connectors.store.ledger.voucher_requests import VoucherRequest
from connectors.sync.vouchers import WantedVoucher

app = typer.Typer(no_args_is_help=True, help="Vouchers apart from receipts: issue, show and redeem.")

Connection = Annotated[str, typer.Argument(help="A connection of the business.")]
Code = Annotated[str, typer.Argument(metavar="CODE", help="The voucher's redeem code, in capitals or not.")]


@app.command()
def issue(
    connection_id: Connection,
    title: Annotated[str | None, typer.Option(help="What it is for, such as 'A free coffee'.")] = None,
    template: Annotated[str | None, typer.Option(help="A template of 7stamp instead of a title.")] = None,
    description: Annotated[str | None, typer.Option(help="More about it.")] = None,
    card: Annotated[str | None, typer.Option(help="For this card; without it, for whoever has the code.")] = None,
    code: Annotated[str | None, typer.Option(help="A redeem code of your own; without it, one is made.")] = None,
    validity: Annotated[str | None, typer.Option(help="How long it is good, in 7stamp's words.")] = None,
    as_json: AsJson = False,
) -> None:
    """Issue a voucher; it is never issued twice, whatever gets lost on the way."""
    wanted = WantedVoucher(title, template, description, card, code, validity)
    run_with_host(partial(_issue, connection_id=connection_id, wanted=wanted, as_json=as_json))


async def _issue(host: Host, connection_id: str, wanted: WantedVoucher, as_json: bool) -> None:
    business = (await host.services.connections.get(connection_id)).business_id
    _show_done(await host.services.cards.issue_voucher(business, wanted), "issued", as_json=as_json)


@app.command()
def redeem(connection_id: Connection, code: Code, yes: Yes = False, as_json: AsJson = False) -> None:
    """Redeem a voucher: it is used up."""
    confirm(f"Redeem {code}? It is used up then.", yes)
    run_with_host(partial(_redeem, connection_id=connection_id, code=code, as_json=as_json))


async def _redeem(host: Host, connection_id: str, code: str, as_json: bool) -> None:
    business = (await host.services.connections.get(connection_id)).business_id
    _show_done(await host.services.cards.redeem_voucher(business, code), "redeemed", as_json=as_json)


def _show_done(request: VoucherRequest, done: str, *, as_json: bool) -> None:
    shape = VoucherDoneShape.of(request)
    if as_json:
        show_json(shape.model_dump())
    elif shape.outcome == "done":
        say(f"✓ {request.redeem_code} is {done}")
    else:
        say(f"? 7stamp has not answered: whether {request.redeem_code} is {done} is looked up by the host that runs")


@app.command()
def show(connection_id: Connection, code: Code, as_json: AsJson = False) -> None:
    """A voucher as 7stamp knows it now."""
    run_with_host(partial(_show, connection_id=connection_id, code=code, as_json=as_json))


async def _show(host: Host, connection_id: str, code: str, as_json: bool) -> None:
    business = (await host.services.connections.get(connection_id)).business_id
    facts = VoucherShape.of(await host.services.cards.show_voucher(business, code)).model_dump()
    if as_json:
        show_json(facts)
        return
    for name, value in facts.items():
        say(f"{name.replace('_', ' '):<20} {'-' if value is None else value}")

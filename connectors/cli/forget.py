"""`connectors forget`: erase a customer in every business, or in one."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from connectors.cli.output import confirm, console, run, say, show_json, show_table, the_host
from connectors.domain.person import Reference
from connectors.runtime.host import Host
from connectors.services import PersonCount, Refusal
from connectors.services.people import reference_from
from connectors.sync.person_search import Counts, ReportProgress

_COLUMNS = {
    "receipts": "receipts",
    "snapshots": "stored versions",
    "known": "look-up rows",
    "requests": "requests",
    "drafts": "drafts",
    "journal_lines": "journal lines",
    "operations_ended": "not sent",
    "being_sent": "being sent",
}


def forget(
    phone: Annotated[str | None, typer.Option(help="With its country code.")] = None,
    email: Annotated[str | None, typer.Option()] = None,
    number: Annotated[str | None, typer.Option(metavar="DIGITS", help="The six digits on the 7stamp card.")] = None,
    business: Annotated[str | None, typer.Option(metavar="ID", help="Only in this business.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only count.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Erase a customer: names, kept requests and drafts. Stamps that were given stay given."""

    async def work(*, erase: bool) -> list[PersonCount]:
        given = _named(phone=phone, email=email, number=number)
        async with the_host() as host:
            return await _in_all(host, given, business, erase=erase)

    def counted() -> list[PersonCount]:
        return run(lambda: work(erase=False))

    if dry_run:
        _show(counted(), as_json=as_json, dry_run=True)
        return
    if sys.stdin.isatty() and not yes:
        _show(counted(), as_json=False, dry_run=True)
    confirm("What is erased cannot be brought back. Go on?", yes)
    _show(run(lambda: work(erase=True)), as_json=as_json, dry_run=False)


async def _in_all(host: Host, given: Reference, business_id: str | None, *, erase: bool) -> list[PersonCount]:
    found: list[PersonCount] = []
    businesses = await host.services.people.businesses(business_id)
    with _bar("forget" if erase else "count", len(businesses)) as bar:
        for at, business in enumerate(businesses):
            act = host.services.people.forget_person if erase else host.services.people.count_person
            found.append(await act(given, business, bar(at)))
    return [one for one in found if one.counts]


@contextmanager
def _bar(title: str, businesses: int) -> Any:
    """A progress bar on a terminal, nothing elsewhere; gives what tells it how far a business (by its place) is."""
    with Progress(
        TextColumn(title), BarColumn(), TextColumn("{task.fields[at]}"), TimeElapsedColumn(),
        console=console, disable=not sys.stdout.isatty(), transient=True,
    ) as bar:  # fmt: skip
        task = bar.add_task(title, total=float(businesses), at="")

        def of(place: int) -> ReportProgress:
            async def told(share: float) -> None:
                bar.update(task, completed=place + share, at=f"business {place + 1} of {businesses}")

            return told

        yield of


def _show(found: list[PersonCount], *, as_json: bool, dry_run: bool) -> None:
    total = sum((one.counts for one in found), Counts())
    if as_json:
        rows = [{"business": one.business.id, "name": one.business.name, **asdict(one.counts)} for one in found]
        show_json({"dry_run": dry_run, "businesses": rows, "total": asdict(total)})
        return
    if not found:
        say("Nothing of this customer is stored here.")
        return
    cells = [[one.business.name, *(str(getattr(one.counts, name)) for name in _COLUMNS)] for one in found]
    if len(found) > 1:
        cells.append(["all", *(str(getattr(total, name)) for name in _COLUMNS)])
    show_table(["business", *_COLUMNS.values()], cells, "")
    if dry_run:
        say("Nothing was changed.")
        return
    say("✓ Erased. Stamps that were given stay on the card: 7stamp forgets the person when the card is deleted there.")
    if total.being_sent:
        say(f"{total.being_sent} operations were being sent: they are finished, and hold nothing personal.")


def _named(*, phone: str | None = None, email: str | None = None, number: str | None = None) -> Reference:
    """The one name that is given, as it is stored. Raises `Refusal`."""
    given = [(kind, text) for kind, text in (("phone", phone), ("email", email), ("number", number)) if text]
    if len(given) != 1:
        raise Refusal("say who: one of --phone, --email or --number")
    ((kind, text),) = given
    found = reference_from(text, None)
    if found.kind != kind:
        raise Refusal(_SHAPES[kind])
    return found


_SHAPES = {
    "phone": "write the phone with its country code, such as +380 50 111 22 01",
    "email": "this is not an email address: write it as anna@example.com",
    "number": "a card's number has six digits",
}

"""`connectors forget`: erase a customer in every business, or in one.

Owns how the customer is named and what is shown; finding and erasing what is stored is the services'.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Annotated, NamedTuple

import typer

from connectors.cli.options import AsJson, Yes
from connectors.cli.output import confirm, run, say, show_json, show_table, the_host
from connectors.cli.progress import counted_bar
from connectors.domain.person import Reference
from connectors.runtime.host import Host
from connectors.services import PersonCount, Refusal
from connectors.services.people import reference_from
from connectors.sync.person_search import Counts

_SHAPES = {
    "phone": "write the phone with its country code, such as +380 50 111 22 01",
    "email": "this is not an email address: write it as anna@example.com",
    "number": "a card's number has six digits",
}
_COLUMNS = {
    "receipts": "receipts",
    "snapshots": "stored versions",
    "known": "look-up rows",
    "requests": "requests",
    "events": "events",
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
    yes: Yes = False,
    as_json: AsJson = False,
) -> None:
    """Erase a customer: names, kept requests and drafts. Stamps that were given stay given."""
    request = _Request({"phone": phone, "email": email, "number": number}, business)
    if dry_run:
        _show(_counted(request), as_json=as_json, dry_run=True)
        return
    if sys.stdin.isatty() and not yes:
        # whoever is asked sees first what goes: a mistyped digit is somebody else
        _show(_counted(request), as_json=False, dry_run=True)
    # without a terminal `--yes` must be said: unlike a backfill, this is for good
    confirm("What is erased cannot be brought back. Go on?", yes)
    _show(run(partial(_count_or_erase, request, erase=True)), as_json=as_json, dry_run=False)


class _Request(NamedTuple):
    """The customer as named by one of several options, and the business, or `None` for all of them."""

    options: Mapping[str, str | None]
    business_id: str | None


def _counted(request: _Request) -> list[PersonCount]:
    return run(partial(_count_or_erase, request, erase=False))


async def _count_or_erase(request: _Request, *, erase: bool) -> list[PersonCount]:
    # read before the database is opened: a reference that is none costs nothing
    person = _reference(request.options)
    async with the_host() as host:
        return await _in_businesses(host, person, request.business_id, erase=erase)


def _reference(options: Mapping[str, str | None]) -> Reference:
    """Read the one option that names the customer, as it is stored. Raises `Refusal`."""
    named = [(kind, text) for kind, text in options.items() if text]
    if len(named) != 1:
        raise Refusal("say who: one of --phone, --email or --number")
    return _reference_of_kind(*named[0])


def _reference_of_kind(kind: str, text: str) -> Reference:
    # no country to complete a phone from: this may be about businesses in several
    reference = reference_from(text, None)
    # what looks like another kind was mistyped, and would erase whom nobody named
    if reference.kind != kind:
        raise Refusal(_SHAPES[kind])
    return reference


async def _in_businesses(host: Host, person: Reference, business_id: str | None, *, erase: bool) -> list[PersonCount]:
    """Count or erase a customer in one business or in all of them; businesses that hold nothing are left out."""
    businesses = await host.services.people.businesses(business_id)
    # counting and erasing have one signature, so that a dry run counts exactly what would go
    act = host.services.people.forget_person if erase else host.services.people.count_person
    counts: list[PersonCount] = []
    with counted_bar("forget" if erase else "count", float(len(businesses))) as (bar, task):
        for place, business in enumerate(businesses):
            # `place` is bound as a default: the function would else see the place of the business that is next
            async def tell(share: float, place: int = place) -> None:
                bar.update(task, completed=place + share, note=f"business {place + 1} of {len(businesses)}")

            counts.append(await act(person, business, tell))
    return [count for count in counts if count.counts]


def _show(counts: list[PersonCount], *, as_json: bool, dry_run: bool) -> None:
    total = sum((count.counts for count in counts), Counts())
    if as_json:
        _show_as_json(counts, total, dry_run)
    elif not counts:
        say("Nothing of this customer is stored here.")
    else:
        _show_table(counts, total)
        _say_what_was_done(total, dry_run)


def _show_as_json(counts: list[PersonCount], total: Counts, dry_run: bool) -> None:
    rows = [{"business": count.business.id, "name": count.business.name, **asdict(count.counts)} for count in counts]
    # `dry_run` stands in the answer: a kept file must tell a count from an erasure
    show_json({"dry_run": dry_run, "businesses": rows, "total": asdict(total)})


def _show_table(counts: list[PersonCount], total: Counts) -> None:
    cells = [_cells(count.business.name, count.counts) for count in counts]
    if len(counts) > 1:
        cells.append(_cells("all", total))
    show_table(["business", *_COLUMNS.values()], cells, "")


def _cells(name: str, counts: Counts) -> list[str]:
    return [name, *(str(getattr(counts, field)) for field in _COLUMNS)]


def _say_what_was_done(total: Counts, dry_run: bool) -> None:
    if dry_run:
        say("Nothing was changed.")
        return
    say("✓ Erased. Stamps that were given stay on the card: 7stamp forgets the person when the card is deleted there.")
    if total.being_sent:  # cut off on their way, it could not be known whether 7stamp applied them
        say(f"{total.being_sent} operations were being sent: they are finished, and hold nothing personal.")

"""A receipt's page: its whole story, and giving its stamps to somebody by hand.

Owns the page; the claim itself is `connectors.sync.card_assignment`'s.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.responses import Response

from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.clock import MINUTE
from connectors.domain.connection import Connection
from connectors.domain.holds import needs_person
from connectors.domain.operation import Kind, State, outward
from connectors.domain.person import Reference
from connectors.domain.stamps import stamps_for
from connectors.services import Refusal
from connectors.sevenstamp.models import Card
from connectors.store import ledger, queries
from connectors.store.errors import StoreError
from connectors.store.queries.receipts import ReceiptDetails, Version
from connectors.web.console.attempts import TooMany
from connectors.web.console.frame import NotHere, Pages, Visit
from connectors.web.console.keeping import choices

pages = Pages()


@dataclass(frozen=True, slots=True)
class Happening:
    """One line of the story, at a moment; `why` is the arithmetic, `rank` orders what happened at once."""

    at: int
    rank: int
    text: str
    why: str = ""
    tone: str = ""
    by: str | None = None


@pages.get("/connections/{connection}/receipts/{receipt}")
async def receipt(visit: Visit) -> Response:
    one = (await visit.overview()).connection
    return await _page(visit, one)


async def _page(
    visit: Visit, one: Connection, *, card: Card | None = None, claim: str = "", errors: dict[str, str] | None = None
) -> Response:
    wanted = visit.path["receipt"]
    told = await visit.host.store.read(lambda tx: queries.receipts.details(tx, one.id, wanted))
    if told is None:
        raise NotHere
    operations = await visit.host.store.read(lambda tx: queries.operations.of_sale(tx, wanted))
    lines = await visit.host.store.read(lambda tx: ledger.journal.of_sale(tx, wanted))
    progress = await visit.services.review.card_progress(one, told.card_id) if told.card_id and not errors else None
    last = told.versions[-1].content
    earned = stamps_for(last, told.rule, one.account.zone) if told.rule else None
    counted = told.receipt.admitted and told.receipt.status == "closed"
    applied, on_its_way, held = _standing([history.operation for history in operations])
    return visit.page(
        "receipt.html",
        422 if errors else 200,
        one=one,
        told=told,
        sale=last,
        earned=earned,
        place=_place(one, told),
        story=_story(visit, told, operations, lines),
        waiting=[
            (operation, choices(operation))
            for operation in (history.operation for history in operations)
            if operation.state in (State.held, State.rejected)
            and not operation.acknowledged
            and needs_person(operation.hold)
        ],
        progress=progress,
        applied=applied,
        on_its_way=on_its_way,
        held=held,
        may_give=counted and told.receipt.stamps > 0 and (told.receipt.card_hint is None or not told.receipt.customer),
        card=card,
        claim=claim,
        errors=errors or {},
        form=visit.form,
    )


def _standing(operations: list[ledger.operations.Operation]) -> tuple[int, int, int]:
    """The stamps of a receipt that are on a card, on their way to one, and held."""
    signs = {Kind.stamps_added: 1, Kind.stamps_reversed: -1}
    sums = {"applied": 0, "pending": 0, "held": 0}
    for one in operations:
        state = outward(one.state)
        if state in sums:
            sums[state] += signs.get(one.kind, 0) * one.count
    return sums["applied"], sums["pending"], sums["held"]


def _place(one: Connection, told: ReceiptDetails) -> str:
    names = {location.id: location.name for location in one.account.locations}
    return names.get(told.location_id or "", "")


def _story(
    visit: Visit,
    told: ReceiptDetails,
    operations: list[queries.operations.OperationHistory],
    lines: list[ledger.journal.JournalLine],
) -> list[Happening]:
    """Everything that happened to a receipt, in order: what the till said, what was planned, each try and answer."""
    words = visit.words
    story: list[Happening] = []
    before: Sale | None = None
    for version in told.versions:
        story.append(_said_by_till(words, version, before))
        before = version.content
    # tries say what the journal's lines about operations say, and more
    for line in lines:
        if line.message.id.startswith("operation.") and line.message.id != "operation.acknowledged":
            continue
        if line.message.id == "sale.identifying":
            story.append(Happening(line.at, 1, words.text("Looking for the customer's card."), by=line.by))
            continue
        story.append(Happening(line.at, 1, words.say(line.message), by=line.by))
    for history in operations:
        operation, tries = history.operation, history.attempts
        for one in tries:
            # a try and its answer are one line, so that it is plain which answer is to what
            story.append(Happening(one.at, 2, _sent(words, operation), _answered(words, one), one.state.value))
        if not tries and operation.state is State.held and operation.reason:
            text = words.text("It is held.")
            story.append(Happening(operation.updated_at, 2, text, words.sentence(operation.reason), "held"))
    return sorted(story, key=lambda one: (one.at, one.rank))


_SOURCES = {
    "poll": "read from the till",
    "lookback": "read again from the till",
    "hint": "the till told us to look",
    "push": "sent by the till",
    "backfill": "read from the past",
}


def _said_by_till(words: Any, version: Version, before: Sale | None) -> Happening:
    sale = version.content
    paid = words.money(sale.paid.minor, sale.paid.currency)
    match sale.status:
        case "voided":
            text = words.text("The till says it was refunded, removed or cancelled.")
        case "open":
            text = words.text("The till says it is open.")
        case _ if sale.refunded.minor:
            back = words.money(sale.refunded.minor, sale.refunded.currency)
            text = words.text("The till says it was paid, {paid}, and {back} were given back.", paid=paid, back=back)
        case _:
            text = words.text("The till says it was paid: {paid}.", paid=paid)
    who = words.text("A customer is attached.") if sale.customer else words.text("Nobody is attached.")
    if before is not None and bool(before.customer) == bool(sale.customer):
        who = ""
    how = words.text(_SOURCES.get(version.source, version.source))
    return Happening(
        version.seen_at,
        0,
        f"{text} {who}".strip(),
        words.text("Version {number}: {how}.", number=version.number, how=how),
    )


def _sent(words: Any, one: ledger.operations.Operation) -> str:
    match one.kind.value:
        case "stamps_added":
            return str(
                words.count("{count} stamp was sent to 7stamp.", "{count} stamps were sent to 7stamp.", one.count)
            )
        case "stamps_reversed":
            return str(
                words.count(
                    "7stamp was asked to take {count} stamp back.",
                    "7stamp was asked to take {count} stamps back.",
                    one.count,
                )
            )
    return str(words.text("7stamp was asked to use the voucher {code}.", code=one.redeem_code))


def _answered(words: Any, one: queries.operations.Attempt) -> str:
    match one.state:
        case State.applied:
            return str(words.text("7stamp has done it."))
        case State.pending:
            return str(words.text("It did not get through, or must wait: it is sent again."))
        case State.uncertain:
            return str(words.text("7stamp's answer was lost: the card's history will tell."))
    why = words.sentence(one.reason) if one.reason else ""
    return str(words.text("7stamp did not do it: {why}", why=why))


# --- giving by hand -------------------------------------------------------------------------------------------------


@pages.post(
    "/connections/{connection}/receipts/{receipt}/find-card", page="/connections/{connection}/receipts/{receipt}"
)
async def find_card(visit: Visit) -> Response:
    """Whose card that is, to be confirmed by its last digits."""
    one = (await visit.overview()).connection
    try:
        visit.console.gate.search(visit.me)
        card, name = await visit.services.review.find_card(one, visit.form.get("who"))
    except (Refusal, TooMany) as error:
        return await _page(visit, one, errors={"who": visit.why(error)})
    until = visit.words.now + 15 * MINUTE
    sealed = json.dumps(["claim", one.id, visit.path["receipt"], until, card.model_dump(mode="json"), list(name)])
    return await _page(visit, one, card=card, claim=visit.host.store.vault.encrypt(sealed))


@pages.post("/connections/{connection}/receipts/{receipt}/give", page="/connections/{connection}/receipts/{receipt}")
async def give(visit: Visit) -> Response:
    """Give the stamps to the card that was found and confirmed."""
    one = (await visit.overview()).connection
    try:
        what, whose, receipt, until, raw, (kind, value) = json.loads(
            visit.host.store.vault.decrypt(visit.form.get("claim"))
        )
    except (StoreError, ValueError, TypeError):
        raise NotHere from None
    if (what, whose, receipt) != ("claim", one.id, visit.path["receipt"]):
        raise NotHere
    if until < visit.words.now:
        said = visit.words.text("That was a while ago: find the card once more.")
        return await _page(visit, one, errors={"who": said})
    card = Card.model_validate(raw)
    if visit.form.get("digits").strip() != card.hint:
        said = visit.words.text("These are not the card's last four digits.")
        return await _page(visit, one, card=card, claim=visit.form.get("claim"), errors={"digits": said})
    try:
        count = await visit.services.review.give_stamps(one, receipt, card, Reference(kind, value))
    except Refusal as error:
        return await _page(visit, one, errors={"who": visit.words.sentence(error.message)})
    return visit.go(
        f"/connections/{one.id}/receipts/{receipt}", Message("give.done", {"count": count, "card": card.hint})
    )

"""A receipt's page: what it has earned, what needs a person, and everything that happened to it.

Owns what that page shows; its history is `receipt_history`'s, giving its stamps to a card by hand `give_stamps`'s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from starlette.responses import Response

from connectors.domain.connection import Connection
from connectors.domain.holds import needs_person
from connectors.domain.operation import Kind, State, outward
from connectors.domain.person import Reference
from connectors.domain.stamps import Earned, stamps_for
from connectors.sevenstamp.models import Card
from connectors.store import ledger, queries
from connectors.store.ledger.journal import JournalLine
from connectors.store.ledger.operations import Operation
from connectors.store.queries.operations import OperationHistory
from connectors.store.queries.receipts import ReceiptDetails
from connectors.sync.manual_card_assignment import AT_ONCE, LATER, given_until
from connectors.web.console.card_search import customer_path, customer_tokens
from connectors.web.console.operation_review import with_choices
from connectors.web.console.receipt_timeline import build_history
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import PageNotFound, Visit

router = Router()


@dataclass(frozen=True, slots=True)
class StampTotals:
    """The stamps of a receipt that are on a card, on their way to one, held, and taken back."""

    applied: int
    on_its_way: int
    held: int
    taken_back: int

    @classmethod
    def of(cls, operations: Sequence[Operation]) -> StampTotals:
        """Add up a receipt's operations; stamps that were taken back count as less."""
        # vouchers are left out: they are no stamps
        signs = {Kind.stamps_added: 1, Kind.stamps_reversed: -1}
        sums = {"applied": 0, "pending": 0, "held": 0}
        for operation in operations:
            state = outward(operation.state)
            if state in sums:
                sums[state] += signs.get(operation.kind, 0) * operation.count
        reversals = (one for one in operations if one.kind is Kind.stamps_reversed and one.state is State.applied)
        taken_back = sum(one.count for one in reversals)
        return cls(sums["applied"], sums["pending"], sums["held"], taken_back)


@dataclass(frozen=True, slots=True)
class FoundCard:
    """A card that was found to give a receipt's stamps to, with the token by which the next form names it."""

    card: Card
    token: str
    is_new: bool = False
    """Whether it was made just now."""


@router.get("/connections/{connection}/receipts/{receipt}", Role.counter)
async def receipt(visit: Visit) -> Response:
    """Show a receipt."""
    connection = (await visit.load_overview()).connection
    return await receipt_page(visit, connection)


async def receipt_page(
    visit: Visit,
    connection: Connection,
    *,
    found_cards: Sequence[FoundCard] = (),
    errors: Mapping[str, str] | None = None,
    may_get_card: str = "",
) -> Response:
    """Render the page of the address's receipt; with a card that was found, or with what is wrong with the form.

    `may_get_card` is the phone or email that was typed, where nobody's card has it.
    """
    details = await _load_details(visit, connection)
    sale_id = details.receipt.id
    tries = await visit.host.store.read(lambda tx: queries.operations.of_sale(tx, sale_id))
    lines = await visit.host.store.read(lambda tx: ledger.journal.of_sale(tx, sale_id))
    claims = await visit.host.store.read(lambda tx: ledger.claims.of_sale(tx, sale_id)) if details.claimed else []
    operations = [history.operation for history in tries]
    totals = StampTotals.of(operations)
    is_part, is_moving = "part" in visit.request.query_params, totals.on_its_way != 0
    # not asked for once more where a form comes back, or while the page looks whether all has arrived
    asks = not errors and not (is_part and is_moving)
    progress = await _card_progress(visit, connection, details) if asks else None
    return visit.render(
        "receipt.html",
        422 if errors else 200,
        connection=connection,
        details=details,
        sale=details.versions[-1].content,
        earned=_earned(connection, details),
        place=_location_name(connection, details),
        history=build_history(visit.localizer, details, tries, lines, claims),
        taken_back_until=_taken_back_until(details, lines, taken_back_within(visit)),
        vouchers=_used_elsewhere(tries),
        stopped=with_choices([operation for operation in operations if _needs_person(operation)]),
        progress=progress,
        card_path=_card_path(visit, connection, progress) if progress is not None else "",
        totals=totals,
        is_part=is_part,
        is_moving=is_moving,
        may_give=_may_give(details),
        found_cards=found_cards,
        may_get_card=may_get_card,
        errors=errors or {},
        form=visit.form,
    )


def _earned(connection: Connection, details: ReceiptDetails) -> Earned | None:
    """Count what the newest version earns by the rule of its time; `None` where it was closed before any rule."""
    if details.rule is None:
        return None
    return stamps_for(
        details.versions[-1].content, details.rule, connection.zone_of(details.versions[-1].content.location_id)
    )


def _used_elsewhere(tries: Sequence[OperationHistory]) -> list[OperationHistory]:
    """Return the redemptions of vouchers that 7stamp says were used, or have expired, but not by them."""
    return [
        history
        for history in tries
        if history.voucher is not None
        and history.voucher.status != "issued"
        and history.voucher.by_code != history.operation.code
    ]


async def _load_details(visit: Visit, connection: Connection) -> ReceiptDetails:
    sale_id = visit.path_params["receipt"]
    details = await visit.host.store.read(lambda tx: queries.receipts.details(tx, connection.id, sale_id))
    if details is None:
        raise PageNotFound
    return details


async def _card_progress(visit: Visit, connection: Connection, details: ReceiptDetails) -> Card | None:
    if not details.card_id:
        return None
    return await visit.services.review.card_progress(connection, details.card_id)


def taken_back_within(visit: Visit) -> int:
    """Return for how long (in microseconds) whoever is here can take back by hand what was given by hand."""
    return LATER if visit.may("manager") else AT_ONCE


def _taken_back_until(details: ReceiptDetails, lines: Sequence[JournalLine], within: int) -> int:
    """Return until when what a hand gave can be taken back; of a voided receipt nothing is, and the store decides."""
    return given_until(lines, within, claimed=details.claimed) if details.receipt.status != "voided" else 0


def _card_path(visit: Visit, connection: Connection, card: Card) -> str:
    """Return the address of the card's own page."""
    token = customer_tokens(visit, connection).seal(Reference("number", card.number), card.id)
    return customer_path(connection, token)


def _needs_person(operation: Operation) -> bool:
    """Return whether an operation waits for a decision; one that waits for a card does so by itself."""
    stopped = operation.state in (State.held, State.rejected)
    return operation.flag is not None or (stopped and not operation.acknowledged and needs_person(operation.hold))


def _may_give(details: ReceiptDetails) -> bool:
    """Return whether a person may name the card of a receipt: it has stamps, and no card that it came with."""
    receipt = details.receipt
    # a receipt from before the connection, or of a pause that was left out, gives nothing to anybody
    counted = receipt.admitted and receipt.status == "closed"
    return counted and receipt.stamps > 0 and (receipt.card_hint is None or not receipt.customer)


def _location_name(connection: Connection, details: ReceiptDetails) -> str:
    # a till may have closed the place since: then the receipt says none
    names = {location.id: location.name for location in connection.account.locations}
    return names.get(details.location_id or "", "")

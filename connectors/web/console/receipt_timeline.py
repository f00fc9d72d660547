"""The history of a receipt, in order: each version of the till, what was planned, each try at 7stamp with its answer.

Owns the words and the order; the facts are the ledger's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connectors.domain.operation import State
from connectors.store.ledger.claims import Claim
from connectors.store.ledger.journal import JournalLine
from connectors.store.ledger.operations import Operation
from connectors.store.queries.operations import OperationHistory, Try
from connectors.store.queries.receipts import ReceiptDetails, Version
from connectors.web.console.localization import Localizer

_SOURCES = {
    "poll": "read from the till",
    "lookback": "read again from the till",
    "hint": "the till told us to look",
    "push": "sent by the till",
    "backfill": "read from the past",
}
_OF_TILL, _OF_JOURNAL, _OF_7STAMP = 0, 1, 2
"""In which order things stand that happened at once: the till's word, what was planned by it, what was sent."""


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One thing that happened, `at` a moment (UTC microseconds); `rank` orders what happened at once.

    `detail` says more in small letters, `tone` is the style of the entry, `by` who did it where a person did.
    """

    at: int
    rank: int
    text: str
    detail: str = ""
    tone: str = ""
    by: str | None = None


def build_history(
    localizer: Localizer,
    details: ReceiptDetails,
    tries: Sequence[OperationHistory],
    lines: Sequence[JournalLine],
    claims: Sequence[Claim] = (),
) -> list[HistoryEntry]:
    """Tell everything that happened to a receipt, oldest first."""
    entries = [
        *_till_entries(localizer, details),
        *_journal_entries(localizer, lines),
        *_operation_entries(localizer, tries),
        *_claim_entries(localizer, claims),
    ]
    return sorted(entries, key=lambda entry: (entry.at, entry.rank))


# --- the till -------------------------------------------------------------------------------------------------------


def _till_entries(localizer: Localizer, details: ReceiptDetails) -> Iterator[HistoryEntry]:
    before: Sale | None = None
    for version in details.versions:
        yield _till_entry(localizer, version, before)
        # each version is worded against the one before it: only a change of customer is news
        before = version.content


def _till_entry(localizer: Localizer, version: Version, before: Sale | None) -> HistoryEntry:
    text = f"{_status(localizer, version.content)} {_customer(localizer, version.content, before)}".strip()
    detail = localizer.sentence(Message(_SOURCES.get(version.source, version.source)))
    return HistoryEntry(version.seen_at, _OF_TILL, text, detail)


def _status(localizer: Localizer, sale: Sale) -> str:
    paid = localizer.money(sale.paid.minor, sale.paid.currency)
    match sale.status:
        case "voided":
            return localizer.text("The till says it was refunded, removed or cancelled.")
        case "open":
            return localizer.text("The till says it is open.")
        case _ if sale.refunded.minor:
            back = localizer.money(sale.refunded.minor, sale.refunded.currency)
            return localizer.text(
                "The till says it was paid, {paid}, and {back} were given back.", paid=paid, back=back
            )
    return localizer.text("The till says it was paid: {paid}.", paid=paid)


def _customer(localizer: Localizer, sale: Sale, before: Sale | None) -> str:
    """Say whether somebody is attached, where that is news."""
    if before is not None and bool(before.customer) == bool(sale.customer):
        return ""
    return localizer.text("A customer is attached.") if sale.customer else localizer.text("Nobody is attached.")


# --- the journal ----------------------------------------------------------------------------------------------------


def _journal_entries(localizer: Localizer, lines: Sequence[JournalLine]) -> Iterator[HistoryEntry]:
    for line in lines:
        # tries say what the journal's lines about operations say, and more; only who has seen one is not among them
        if line.message.id.startswith("operation.") and line.message.id != "operation.acknowledged":
            continue
        if line.message.id == "sale.identifying":
            text = localizer.text("Looking for the customer's card.")
        else:
            text = localizer.message(line.message)
        yield HistoryEntry(line.at, _OF_JOURNAL, text, by=line.by)


def _claim_entries(localizer: Localizer, claims: Sequence[Claim]) -> Iterator[HistoryEntry]:
    """Tell what customers agreed to who claimed the receipt, in the words that they read."""
    for claim in claims:
        if claim.consent is not None:
            yield HistoryEntry(claim.at, _OF_JOURNAL, localizer.text("The customer agreed to:"), claim.consent)


# --- 7stamp ---------------------------------------------------------------------------------------------------------


def _operation_entries(localizer: Localizer, tries: Sequence[OperationHistory]) -> Iterator[HistoryEntry]:
    for history in tries:
        operation = history.operation
        for attempt in history.tries:
            # a try and its answer are one line, so that it is plain which answer is to what
            text, answer = _sent(localizer, operation), _answer(localizer, attempt)
            yield HistoryEntry(attempt.at, _OF_7STAMP, text, answer, attempt.state.value)
        if not history.tries and operation.state is State.held and operation.reason:
            reason = localizer.sentence(operation.reason)
            yield HistoryEntry(operation.updated_at, _OF_7STAMP, localizer.text("It is held."), reason, "held")


def _sent(localizer: Localizer, operation: Operation) -> str:
    match operation.kind.value:
        case "stamps_added":
            return localizer.count(
                "{count} stamp was sent to 7stamp.", "{count} stamps were sent to 7stamp.", operation.count
            )
        case "stamps_reversed":
            return localizer.count(
                "7stamp was asked to take {count} stamp back.",
                "7stamp was asked to take {count} stamps back.",
                operation.count,
            )
    return localizer.text("7stamp was asked to use the voucher {code}.", code=operation.redeem_code)


def _answer(localizer: Localizer, attempt: Try) -> str:
    match attempt.state:
        case State.applied:
            return localizer.text("7stamp has done it.")
        case State.pending:
            return localizer.text("It did not get through, or must wait: it is sent again.")
        case State.uncertain:
            return localizer.text("7stamp's answer was lost: the card's history will tell.")
    reason = localizer.sentence(attempt.reason) if attempt.reason else ""
    return localizer.text("7stamp did not do it: {why}", why=reason)

"""An operation: one thing to make 7stamp do, and the states it passes through.

Owns the kinds, states and holds, and which states count as what; moving a row from one to the next is
`connectors.store`'s, and what follows from a hold is `holds`'.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """What an operation makes 7stamp do."""

    stamps_added = "stamps_added"
    """Put stamps on a card: planned when a sale is entitled to more than is planned for its card."""
    stamps_reversed = "stamps_reversed"
    """Take stamps back from a card: planned after a refund, a void, a correction or another customer."""
    voucher_redeemed = "voucher_redeemed"
    """Use up the voucher whose redeem code stands on a receipt: planned once for each code."""


class State(StrEnum):
    """How far an operation has come: `pending → sending → applied | uncertain | held | rejected`, or `cancelled`."""

    pending = "pending"
    """To be sent: planned, released from a hold, tried again, or found not applied. A claim makes it `sending`."""
    sending = "sending"
    """On the wire: written with the exact request before its first byte leaves. The answer ends it; where the sender
    dies or the answer is ambiguous it becomes `uncertain`."""
    uncertain = "uncertain"
    """Perhaps applied. Only the history of the card (or of the voucher) decides: `applied`, or `pending` once more."""
    applied = "applied"
    """7stamp has done it: a change of mind is another operation. It is `uncertain` once more only where a comparison
    finds that its card does not have it."""
    held = "held"
    """Stopped for the reason that its `Hold` names. A release makes it `pending`; a dismissal or the end of its time
    `rejected`, a changed sale `cancelled`."""
    rejected = "rejected"
    """Refused by 7stamp, dismissed by a person, or held for too long. A person may retry it: then it is `pending`, or
    `held` where it waits for a card."""
    cancelled = "cancelled"
    """Taken back by planning before it was sent. Final, and the only state that does not count as planned."""


# Planning, settling and counting each ask for a set of states, never for a list of their own: a state that is added
# must be thought of here.
MOVABLE = frozenset({State.pending, State.held})
"""Not on the wire and not settled: planning may still cancel it."""

IN_DOUBT = frozenset({State.sending, State.uncertain})
"""Perhaps applied: nothing may be decided about it but by the card's history."""

UNSETTLED = MOVABLE | IN_DOUBT
"""Not ended yet."""


class Hold(StrEnum):
    """Why an operation is held. `holds.HOLDS` says of each how long it lasts and what ends it."""

    no_card = "no_card"
    """The customer has no card yet, or the card is gone: the search found none. A card that is found releases it."""
    conflict = "conflict"
    """The customer's number, phone and email lead to different cards. The search goes on, and a person may decide."""
    plan_limit = "plan_limit"
    """7stamp refused it: the business has used up its plan. A new month or a larger plan releases it."""
    cap = "cap"
    """It would give a card more stamps than the rule's `max_per_card_per_day`. Only a person releases it."""
    flagged = "flagged"
    """It takes stamps back for a refund, and the rule says `refunds: flag`. Only a person releases it."""
    gift = "gift"
    """It is a gift that was given without a redeem code: the voucher that pays for it is looked for on the receipt's
    card. One that is found releases it; where the card has none it is rejected."""


class Flag(StrEnum):
    """Why a person should look at a redemption though nothing can be sent about it any more."""

    voided = "voided"
    """Its receipt was removed or refunded as a whole after the voucher was used: 7stamp gives no voucher back."""
    dead_code = "dead_code"
    """7stamp refused it, and the rule says `dead_codes: flag`."""


def receipt_in(code: str | None) -> str | None:
    """Return the receipt that an operation's code names (`connector:account:receipt:n`); `None` for another code."""
    parts = (code or "").split(":")
    return ":".join(parts[2:-1]) if len(parts) >= 4 else None


def outward(state: str) -> str:
    """Return the state as the outside sees it: what is on the wire or in doubt counts as pending."""
    return State.pending if state in IN_DOUBT else state


@dataclass(frozen=True, slots=True)
class Planned:
    """An operation as planning sees it: `signed` stamps (negative for a reversal), its card and state."""

    id: str
    n: int  # counts the operations of one receipt: the order in which they were planned
    card_id: str | None
    signed: int
    state: State

"""An operation: one thing to make 7stamp do, and the states it passes through.

Owns the words and which states count as what; moving a row from one to the next is `connectors.store`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    stamps_added = "stamps_added"
    stamps_reversed = "stamps_reversed"
    voucher_redeemed = "voucher_redeemed"


class State(StrEnum):
    pending = "pending"
    sending = "sending"
    uncertain = "uncertain"
    applied = "applied"
    held = "held"
    rejected = "rejected"
    cancelled = "cancelled"


MOVABLE = frozenset({State.pending, State.held})
"""Not on the wire and not settled: may still be cancelled."""

IN_DOUBT = frozenset({State.sending, State.uncertain})
"""Perhaps applied: nothing may be decided about it but by the card's history."""

UNSETTLED = MOVABLE | IN_DOUBT


class Hold(StrEnum):
    """Why an operation is held; every one has a way out."""

    no_card = "no_card"
    conflict = "conflict"
    plan_limit = "plan_limit"
    cap = "cap"
    flagged = "flagged"


def outward(state: str) -> str:
    """The state as the outside sees it: what is on the wire or in doubt counts as pending."""
    return State.pending if state in IN_DOUBT else state


@dataclass(frozen=True, slots=True)
class Planned:
    """What planning needs to know of an operation: `signed` stamps (negative for a reversal), its card and state."""

    id: str
    n: int
    card_id: str | None
    signed: int
    state: State

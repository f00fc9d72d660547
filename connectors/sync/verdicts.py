"""Verdicts: what an answer of 7stamp makes of an operation, as a pure function.

Owns the table from outcome to state; what follows for cards, keys and businesses is `settlement`'s.
"""

from __future__ import annotations

import random
from collections.abc import Mapping

from connector_sdk.messages import Message
from connectors.domain.clock import SECOND
from connectors.domain.holds import HOLDS
from connectors.domain.operation import Hold, Kind, State
from connectors.sevenstamp.client import Applied, InDoubt, InvalidKey, Limited, NotSent, Outcome, Refused
from connectors.store.ledger.operations import Operation, Verdict

RETRY_PAUSES = (1, 2, 5, 15, 60)
"""Seconds (of what surely was not sent) or minutes (of a card that is gone) before the next try, by how many failed."""

_REFUSALS: Mapping[str, str] = {
    "nothing_to_reverse": "why.reward_given",
    "already_redeemed": "why.already_redeemed",
    "voucher_expired": "why.voucher_expired",
    "voucher_not_found": "why.voucher_unknown",
    "card_not_found": "why.card_gone",
}
"""7stamp's code of a refusal → the reason that the journal gives."""


def retry_pause(failures: int) -> int:
    """Return the pause after so many failures in a row, none after none."""
    return RETRY_PAUSES[min(failures, len(RETRY_PAUSES)) - 1] if failures > 0 else 0


def judge(operation: Operation, outcome: Outcome, now: int) -> Verdict:
    """Decide what a try's outcome makes of an operation, at a moment (UTC microseconds)."""
    match outcome:
        case Applied():
            return Verdict(operation, State.applied)
        case NotSent():
            # a key that 7stamp knows with another body would be refused for ever
            at = _next_try(operation, now)
            return Verdict(operation, State.pending, next_at=at, new_attempt=operation.conflicted)
        case InDoubt(conflict=conflict):
            reason = Message("why.in_doubt")
            return Verdict(operation, State.uncertain, reason, next_at=now, conflicted=conflict)
        case Limited(retry_after=pause):
            return Verdict(operation, State.pending, next_at=now + int(pause * SECOND))
        case InvalidKey():
            return Verdict(operation, State.pending, next_at=now)
        case Refused():
            return _judge_refusal(operation, outcome)


def _next_try(operation: Operation, now: int) -> int:
    if operation.state is State.uncertain:
        return now  # the history has shown that it was not applied: nothing is overloaded
    spread = random.uniform(0.5, 1.5)  # noqa: S311 - spreads load
    return now + int(retry_pause(operation.tries) * spread * SECOND)


def _judge_refusal(operation: Operation, refusal: Refused) -> Verdict:
    match refusal.code:
        case "plan_limit":
            return Verdict(operation, State.held, Message(HOLDS[Hold.plan_limit].reason), hold=Hold.plan_limit)
        case "card_not_found" if operation.kind is Kind.stamps_added:
            return Verdict(operation, State.held, _reason_of(refusal.code), hold=Hold.no_card)
        case "already_redeemed" if refusal.body.get("redeemed_by_code") == operation.code:
            return Verdict(operation, State.applied)  # by us, in a try whose answer was lost
    return Verdict(operation, State.rejected, _reason_of(refusal.code))


def _reason_of(code: str) -> Message:
    return Message(_REFUSALS[code]) if code in _REFUSALS else Message("why.refused", {"code": code})

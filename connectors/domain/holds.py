"""Holds: of each reason to hold an operation its words, how long it lasts, and what ends it.

Owns these facts in one table, `HOLDS`, as pure values; holding and releasing rows is `connectors.store`'s, and showing
the choices is the console's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from connector_sdk.messages import Message
from connectors.domain.clock import DAY
from connectors.domain.operation import Hold, State


class Awaited(StrEnum):
    """What a hold waits for; it releases the operation by itself, unless that is a person."""

    card = "card"
    """A card of the customer: identification searches for one with growing pauses, and binding it releases the hold."""
    plan = "plan"
    """Operations in the business's plan: 7stamp is asked now and then, and its answer releases the hold."""
    voucher = "voucher"
    """A voucher on the receipt's card: once there is a card, 7stamp is asked for its vouchers, which ends the hold."""
    person = "person"
    """A person's decision, and nothing else."""


class Action(StrEnum):
    """What a person can do with an operation that stopped; the values are stable, for pages post them."""

    retry = "retry"
    """Send it again, beyond any cap; one that waits for a card is searched for anew instead."""
    dismiss = "dismiss"
    """Give a held operation up: it ends rejected."""
    acknowledge = "acknowledge"
    """Leave a rejected operation at that: it needs nobody any more."""


@dataclass(frozen=True, slots=True)
class Choice:
    """An action that a page offers, and the words on its button."""

    action: Action
    label: Message


@dataclass(frozen=True, slots=True)
class HoldFacts:
    """Everything that is true of one hold.

    `reason` is the id of the message that says why, `other_reason` that of a rarer cause of the same hold. `days` is
    how long it lasts before it is rejected (`None`: until it is released), unless a stamp rule says how long its
    customers' stamps are held. `choices` are a person's ways out, the one to press first first.
    """

    reason: str
    awaits: Awaited
    needs_person: bool
    days: int | None
    choices: tuple[Choice, ...]
    other_reason: str | None = None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The ids of all messages that say why."""
        return (self.reason,) if self.other_reason is None else (self.reason, self.other_reason)

    def expires_at(self, now: int, *, rule_days: int | None = None) -> int | None:
        """Return when a hold that begins now runs out (UTC microseconds); `None` where it never does.

        `rule_days` are the `hold_days` of the sale's rule, which count for customers without a card only.
        """
        days = rule_days if self.awaits is Awaited.card and rule_days is not None else self.days
        return None if days is None else now + days * DAY


_USUAL_CHOICES = (Choice(Action.retry, Message("Try again")), Choice(Action.dismiss, Message("Give up")))
REJECTED_CHOICES = (
    Choice(Action.acknowledge, Message("I have seen it")),
    Choice(Action.retry, Message("Try again")),
)
"""A person's ways out of a rejection that nobody has seen yet."""

HOLDS: Mapping[Hold, HoldFacts] = MappingProxyType(
    {
        # most customers without a card get one in time, or never wanted one: nobody is bothered with that
        Hold.no_card: HoldFacts(
            reason="why.no_card",
            other_reason="why.card_gone",
            awaits=Awaited.card,
            needs_person=False,
            days=30,
            choices=_USUAL_CHOICES,
        ),
        # a wrong card would be worse than a late stamp, so a person must sort the customer's names out
        Hold.conflict: HoldFacts(
            reason="why.conflict",
            awaits=Awaited.card,
            needs_person=True,
            days=30,
            choices=(Choice(Action.retry, Message("Look again")), Choice(Action.dismiss, Message("Give none"))),
        ),
        # the customer has earned it, so it waits however long the business takes to buy a larger plan
        Hold.plan_limit: HoldFacts(
            reason="why.plan_limit",
            awaits=Awaited.plan,
            needs_person=True,
            days=None,
            choices=_USUAL_CHOICES,
        ),
        # a day's cap is against mistakes and fraud: the next day does not lift it, or it would only delay them
        Hold.cap: HoldFacts(
            reason="why.cap",
            awaits=Awaited.person,
            needs_person=True,
            days=30,
            choices=(Choice(Action.retry, Message("Give them anyway")), Choice(Action.dismiss, Message("Give none"))),
        ),
        # nobody is bothered while the customer is still being found
        Hold.gift: HoldFacts(
            reason="why.gift_waits",
            awaits=Awaited.voucher,
            needs_person=False,
            days=7,
            choices=(Choice(Action.retry, Message("Look again")), Choice(Action.dismiss, Message("Give up"))),
        ),
        # stamps that a refund takes back stay on the card until somebody decides
        Hold.flagged: HoldFacts(
            reason="why.flagged",
            awaits=Awaited.person,
            needs_person=True,
            days=None,
            choices=(
                Choice(Action.retry, Message("Take the stamps back")),
                Choice(Action.dismiss, Message("Leave the stamps")),
            ),
        ),
    }
)

WAITS_FOR_CARD = frozenset(hold for hold, facts in HOLDS.items() if facts.awaits is Awaited.card)
"""The holds of operations whose customer has no card (yet)."""

HOLDS_FOR_PERSON = tuple(hold for hold in Hold if HOLDS[hold].needs_person)
"""The holds that somebody must decide, or at least hear of."""


def needs_person(hold: str | None) -> bool:
    """Say whether an operation that was stopped concerns a person: any but one that a hold awaits by itself."""
    return hold is None or HOLDS[Hold(hold)].needs_person


def choices_for(state: State, hold: str | None) -> tuple[Choice, ...]:
    """Return a person's ways out for an operation that was stopped in this state, the one to press first first."""
    if state is State.applied:  # a flag on what is done
        return REJECTED_CHOICES[:1]
    if state is State.rejected:
        return REJECTED_CHOICES
    return HOLDS[Hold(hold)].choices if hold is not None else _USUAL_CHOICES

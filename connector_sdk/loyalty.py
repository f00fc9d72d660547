"""Loyalty events: what happened to a card at 7stamp, as a connector and a plugin are told of it.

Owns the values, one for each of the thirteen events and one for those that 7stamp may add; reading 7stamp's webhooks,
in whichever language a business has them, is the host's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, get_args

from pydantic import AwareDatetime, BaseModel, Field, JsonValue

from connector_sdk.sale import Frozen


class LoyaltyCustomer(Frozen):
    """Whose card it is, as far as 7stamp says: `phone` is E.164, `language` a code such as `ms`."""

    id: str | None = None
    wallet_pass_id: str | None = None
    language: str | None = None
    phone: str | None = Field(default=None, repr=False)
    email: str | None = Field(default=None, repr=False)


class LoyaltyCard(Frozen):
    """The card: `goal_index` counts the goals that were reached, `stamps` are those towards the next of `goal`."""

    id: str | None = None
    number: str | None = Field(default=None, repr=False)
    goal_index: int | None = None
    stamps: int | None = None
    goal: int | None = None


class LoyaltyVoucher(Frozen):
    """A voucher: `status` is issued, active, redeemed or expired; whoever has its `redeem_code` can use it."""

    id: str | None = None
    type: str | None = None
    redeem_code: str | None = Field(default=None, repr=False)
    redeem_code_formats: tuple[str, ...] = ()
    status: str | None = None
    redeemed_via: str | None = None


class LoyaltyEvent(Frozen):
    """Something that happened to a card; `id` is 7stamp's own for this event, the same when it is told again.

    `event` is the canonical English name, also where 7stamp wrote it in the language of the business. `code` is the
    reference of the operation that caused it, `receipt` that of its receipt, where a till did. `further` holds what
    else 7stamp sent, under the names that it used.
    """

    id: str
    event: str
    at: AwareDatetime
    business_id: str
    location_id: str | None = None
    customer: LoyaltyCustomer = LoyaltyCustomer()
    card: LoyaltyCard = LoyaltyCard()
    code: str | None = None
    receipt: str | None = None
    further: Mapping[str, JsonValue] = Field(default={}, repr=False)


class CardIssued(LoyaltyEvent):
    """A customer was given a card."""

    event: Literal["card_issued"] = "card_issued"


class CardSaved(LoyaltyEvent):
    """A customer put the card into a wallet."""

    event: Literal["card_saved"] = "card_saved"


class CardOpened(LoyaltyEvent):
    """A customer looked at the card."""

    event: Literal["card_opened"] = "card_opened"


class StampAdded(LoyaltyEvent):
    """Stamps were put on the card, by a till, a person or a campaign; `count` is how many, where 7stamp says so."""

    event: Literal["stamp_added"] = "stamp_added"
    count: int | None = None


class GoalReached(LoyaltyEvent):
    """The card has as many stamps as a goal asks for."""

    event: Literal["goal_reached"] = "goal_reached"


class RewardIssued(LoyaltyEvent):
    """A goal gave its reward; `reward` is its type: award, voucher or lottery."""

    event: Literal["reward_issued"] = "reward_issued"
    reward: str | None = None


class VoucherIssued(LoyaltyEvent):
    """A voucher was given out."""

    event: Literal["voucher_issued"] = "voucher_issued"
    voucher: LoyaltyVoucher = LoyaltyVoucher()


class VoucherRedeemed(LoyaltyEvent):
    """A voucher was used up, at the till (`code` says by which operation) or elsewhere."""

    event: Literal["voucher_redeemed"] = "voucher_redeemed"
    voucher: LoyaltyVoucher = LoyaltyVoucher()


class VoucherExpired(LoyaltyEvent):
    """A voucher's time is over."""

    event: Literal["voucher_expired"] = "voucher_expired"
    voucher: LoyaltyVoucher = LoyaltyVoucher()


class LotteryPlayed(LoyaltyEvent):
    """The customer played for a reward; `result` is what came of it, in 7stamp's own word."""

    event: Literal["lottery_played"] = "lottery_played"
    result: str | None = None


class BirthdayReached(LoyaltyEvent):
    """It is the customer's birthday."""

    event: Literal["birthday_reached"] = "birthday_reached"


class InactivityTrigger(LoyaltyEvent):
    """The customer has not come for as long as the business set."""

    event: Literal["inactivity_trigger"] = "inactivity_trigger"


class CampaignSent(LoyaltyEvent):
    """A message of a campaign went to the customer; `channel` is push, email or messengers."""

    event: Literal["campaign_sent"] = "campaign_sent"
    channel: str | None = None
    campaign: str | None = None


class OtherEvent(LoyaltyEvent):
    """An event that this version does not know; everything of it stands in `further`."""


KnownEvent = (
    CardIssued
    | CardSaved
    | CardOpened
    | StampAdded
    | GoalReached
    | RewardIssued
    | VoucherIssued
    | VoucherRedeemed
    | VoucherExpired
    | LotteryPlayed
    | BirthdayReached
    | InactivityTrigger
    | CampaignSent
)
"""The thirteen events that 7stamp documents."""

CLASSES: Mapping[str, type[LoyaltyEvent]] = {
    event_class.model_fields["event"].default: event_class for event_class in get_args(KnownEvent)
}
"""Canonical name → the class of that event."""


def event_from_json(text: str | bytes) -> LoyaltyEvent:
    """Restore an event from what `model_dump_json` made of it. Raises pydantic's `ValidationError`."""
    name = _Named.model_validate_json(text).event
    return CLASSES.get(name, OtherEvent).model_validate_json(text)


class _Named(BaseModel):
    """The name of a stored event, by which its class is chosen."""

    event: str

"""Shapes: operations, events, subscriptions and deliveries as programs read them, by `--json` and by the API alike.

Owns those names, which stay as they are; moments are ISO 8601 in UTC, and no shape holds a secret or a customer.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from connectors.domain.clock import moment
from connectors.domain.operation import outward
from connectors.domain.relay import DeliveryState
from connectors.domain.vouchers import RequestState
from connectors.services.cards import ShownVoucher
from connectors.services.subscriptions import NewSubscription, TriedDelivery
from connectors.sevenstamp.models import Card
from connectors.store.access.api_tokens import ApiToken
from connectors.store.inbox.loyalty_events import StoredEvent
from connectors.store.ledger.operations import Operation
from connectors.store.ledger.voucher_requests import VoucherRequest
from connectors.store.relay.subscriptions import Subscription


class Shape(BaseModel):
    """A value that programs read."""

    model_config = ConfigDict(frozen=True)


class OperationShape(Shape):
    """One thing to make 7stamp do."""

    id: str = Field(examples=["1a2b3c4d5e6f70-1"])
    receipt_id: str = Field(examples=["330661"])
    kind: Literal["stamps_added", "stamps_reversed", "voucher_redeemed"]
    count: int = Field(description="Stamps; 1 for a voucher", examples=[2])
    state: Literal["pending", "applied", "held", "rejected", "cancelled"]
    reason: str | None = Field(description="The id of why it is held or was rejected", examples=["no_card"])
    code: str = Field(description="Under which 7stamp knows it", examples=["poster:861052:330661:1"])

    @classmethod
    def of(cls, operation: Operation) -> OperationShape:
        """Return an operation's shape."""
        return cls.model_validate(
            {
                "id": operation.id,
                "receipt_id": operation.receipt_id,
                "kind": operation.kind.value,
                "count": operation.count,
                # the states that are documented: how delivery parts them may change
                "state": outward(operation.state),
                # the reason's id, not its sentence: programs compare it, and sentences are reworded
                "reason": operation.reason.id.removeprefix("why.") if operation.reason else None,
                "code": operation.code,
            }
        )


class LoyaltyEventShape(Shape):
    """What 7stamp said of a card."""

    id: str = Field(examples=["msg_1"])
    event: str | None = Field(
        description="Its canonical name; null where it could not be read", examples=["stamp_added"]
    )
    at: str | None = Field(examples=["2026-11-26T09:12:00+00:00"])
    received_at: str = Field(examples=["2026-11-26T09:12:01+00:00"])
    business: str = Field(examples=["b_123"])
    card: str | None = Field(description="7stamp's id of the card", examples=["card_0001"])
    code: str | None = Field(description="Of the operation that caused it", examples=["poster:861052:330661:1"])
    state: Literal["arrived", "settled", "done", "unknown", "unreadable"]

    @classmethod
    def of(cls, stored: StoredEvent) -> LoyaltyEventShape:
        """Return an event's shape: no phone and no email, for what a program keeps outlives a wish to be forgotten."""
        event = stored.event
        return cls.model_validate(
            {
                "id": stored.event_id,
                "event": event.event if event is not None else None,
                "at": event.at.isoformat() if event is not None else None,
                "received_at": iso(stored.received_at),
                "business": stored.business_id,
                "card": event.card.id if event is not None else None,
                "code": event.code if event is not None else None,
                "state": stored.stage.value,
            }
        )


class SubscriptionShape(Shape):
    """Who is told of events; without its whole address, which may let others in."""

    id: str = Field(examples=["sub_1a2b3c4d5e6f"])
    title: str = Field(examples=["Our CRM"])
    host: str = Field(description="Where events go", examples=["hooks.example.com"])
    events: list[str] = Field(examples=[["voucher_redeemed"]])
    filter: str | None = Field(examples=["data.channel=='push'"])
    personal: bool
    shape: Literal["standard", "slack"]
    state: Literal["active", "disabled"]
    reason: str | None = Field(description="Message id of why it is disabled", examples=["relay.failing"])
    pending: int = Field(description="Events that wait for it")
    failing_since: str | None
    delivered_at: str | None

    @classmethod
    def of(cls, subscription: Subscription) -> SubscriptionShape:
        """Return a subscription's shape."""
        return cls.model_validate(_subscription(subscription))


def _subscription(subscription: Subscription) -> dict[str, object]:
    return {
        "id": subscription.id,
        "title": subscription.title,
        "host": subscription.host,
        "events": list(subscription.events),
        "filter": subscription.filter,
        "personal": subscription.personal,
        "shape": subscription.shape.value,
        "state": subscription.state.value,
        "reason": subscription.reason.id if subscription.reason else None,
        "pending": subscription.pending,
        "failing_since": iso_or_none(subscription.failing_since),
        "delivered_at": iso_or_none(subscription.delivered_at),
    }


class NewSubscriptionShape(SubscriptionShape):
    """A subscription with the secret that proves its deliveries, which is shown only now."""

    secret: str = Field(examples=["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])

    @classmethod
    def of_new(cls, made: NewSubscription) -> NewSubscriptionShape:
        """Return the shape of a subscription that was made."""
        return cls.model_validate({**_subscription(made.subscription), "secret": made.secret})


class TryShape(Shape):
    """One try at a delivery."""

    at: str
    milliseconds: int
    status: int | None = Field(description="Of the answer")
    error: str | None
    answer: str | None = Field(description="Its first kilobyte")


class DeliveryShape(Shape):
    """An event on its way to a subscriber."""

    id: int
    event: str = Field(examples=["voucher_redeemed"])
    event_id: str = Field(description="As in webhook-id", examples=["evt_5f0c1d7a9b2e4c6d8f0a1b2c"])
    at: str
    state: Literal["pending", "delivered", "filtered", "failed"]
    next_try: str | None
    tries: list[TryShape]

    @classmethod
    def of(cls, tried: TriedDelivery) -> DeliveryShape:
        """Return a delivery's shape."""
        delivery = tried.delivery
        return cls.model_validate(
            {
                "id": delivery.seq,
                "event": delivery.event,
                "event_id": delivery.event_id,
                "at": iso(delivery.at),
                "state": delivery.state.value,
                "next_try": iso(delivery.next_at) if delivery.state is DeliveryState.pending else None,
                "tries": [
                    {
                        "at": iso(attempt.at),
                        "milliseconds": attempt.milliseconds,
                        "status": attempt.status,
                        "error": attempt.error,
                        "answer": attempt.answer,
                    }
                    for attempt in tried.attempts
                ],
            }
        )


class TokenShape(Shape):
    """An API token without itself."""

    id: str = Field(examples=["tok_1a2b3c4d5e6f"])
    title: str = Field(examples=["Zapier"])
    scopes: list[str] = Field(examples=[["read", "subscribe"]])
    ending: str = Field(description="Its last characters", examples=["x7Qa"])
    made_at: str
    last_used_at: str | None

    @classmethod
    def of(cls, token: ApiToken) -> TokenShape:
        """Return a token's shape."""
        return cls(
            id=token.id,
            title=token.title,
            scopes=sorted(scope.value for scope in token.scopes),
            ending=token.ending,
            made_at=iso(token.made_at),
            last_used_at=iso_or_none(token.last_used_at),
        )


def iso(at: int) -> str:
    """Return a moment (UTC microseconds) as programs read it."""
    return moment(at).isoformat()


def iso_or_none(at: int | None) -> str | None:
    """Return a moment as programs read it, or `None`."""
    return iso(at) if at is not None else None


class CardShape(Shape):
    """A customer's card."""

    id: str
    number: str = Field(description="The six digits on the card")
    active: bool
    stamps: int
    goal: int = Field(description="How many stamps make a reward")
    save_url: str | None = Field(description="Where the customer saves it to a wallet")

    @classmethod
    def of(cls, card: Card) -> CardShape:
        """Say it without the customer's names."""
        return cls(
            id=card.id,
            number=card.number,
            active=card.active,
            stamps=card.stamps,
            goal=card.goal,
            save_url=card.save_url,
        )


class VoucherShape(Shape):
    """A voucher as 7stamp knows it."""

    redeem_code: str
    title: str
    status: str = Field(description="issued, active, redeemed or expired")
    card: str | None = Field(description="The id of the card that it is for; null for whoever has the code")
    redeemed_at: str | None
    redeemed_by_receipt: str | None = Field(description="The receipt whose sale redeemed it, where one did")

    @classmethod
    def of(cls, shown: ShownVoucher) -> VoucherShape:
        """Say it as scripts read it."""
        voucher = shown.voucher
        return cls(
            redeem_code=voucher.redeem_code,
            title=voucher.title,
            status=voucher.status,
            card=voucher.card_id,
            redeemed_at=voucher.redeemed_at.isoformat() if voucher.redeemed_at else None,
            redeemed_by_receipt=shown.receipt,
        )


class VoucherDoneShape(Shape):
    """What became of a voucher."""

    redeem_code: str
    outcome: Literal["done", "in_doubt"] = Field(
        description=(
            "in_doubt: 7stamp has not answered. It is looked up by itself and never done twice; ask for the voucher "
            "in a minute"
        )
    )

    @classmethod
    def of(cls, request: VoucherRequest) -> VoucherDoneShape:
        """Say how far a request has come that is not refused."""
        is_done = request.state is RequestState.applied
        return cls(redeem_code=request.redeem_code, outcome="done" if is_done else "in_doubt")

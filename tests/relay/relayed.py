"""An installation whose host sends to subscribers only when it is told, with a subscriber beside it."""

from __future__ import annotations

from typing import Any

from connector_sdk.loyalty import LoyaltyCard, LoyaltyCustomer, StampAdded
from connectors.domain.clock import moment
from connectors.domain.events import LoyaltyEventReceived
from connectors.services import SubscriptionRequest
from connectors.services.subscriptions import NewSubscription
from tests.installation import Installation
from tests.relay.subscriber import Subscriber
from tests.web.clock import MovableClock

PHONE = "+380501112299"


class Relayed:
    """An installation whose host sends only when it is told, with a subscriber."""

    def __init__(self, installation: Installation, subscriber: Subscriber, clock: MovableClock) -> None:
        self.installation, self.subscriber, self.clock = installation, subscriber, clock
        self.host = installation.host
        self.service = installation.host.services.subscriptions

    @property
    def business(self) -> str:
        return self.installation.connection.business_id

    async def subscribe(self, *events: str, path: str = "/hook", **more: Any) -> NewSubscription:
        request = SubscriptionRequest(more.pop("url", f"{self.subscriber.origin}{path}"), events, **more)
        return await self.service.create(self.business, request)

    async def happen(self, card: str, number: int = 1, **more: Any) -> None:
        """Have 7stamp tell of stamps on a card."""
        event = StampAdded(
            id=f"{card}-{number}",
            at=moment(self.clock.now()),
            business_id=self.business,
            card=LoyaltyCard(id=card, number="123456"),
            customer=LoyaltyCustomer(id="c_1", phone=PHONE),
            count=number,
            **more,
        )
        await self.host.store.write(lambda tx: tx.events.append(LoyaltyEventReceived(self.business, event)))

    async def states(self, made: NewSubscription) -> list[str]:
        deliveries = await self.service.deliveries(self.business, made.subscription.id, limit=500)
        return [tried.delivery.state.value for tried in deliveries][::-1]

    async def subscription(self, made: NewSubscription) -> Any:
        return await self.service.get(self.business, made.subscription.id)

"""The face of any till that can send JSON: it only receives, and reads what it receives by the cafe's own mapping.

Owns what such a till can do; proofs are `proofs`', reading is `mapping`'s, and learning by example is `teaching`'s.
"""

from __future__ import annotations

from connector_sdk import (
    Connector,
    ConnectorInfo,
    HookAddress,
    HookRequest,
    Ignored,
    Received,
    Sales,
    TillAccount,
)
from connector_sdk.expressions import Budget
from webhook_connector import proofs, ready_made
from webhook_connector.mapping import sales_of
from webhook_connector.settings import WebhookApp, WebhookSettings
from webhook_connector.teaching import TEACHING


class WebhookConnector(Connector[WebhookSettings]):
    """One till that sends its receipts as JSON."""

    info = ConnectorInfo(
        name="webhook",
        title="Any till with a webhook",
        summary="Your till or shop can send each sale to a web address: show us one, and tap what is what.",
        needs="Somebody who may change your till's settings. Ready for WooCommerce and Shopify.",
        minutes=10,
        mark="M3 12h11M10 8l4 4-4 4M14 4h5a1 1 0 0 1 1 1v14a1 1 0 0 1-1 1h-5",
        hook_address=HookAddress.connection,
        stub="webhook_connector.stub:WebhookStub",
        attach_customer="Add the customer's phone or email to the sale, as your till offers it.",
        named_by_account=True,
        hook_steps=("In your till's settings, make a webhook for sales and give it this address.",),
    )
    app_model = WebhookApp
    ready_made = ready_made.ALL
    teaching = TEACHING

    async def check(self) -> TillAccount:
        """Make the account of the settings: there is nobody to ask."""
        return TillAccount(
            id=self.settings.till_id,
            name=self.settings.till_name,
            currency=self.settings.currency,
            zone=self.settings.zone,
            country=self.settings.country,
        )

    def prove(self, hook: HookRequest) -> None:
        """Verify a request by the connection's own proof; a ping needs none. Raises as `Connector.prove` says."""
        if not proofs.is_ping(hook):
            proofs.prove(hook, self.settings)

    def receive(self, hook: HookRequest) -> Received:
        """Read the sales of a request; what does not fit is reported by its field. Raises `BadPayload`."""
        # a ping was let in without a proof, so that nothing of it may be kept
        if proofs.is_ping(hook):
            return Ignored("a ping")
        # one budget for the whole request, however many receipts it holds
        budget = Budget((self.app or WebhookApp()).path_budget)
        sales, unreadable = sales_of(hook.body, self.settings, budget)
        return Sales(tuple(sales), tuple(unreadable))

"""Drafts as people work on them: begun, saved step by step, taught by a request of the till, and discarded.

Owns who may open which draft; the stored shape is `connectors.store.connections.drafts`', and making a connection of a
finished draft is `onboarding`'s.
"""

from __future__ import annotations

import secrets

from connectors.services.context import ServiceContext
from connectors.store import connections, inbox
from connectors.store.connections.drafts import Draft, DraftContent, DraftSummary
from connectors.store.engine import Transaction
from connectors.store.inbox.captured import CapturedRequest

# Stored as part of the owner, so that drafts of another version are still found.
_RETEACHING = "mending:"
"""The prefix of an owner whose draft teaches an existing connection once more: the catalogue lists none of these."""


class DraftService:
    """Begin, open, save and discard drafts; every method takes the owner whose drafts may be seen."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def begin(self, owner: str, connector: str) -> str:
        """Begin to connect a till and return the draft's id. Raises `Refusal` for an unknown connector.

        A connector that can be taught gets an address of its own at once, at which the draft captures what the till
        sends; the connection keeps that address later.
        """
        # the token is made here and not by the store, which keeps only its hash to find it by
        teachable = self._context.connector_class(connector).teaching is not None
        content = DraftContent(hook_token=secrets.token_urlsafe(24) if teachable else None)
        return await self._context.write(lambda tx: connections.drafts.create(tx, owner, connector, content))

    async def begin_reteaching(self, owner: str, connector: str, content: DraftContent) -> str:
        """Begin to teach an existing connection once more (`content.mends`) and return the draft's id."""
        reteacher = f"{_RETEACHING}{owner}"
        return await self._context.write(lambda tx: connections.drafts.create(tx, reteacher, connector, content))

    async def find(self, owner: str, draft_id: str) -> Draft | None:
        """Return the owner's draft, of a new connection or of teaching one once more; `None` where there is none."""

        # ids are random and both kinds are one table's: at most one of the two is there
        def query(tx: Transaction) -> Draft | None:
            return connections.drafts.get(tx, draft_id, owner) or connections.drafts.get(
                tx, draft_id, f"{_RETEACHING}{owner}"
            )

        return await self._context.store.read(query)

    async def list_begun(self, owner: str) -> list[DraftSummary]:
        """List the new connections that an owner has begun to make, newest first."""
        return await self._context.store.read(lambda tx: connections.drafts.of_owner(tx, owner))

    async def save(self, draft: Draft, content: DraftContent) -> None:
        """Replace what a draft holds."""
        await self._context.write(lambda tx: connections.drafts.save(tx, draft, content))

    async def discard(self, draft: Draft) -> None:
        """Delete a draft, and with it what its till has sent meanwhile."""
        await self._context.write(lambda tx: connections.drafts.delete(tx, draft.id, draft.owner))

    async def captured_requests(self, draft: Draft) -> list[CapturedRequest]:
        """List what came to the draft's address, newest first."""
        owner = f"{inbox.captured.OF_DRAFT}{draft.id}"
        return await self._context.store.read(lambda tx: inbox.captured.of_owner(tx, owner))

    async def keep_request(self, draft: Draft, request_id: str) -> None:
        """Keep one captured request whatever else the till sends: it is the one that the till is taught by."""
        owner = f"{inbox.captured.OF_DRAFT}{draft.id}"
        await self._context.write(lambda tx: inbox.captured.choose(tx, owner, request_id))

"""API tokens: made, listed and revoked, for console and commands alike.

Owns the refusals; what each right opens is `connectors.web.api`'s.
"""

from __future__ import annotations

from collections.abc import Sequence

from connector_sdk.messages import Message
from connectors.services.context import ServiceContext, nearest
from connectors.services.refusal import Refusal
from connectors.store import access
from connectors.store.access.api_tokens import ApiToken, Scope
from connectors.store.access.security_log import EventKind
from connectors.store.engine import Transaction
from connectors.store.errors import QuotaMet

_LONGEST_TITLE = 120


class TokenService:
    """Keeps the API tokens of businesses."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context

    async def list_all(self, business_id: str) -> list[ApiToken]:
        """List the tokens of a business, oldest first."""
        return await self._context.store.read(lambda tx: access.api_tokens.of_business(tx, business_id))

    async def make(self, business_id: str, title: str, scopes: Sequence[str]) -> tuple[ApiToken, str]:
        """Make a token; return it, and itself in the clear, which is shown once. Raises `Refusal`."""
        chosen = [_scope(name) for name in dict.fromkeys(scopes)]
        if not chosen:
            raise Refusal("choose at least one right", field="scopes")
        name = " ".join(title.split())[:_LONGEST_TITLE]
        if not name:
            raise Refusal("give it a name: whoever looks at it later must know what uses it", field="title")

        def work(tx: Transaction) -> tuple[ApiToken, str]:
            made = access.api_tokens.make(tx, business_id, name, chosen)
            _log(tx, business_id, "security.token_made", name)
            return made

        try:
            return await self._context.write(work)
        except QuotaMet as error:
            raise Refusal(
                "a business has at most {number} API tokens here: revoke one first, or ask the operator for more",
                number=error.most,
            ) from None

    async def revoke(self, business_id: str, token_id: str) -> None:
        """Revoke a token: it opens nothing any more. Raises `NotFound`."""

        def work(tx: Transaction) -> None:
            revoked = access.api_tokens.revoke(tx, business_id, token_id)
            _log(tx, business_id, "security.token_revoked", revoked.title)

        await self._context.write(work)


def _scope(name: str) -> Scope:
    """Return the right of a name. Raises `Refusal` that names the known ones."""
    try:
        return Scope(name)
    except ValueError:
        known = ", ".join(nearest(name, list(Scope)))
        raise Refusal("there is no right '{scope}'; known: {known}", field="scopes", scope=name, known=known) from None


def _log(tx: Transaction, business_id: str, message_id: str, title: str) -> None:
    access.security_log.record(
        tx, EventKind.token_changed, Message(message_id, {"title": title}), business_id=business_id
    )

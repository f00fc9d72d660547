"""The page of API tokens: what uses the API for this business, with which rights, and a new one.

Owns the page; making and revoking are `connectors.services.tokens`'.
"""

from __future__ import annotations

from collections.abc import Mapping

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection
from connectors.services import Refusal
from connectors.store.access.api_tokens import Scope
from connectors.web.console.routing import Router
from connectors.web.console.visit import Visit

router = Router()

_SCOPE_WORDS: Mapping[Scope, Message] = {
    Scope.read: Message("See tills, receipts and events"),
    Scope.act: Message("Try again, give up, and take history in"),
    Scope.subscribe: Message("Be told of events, and change who is told"),
    Scope.sell: Message("Report sales of a till"),
}
"""Each right in a cafe's words."""


@router.get("/connections/{connection}/tokens")
async def tokens(visit: Visit) -> Response:
    """List the tokens of the connection's business, with the form for another."""
    return await _page(visit, (await visit.load_overview()).connection, {})


async def _page(visit: Visit, connection: Connection, errors: Mapping[str, str]) -> Response:
    listed = await visit.services.tokens.list_all(connection.business_id)
    return visit.render(
        "tokens.html",
        422 if errors else 200,
        connection=connection,
        tokens=listed,
        rights={scope.value: visit.localizer.text(words.id) for scope, words in _SCOPE_WORDS.items()},
        chosen=visit.form.all("scope"),
        form=visit.form,
        errors=errors,
    )


@router.post("/connections/{connection}/tokens")
async def make(visit: Visit) -> Response:
    """Make a token, and show it once."""
    connection = (await visit.load_overview()).connection
    try:
        _, token = await visit.services.tokens.make(
            connection.business_id, visit.form.get("title"), visit.form.all("scope")
        )
    except Refusal as error:
        return await _page(visit, connection, {error.field or "title": visit.localizer.sentence(error.message)})
    return visit.redirect(f"/connections/{connection.id}/tokens", Message("Here is the token."), secret=token)


@router.post("/connections/{connection}/tokens/{token}/revoke", page="/connections/{connection}/tokens")
async def revoke(visit: Visit) -> Response:
    """Revoke a token."""
    connection = (await visit.load_overview()).connection
    await visit.services.tokens.revoke(connection.business_id, visit.path_params["token"])
    notice = Message("Revoked. What used it is refused from now on.")
    return visit.redirect(f"/connections/{connection.id}/tokens", notice)

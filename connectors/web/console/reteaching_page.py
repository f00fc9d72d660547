"""Teaching a connected till once more: by a request that could not be read, or by the last one that was.

Owns the beginning and the end; between them the pages are `teaching_page`'s, on a draft that names the connection.
"""

from __future__ import annotations

from starlette.responses import Response

from connector_sdk.messages import Message
from connector_sdk.teaching import as_texts
from connectors.domain.connection import Connection
from connectors.isolation.runner import RemoteTeaching
from connectors.services import ConnectorClass, Refusal, SettingValues
from connectors.store import inbox, queries
from connectors.store.connections.drafts import DraftContent, Sample
from connectors.web.console.routing import Router
from connectors.web.console.settings_form import is_secret, without_secrets
from connectors.web.console.teaching_page import TaughtDraft, load_taught_draft
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

_NOTHING_YET = Message("No sale has arrived yet by which it could be taught.")


@router.post("/connections/{connection}/teach", page="/connections/{connection}/settings")
async def begin_reteaching(visit: Visit) -> Response:
    """Begin a draft with the connection's settings and a request of its till, and show what they make of it."""
    connection = (await visit.load_overview()).connection
    connector_class = visit.services.connector_class(connection.connector)
    teaching = visit.teaching(connector_class)
    if teaching is None:
        raise PageNotFound
    body = await _request_body(visit, connection)
    if body is None:
        return visit.redirect(f"/connections/{connection.id}/settings", _NOTHING_YET, "bad")
    # a draft needs no secrets to be taught by: fewer copies of them are stored
    values = without_secrets(connector_class, visit.services.connections.settings_of(connection))
    content = DraftContent(
        mends=connection.id,
        values=values,
        sample=Sample.from_request(body, {}),
        skipped=await _unanswered(teaching, values, body),
    )
    draft_id = await visit.services.drafts.begin_reteaching(visit.owner_id, connection.connector, content)
    return visit.redirect(f"/connect/{draft_id}/teach?all=1")


async def _request_body(visit: Visit, connection: Connection) -> bytes | None:
    """Return the unread request that the form names, or else the last one that was read; `None` where none came."""
    if request_id := visit.form.get("kept"):
        return await visit.services.review.unread_body(connection.id, request_id)
    captured = await visit.host.store.read(lambda tx: inbox.captured.of_owner(tx, connection.id))
    return captured[0].body if captured else None


async def _unanswered(teaching: RemoteTeaching, values: SettingValues, body: bytes) -> tuple[str, ...]:
    """Return the questions to skip: what the till was not taught before is not asked now, only what is wrong."""
    texts = as_texts(values)
    return tuple(question.field for question in await teaching.questions(texts, body) if not texts.get(question.field))


@router.post("/connect/{draft}/mend", page="/connect/{draft}/teach")
async def save_reteaching(visit: Visit) -> Response:
    """Save what was taught as the connection's settings, if it makes a sale, and read again what could not be read."""
    draft = await load_taught_draft(visit)
    connection = await _load_connection(visit, draft)
    sample = draft.content.sample
    if sample is None:
        raise PageNotFound
    # the connection may have been edited since the draft began: only what was taught replaces what it has now
    before = visit.services.connections.settings_of(connection)
    changed = _changed_settings(draft.onboarding.connector_class, before, draft)
    try:
        bodies = [sample.content]
        values = {**before, **changed}
        await visit.services.checks.check_samples(connection.connector, values, bodies, tenant=visit.owner_id)
        if changed:
            await visit.services.connections.edit(connection.id, changed)
        # the settings are saved by now: what waits is read by them
        result = await visit.services.review.retry_unread(connection.id)
    except Refusal as error:
        return visit.redirect(draft.summary, error.message, "bad")
    await visit.services.drafts.discard(draft.onboarding.draft)
    return visit.redirect(f"/connections/{connection.id}", Message("unread.read", {"count": result.read}))


async def _load_connection(visit: Visit, draft: TaughtDraft) -> Connection:
    """Return the connection that a draft teaches once more.

    Raises `PageNotFound` where the signed-in business has it no more.
    """
    connection_id = draft.content.mends or ""
    overview = await visit.host.store.read(lambda tx: queries.overviews.overview(tx, connection_id))
    if overview is None or visit.principal.business_id not in (None, overview.connection.business_id):
        raise PageNotFound
    return overview.connection


def _changed_settings(connector_class: ConnectorClass, before: SettingValues, draft: TaughtDraft) -> dict[str, str]:
    """Return the settings that were taught and are not what they were; secrets are not taught."""
    return {
        name: value
        for name, value in draft.values.items()
        if not is_secret(connector_class, name) and str(before.get(name) or "") != value
    }

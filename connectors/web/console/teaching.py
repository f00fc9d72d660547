"""Teaching a till that nobody knows: a request of it is chosen, and one question after another answered by a tap.

Owns these pages; what is asked and what answers mean is the connector's `teaching`, how they look is `samples`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from starlette.responses import Response

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.teaching import Question, as_texts
from connectors.isolation.runner import RemoteTeaching
from connectors.services import Refusal
from connectors.store import connections, inbox, queries
from connectors.store.connections.drafts import Draft
from connectors.store.engine import Transaction
from connectors.web.console import samples
from connectors.web.console.connecting import MENDING, draft_of, keep_draft, step_page, usual
from connectors.web.console.forms import is_secret
from connectors.web.console.frame import NotHere, Pages, Visit

pages = Pages()

_MOST_PASTED = 200 * 1024
_NOTHING_YET = Message("No sale has arrived yet by which it could be taught.")
_PASTE = Message("Paste one request as your till sends it, of at most 200 KiB.")


async def _taught(visit: Visit) -> tuple[Draft, type[Connector[Any]], RemoteTeaching]:
    one, found = await draft_of(visit)
    teaching = visit.teaching(found)
    if teaching is None:
        raise NotHere
    return one, found, teaching


def _values(one: Draft) -> dict[str, str]:
    return as_texts(one.content.get("values", {}))


# a form writes most signs of JSON as three
@pages.post("/connect/{draft}/sample", page="/connect/{draft}/authorise", most=4 * _MOST_PASTED)
async def sample(visit: Visit) -> Response:
    """Choose the request to teach by: one that arrived, or one that was pasted."""
    one, found, teaching = await _taught(visit)
    wanted, pasted = visit.form.get("request"), visit.form.get("pasted").strip()
    if wanted:
        request = next((kept for kept in await samples.arrived(visit, one) if kept.id == wanted), None)
        if request is None:
            raise NotHere
        chosen = samples.as_sample(request.body, request.headers, request.id)
        owner, name = f"{inbox.captured.OF_DRAFT}{one.id}", request.id
        await visit.host.store.write(lambda tx: inbox.captured.choose(tx, owner, name))
        hook = request.request
    else:
        body = pasted.encode()
        if not body or len(body) > _MOST_PASTED:
            return visit.go(f"/connect/{one.id}/authorise", _PASTE, "bad")
        chosen, hook = samples.as_sample(body, {}, ""), HookRequest("POST", {}, {}, body)
    values = {**await usual(visit, found), **await teaching.proof(hook), **_values(one)}
    await keep_draft(visit, one, sample=chosen, values=values, skipped=[])
    return visit.go(f"/connect/{one.id}/teach")


@pages.get("/connect/{draft}/teach")
async def teach_page(visit: Visit) -> Response:
    """The next question, the one that the address names, or what it has all come to."""
    one, found, teaching = await _taught(visit)
    body = samples.sample_of(one)
    if body is None:
        return visit.go(f"/connect/{one.id}/authorise")
    values = _values(one)
    asked = await teaching.questions(values, body)
    wanted = visit.request.query_params.get("ask", "")
    question = next((q for q in asked if q.field == wanted), None)
    if question is None and not visit.request.query_params.get("all"):
        return visit.go(_next(one, asked, values))
    leaves = await teaching.leaves(values, body, question.field) if question else ()
    number = [q.field for q in asked].index(question.field) if question else 0
    return step_page(
        visit,
        one,
        found,
        "authorise",
        template="connect_teach.html",
        question=question,
        number=number + 1,
        questions=len(asked),
        previous=asked[number - 1].field if question and number else "",
        tree=samples.tree(leaves),
        hidden=samples.hidden,
        likely=[leaf for leaf in leaves if leaf.likely][:3],
        answered=values.get(question.field, "") if question else "",
        onward=_next(one, asked, values),
        mends=one.content.get("mends"),
        read=await samples.read(visit, one, found, values),
    )


def _next(one: Draft, asked: tuple[Question, ...], values: Mapping[str, str], after: str = "") -> str:
    """The address of the first question (after one) that has no answer yet, or of what it has all come to."""
    fields = [question.field for question in asked]
    skipped = one.content.get("skipped", [])
    start = fields.index(after) + 1 if after in fields else 0
    for field in fields[start:] + fields[:start]:
        if not values.get(field) and field not in skipped and field != after:
            return f"/connect/{one.id}/teach?ask={field}"
    return f"/connect/{one.id}/teach?all=1"


@pages.post("/connect/{draft}/teach", page="/connect/{draft}/teach")
async def teach(visit: Visit) -> Response:
    """An answer: a path, or that there is none. One that cannot be read is said to be, and the question stays."""
    one, _, teaching = await _taught(visit)
    body = samples.sample_of(one)
    if body is None:
        return visit.go(f"/connect/{one.id}/authorise")
    values, form = _values(one), visit.form
    field = form.get("field")
    question = next((q for q in await teaching.questions(values, body) if q.field == field), None)
    if question is None or ("skip" in form and question.needed):
        raise NotHere
    skipped = [name for name in one.content.get("skipped", []) if name != field]
    changed: Mapping[str, str] = {**values, field: ""}
    if "skip" in form:
        skipped.append(field)
    else:
        path = form.get("path")
        if path not in {leaf.path for leaf in await teaching.leaves(values, body, field)}:
            raise NotHere
        changed = await teaching.taken(values, body, field, path)
    await keep_draft(visit, one, values=dict(changed), skipped=skipped)
    made = await teaching.sketch(changed, body)
    if "skip" not in form and field in made.wrong:
        return visit.go(f"/connect/{one.id}/teach?ask={field}", made.wrong[field], "bad")
    kept = replace(one, content={**one.content, "skipped": skipped})
    return visit.go(_next(kept, await teaching.questions(changed, body), changed, field))


# --- a connection's own, mended in the same way ---------------------------------------------------------------------


@pages.post("/connections/{connection}/teach", page="/connections/{connection}/settings")
async def mend(visit: Visit) -> Response:
    """Teach a connected till once more: by a request that could not be read, or by the last one that was."""
    one = (await visit.overview()).connection
    found = visit.services.connector_class(one.connector)
    teaching = visit.teaching(found)
    if teaching is None:
        raise NotHere
    wanted, owner = visit.form.get("kept"), visit.owner
    if wanted:
        body = await visit.services.review.unread_body(one.id, wanted)
    else:
        requests = await visit.host.store.read(lambda tx: inbox.captured.of_owner(tx, one.id))
        if not requests:
            return visit.go(f"/connections/{one.id}/settings", _NOTHING_YET, "bad")
        body = requests[0].body
    owner = f"{MENDING}{owner}"  # nothing that the catalogue says one began to connect
    values = {
        name: value for name, value in visit.services.connections.settings_of(one).items() if not is_secret(found, name)
    }
    texts = as_texts(values)
    # what it was not asked before it is not asked now: only what is wrong
    skipped = [asked.field for asked in await teaching.questions(texts, body) if not texts.get(asked.field)]
    content = {"mends": one.id, "values": values, "sample": samples.as_sample(body, {}, ""), "skipped": skipped}

    def work(tx: Transaction) -> str:
        draft = connections.drafts.begin(tx, owner, one.connector)
        made = connections.drafts.get(tx, draft, owner)
        if made is None:
            raise NotHere
        connections.drafts.save(tx, made, content)
        return draft

    return visit.go(f"/connect/{await visit.host.store.write(work)}/teach?all=1")


@pages.post("/connect/{draft}/mend", page="/connect/{draft}/teach")
async def mended(visit: Visit) -> Response:
    """What was taught becomes the connection's settings, if it makes a sale; what could not be read is tried again."""
    one, found, _ = await _taught(visit)
    wanted, body = one.content.get("mends", ""), samples.sample_of(one)
    there = await visit.host.store.read(lambda tx: queries.overviews.overview(tx, wanted))
    if body is None or there is None or visit.me.visitor.business_id not in (None, there.connection.business_id):
        raise NotHere
    values = _values(one)
    before = visit.services.connections.settings_of(there.connection)
    changed = {
        name: value
        for name, value in values.items()
        if not is_secret(found, name) and str(before.get(name) or "") != value
    }
    back = f"/connect/{one.id}/teach?all=1"
    try:
        await visit.services.checks.check_samples(one.connector, {**before, **changed}, [body], tenant=visit.owner)
        if changed:
            await visit.services.connections.edit(wanted, changed)
        again = await visit.services.review.retry_unread(wanted)
    except Refusal as error:
        return visit.go(back, error.message, "bad")
    await visit.host.store.write(lambda tx: connections.drafts.delete(tx, one.id, one.owner))
    return visit.go(f"/connections/{wanted}", Message("unread.read", {"count": again["read"]}))

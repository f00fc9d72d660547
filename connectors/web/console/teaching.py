"""Teaching a till that nobody knows: a request of it is chosen, and one question after another answered by a tap.

Owns these pages; what is asked and what answers mean is the connector's `teaching`, how they look is `samples`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from connector_sdk.connector import Connector
from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.teaching import Teaching
from connectors.store.drafts import Draft
from connectors.web.console import samples
from connectors.web.console.connecting import draft_of, keep_draft, step_page, usual
from connectors.web.console.frame import NotHere, Pages, Visit

pages = Pages()

_MOST_PASTED = 200 * 1024
_PASTE = Message("Paste one request as your till sends it, of at most 200 KiB.")


async def _taught(visit: Visit) -> tuple[Draft, type[Connector[Any]], Teaching]:
    one, found = await draft_of(visit)
    if found.teaching is None:
        raise NotHere
    return one, found, found.teaching


def _values(one: Draft) -> dict[str, str]:
    return {name: str(value) for name, value in one.content.get("values", {}).items() if value is not None}


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
        hook = request.request
    else:
        body = pasted.encode()
        if not body or len(body) > _MOST_PASTED:
            return visit.go(f"/connect/{one.id}/authorise", _PASTE, "bad")
        chosen, hook = samples.as_sample(body, {}, ""), HookRequest("POST", {}, {}, body)
    values = {**await usual(visit, found), **teaching.proof(hook), **_values(one)}
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
    asked = teaching.questions(values, body)
    wanted = visit.request.query_params.get("ask", "")
    skipped = one.content.get("skipped", [])
    question = next((q for q in asked if q.field == wanted), None)
    if question is None and not visit.request.query_params.get("all"):
        question = next((q for q in asked if not values.get(q.field) and q.field not in skipped), None)
    leaves = teaching.leaves(values, body, question.field) if question else ()
    return step_page(
        visit,
        one,
        found,
        "authorise",
        template="connect_teach.html",
        question=question,
        number=1 + [q.field for q in asked].index(question.field) if question else 0,
        questions=len(asked),
        tree=samples.tree(leaves),
        hidden=samples.hidden,
        likely=[leaf for leaf in leaves if leaf.likely][:3],
        answered=values.get(question.field, "") if question else "",
        read=samples.read(visit, one, found, values),
    )


@pages.post("/connect/{draft}/teach", page="/connect/{draft}/teach")
async def teach(visit: Visit) -> Response:
    """An answer: a path, "my till has none", or the other way to read a number."""
    one, _, teaching = await _taught(visit)
    body = samples.sample_of(one)
    if body is None:
        return visit.go(f"/connect/{one.id}/authorise")
    values, form = _values(one), visit.form
    skipped = [*one.content.get("skipped", [])]
    asked = {question.field for question in teaching.questions(values, body)}
    field = form.get("field")
    changed: Mapping[str, str] = values
    if "offer" in form:
        offers = teaching.sketch(values, body).offers
        number = form.get("offer")
        if not number.isdigit() or int(number) >= len(offers):
            raise NotHere
        changed = {**values, **offers[int(number)].values}
        await keep_draft(visit, one, values=dict(changed))
        return visit.go(f"/connect/{one.id}/teach?all=1")
    if field not in asked:
        raise NotHere
    if "skip" in form:
        skipped.append(field)
        changed = {**values, field: ""}
    else:
        path = form.get("path")
        if path not in {leaf.path for leaf in teaching.leaves(values, body, field)}:
            raise NotHere
        changed = teaching.taken(values, body, field, path)
        skipped = [name for name in skipped if name != field]
    await keep_draft(visit, one, values=dict(changed), skipped=skipped)
    return visit.go(f"/connect/{one.id}/teach")

"""The buttons of a connection's page: sync now, pause, resume, and letting us in again.

Owns what each says and the page before a resume; what each does is `connectors.services`'.
"""

from __future__ import annotations

import asyncio

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.connection import Connection, Health
from connectors.services import Refusal, SyncResult
from connectors.services.consents import ConsentTarget
from connectors.web.console.consent import leave_for_consent
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()

_SYNC_PATIENCE = 20.0
"""Seconds after which a sync goes on without anybody waiting for its page."""


@router.post("/connections/{connection}/sync", Role.manager, page="/connections/{connection}")
async def sync(visit: Visit) -> Response:
    """Read the till and send what waits, now; a sync that takes long goes on without the page."""
    connection = (await visit.load_overview()).connection
    page = f"/connections/{connection.id}"
    task = _start_sync(visit, connection)
    try:
        # shielded: the browser's patience ends the waiting, not the work
        result = await asyncio.wait_for(asyncio.shield(task), _SYNC_PATIENCE)
    except TimeoutError:
        return visit.redirect(page, Message("Still reading: what it brings shows here as it comes."))
    except Refusal as error:
        return visit.redirect(page, error.message, "bad")
    # the sync itself succeeded: the till or 7stamp did not, and the page says which below
    if result.status:
        return visit.redirect(page, Message("The till or 7stamp could not be reached: see below."), "bad")
    return visit.redirect(page, Message("sync.done", {"count": result.sales_seen, "changed": result.sales_changed}))


def _start_sync(visit: Visit, connection: Connection) -> asyncio.Task[SyncResult]:
    """Return the sync that is under way for a connection, or a new one.

    However often the button is pressed, a till is read once at a time.
    """
    syncs = visit.console.sync_tasks
    if connection.id not in syncs:
        syncs[connection.id] = task = asyncio.create_task(visit.services.sync.run(connection.id))
        # the exception is looked at even where nobody waits any more: asyncio would complain of it
        task.add_done_callback(lambda done: (syncs.pop(connection.id, None), done.cancelled() or done.exception()))
    return syncs[connection.id]


@router.post("/connections/{connection}/pause", Role.manager, page="/connections/{connection}")
async def pause(visit: Visit) -> Response:
    """Stop reading and sending."""
    connection = (await visit.load_overview()).connection
    await visit.services.connections.pause(connection.id)
    return visit.redirect(f"/connections/{connection.id}", Message("Paused. Nothing is read and nothing is sent."))


@router.get("/connections/{connection}/resume", Role.manager)
async def resume_page(visit: Visit) -> Response:
    """Ask whether the receipts of the pause shall earn stamps, with how many there are and what the plan has left."""
    connection = (await visit.load_overview()).connection
    if connection.health is not Health.paused:
        return visit.redirect(f"/connections/{connection.id}")
    # both are asked from outside and may be unknown: the question is put all the same, without the numbers
    missed = await visit.services.sync.count_since_pause(connection)
    plan = await visit.services.plans.of_business(connection.business_id)
    return visit.render("resume.html", connection=connection, missed=missed, plan=plan)


@router.post("/connections/{connection}/resume", Role.manager)
async def resume(visit: Visit) -> Response:
    """Work again, with the receipts of the pause or without them."""
    connection = (await visit.load_overview()).connection
    page = f"/connections/{connection.id}"
    try:
        await visit.services.connections.resume(connection.id, leave_out=visit.form.get("pause") == "leave")
    except Refusal as error:
        return visit.redirect(page, error.message, "bad")
    return visit.redirect(page, Message("Working again."))


@router.post("/connections/{connection}/recheck", Role.manager, page="/connections/{connection}")
async def recheck(visit: Visit) -> Response:
    """Ask till and 7stamp whether a connection that was refused works again."""
    connection = (await visit.load_overview()).connection
    page = f"/connections/{connection.id}"
    visit.limit_recheck()
    try:
        await visit.services.connections.recheck(connection.id)
    except Refusal as error:
        return visit.redirect(page, error.message, "bad")
    return visit.redirect(page, Message("Working again."))


@router.post("/connections/{connection}/consent", page="/connections/{connection}")
async def authorise_again(visit: Visit) -> Response:
    """Go to the till's consent page, to let an existing connection in again."""
    connection = (await visit.load_overview()).connection
    return await leave_for_consent(visit, ConsentTarget(connection.connector, connection=connection.id))


@router.post("/connections/{connection}/plan", Role.manager, page="/connections/{connection}")
async def check_plan(visit: Visit) -> Response:
    """Ask 7stamp how much of the plan is used: somebody who has bought a larger one waits for the stamps."""
    connection = (await visit.load_overview()).connection
    visit.limit_plan_check()
    try:
        plan = await visit.services.plans.check(connection.business_id)
    except Refusal as error:
        return visit.redirect(f"/connections/{connection.id}", error.message, "bad")
    text = "The plan is still used up." if plan.is_used_up else "The plan has room: what waited is on its way."
    return visit.redirect(f"/connections/{connection.id}", Message(text))

"""The calls about connections, receipts, operations, events and sales.

Owns which service each asks and how its answer looks; a connection of another business is never more than not found.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from datetime import date, timedelta
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import ValidationError

from connector_sdk.money import Money
from connector_sdk.sale import Customer, Line, Sale, SaleStatus
from connectors.domain.clock import moment
from connectors.domain.connection import Connection, Health
from connectors.services import Refusal
from connectors.services.results import ignore
from connectors.services.shapes import LoyaltyEventShape, OperationShape, iso, iso_or_none
from connectors.services.sync import MOST_DAYS_BACK, PreviewedReceipt
from connectors.store import host_commands, inbox, ledger, queries
from connectors.store.errors import NotFound
from connectors.store.queries.receipts import ListedReceipts, Receipt
from connectors.sync.snapshots import Snapshot, Source
from connectors.web.api.access import Actor, AnyCaller, Caller, IdempotencyKey, Reader, Seller, once
from connectors.web.api.bodies import (
    BackfillRequest,
    ConnectionBody,
    DayBody,
    JobBody,
    MeBody,
    PlanBody,
    PreviewedBody,
    ReceiptBody,
    ReceiptStory,
    SoldBody,
    SoldRequest,
    StoryEntry,
)
from connectors.web.api.problems import Problem, invalid
from connectors.web.api.routing import (
    ApiRoute,
    CursorText,
    Day,
    Limit,
    Page,
    Text,
    cursor_of,
    moment_and_id_from,
    number_from,
    problems,
)
from connectors.web.console.localization import Localizer, language_for, zone_of
from connectors.web.console.receipt_timeline import build_history
from connectors.web.console.search_terms import SearchContext, parse_terms

router = APIRouter(route_class=ApiRoute)

ConnectionId = Annotated[str, Path(alias="connection", max_length=128, examples=["poster-1a2b3c"])]
_PREVIEWED = 200
_PREVIEW_SECONDS = 20.0
_MOST_DAYS = 400


@router.get("/me", operation_id="me", summary="What this token is", responses=problems(), tags=["token"])
async def me(caller: AnyCaller) -> MeBody:
    """Say which business the token is of, what it may do, and how much of the business' 7stamp plan is used."""
    token, plan = caller.token, await caller.services.plans.of_business(caller.business_id)
    return MeBody(
        business=token.business_id,
        title=token.title,
        scopes=sorted(token.scopes),
        plan=PlanBody.of(plan) if plan is not None else None,
    )


# --- connections ----------------------------------------------------------------------------------------------------


@router.get(
    "/connections", operation_id="connections", summary="The connections", responses=problems(), tags=["connections"]
)
async def connections(caller: Reader) -> Page[ConnectionBody]:
    """List the connections of the business, oldest first."""
    services = caller.services.connections
    mine = await services.list_all(caller.business_id)
    return Page(items=[ConnectionBody.of(await services.describe(one)) for one in mine], next=None)


@router.get(
    "/connections/{connection}",
    operation_id="connection",
    summary="One connection",
    responses=problems(),
    tags=["connections"],
)
async def connection(caller: Reader, connection_id: ConnectionId) -> ConnectionBody:
    """Show one connection."""
    return ConnectionBody.of(await caller.services.connections.describe(await caller.connection(connection_id)))


@router.get(
    "/connections/{connection}/totals",
    operation_id="totals",
    summary="What each day came to",
    responses=problems(),
    tags=["connections"],
)
async def totals(
    caller: Reader,
    connection_id: ConnectionId,
    since: Annotated[Day, Query(alias="from", examples=["2026-11-01"])],
    until: Annotated[Day, Query(alias="to", examples=["2026-11-30"])],
) -> Page[DayBody]:
    """Sum up receipts, stamps and vouchers of each day, in the till's time zone; days without any are left out."""
    shown = await caller.connection(connection_id)
    if not timedelta() <= until - since <= timedelta(days=_MOST_DAYS):
        raise invalid("from, to", f"at most {_MOST_DAYS} days, the first one first")
    days = await caller.host.store.read(lambda tx: ledger.daily_totals.of_days(tx, [shown.id], since.isoformat()))
    return Page(
        items=[
            DayBody(
                day=date.fromisoformat(day),
                receipts=one.receipts,
                stamps=one.stamps,
                taken_back=one.taken_back,
                redemptions=one.redemptions,
            )
            for day, one in sorted(days.get(shown.id, {}).items())
            if day <= until.isoformat()
        ],
        next=None,
    )


@router.get(
    "/connections/{connection}/preview",
    operation_id="preview",
    summary="What receipts of the till would earn",
    responses=problems(409, 503),
    tags=["connections"],
)
async def preview(
    caller: Reader,
    connection_id: ConnectionId,
    since: Annotated[Day, Query(description="The first day, in the till's time zone", examples=["2026-11-25"])],
) -> Page[PreviewedBody]:
    """Read the till and say what each receipt would earn, the first 200 of them; nothing is stored or sent."""
    shown = await caller.connection(connection_id)

    _require_recent(caller, since)
    items: list[PreviewedBody] = []
    try:
        async with asyncio.timeout(_PREVIEW_SECONDS):
            async for previewed in caller.services.sync.preview_history(shown.id, since.isoformat(), ignore):
                items.append(_previewed(caller, previewed))
                if len(items) == _PREVIEWED:
                    break
    except TimeoutError:
        raise Problem("unavailable", "the till took too long: begin with a later day") from None
    return Page(items=items, next=None)


def _require_recent(caller: Caller, since: date) -> None:
    """Refuse a day that no till is read back to. Raises `Problem`."""
    today = moment(caller.host.store.clock.now()).date()
    if not timedelta(days=-1) <= today - since <= timedelta(days=MOST_DAYS_BACK):
        raise invalid("since", f"a day of the last {MOST_DAYS_BACK // 366} years")


def _previewed(caller: Caller, previewed: PreviewedReceipt) -> PreviewedBody:
    sale, earned = previewed.sale, previewed.earned
    if sale is None or earned is None:
        wrong = previewed.unreadable
        why = f"{wrong.where}: {wrong.why}" if wrong is not None else ""
        receipt = wrong.receipt_id if wrong is not None else None
        return PreviewedBody(receipt=receipt, closed_at=None, paid=None, currency=None, stamps=None, why=why)
    return PreviewedBody(
        receipt=sale.receipt_id,
        closed_at=sale.closed_at.isoformat() if sale.closed_at is not None else None,
        paid=sale.paid.decimal,
        currency=sale.paid.currency,
        stamps=earned.stamps,
        why=caller.host.words.word(earned.why),
    )


# --- receipts -------------------------------------------------------------------------------------------------------


@router.get(
    "/connections/{connection}/receipts",
    operation_id="receipts",
    summary="Receipts, newest first",
    responses=problems(),
    tags=["receipts"],
)
async def receipts(
    caller: Reader,
    connection_id: ConnectionId,
    q: Annotated[Text, Query(description="A receipt, phone, amount, day or time, as in the console")] = "",
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[ReceiptBody]:
    """List the receipts of a connection, or the newest fifty that fit what is searched for."""
    shown, after = await caller.connection(connection_id), moment_and_id_from(cursor)
    store = caller.host.store
    if q.strip():
        account = shown.account
        words = _localizer(caller, "", shown)
        context = SearchContext(words.zone, words.now, account.currency, account.country, words.locale)
        terms = parse_terms(q, context)
        found = await store.read(lambda tx: queries.receipts.search(tx, shown, terms, min(limit, 50)))
        return Page(items=[_receipt(one) for one in found], next=None)
    page = await store.read(lambda tx: queries.receipts.listed(tx, shown.id, ListedReceipts(behind=after), limit))
    last = page[-1] if len(page) == limit else None
    more = cursor_of(last.closed_at, last.id) if last is not None and last.closed_at is not None else None
    return Page(items=[_receipt(one) for one in page], next=more)


def _receipt(receipt: Receipt) -> ReceiptBody:
    return ReceiptBody.model_validate(_receipt_facts(receipt))


def _receipt_facts(receipt: Receipt) -> dict[str, object]:
    return {
        "id": receipt.id,
        "receipt": receipt.receipt_id,
        "status": receipt.status,
        "closed_at": iso_or_none(receipt.closed_at),
        "paid": Money(receipt.paid, receipt.currency).decimal,
        "currency": receipt.currency,
        "stamps": receipt.stamps if receipt.admitted else 0,
        "card_ending": receipt.card_hint,
        "customer": receipt.customer,
    }


@router.get(
    "/connections/{connection}/receipts/{receipt}",
    operation_id="receipt",
    summary="One receipt with its story",
    responses=problems(),
    tags=["receipts"],
)
async def receipt(
    caller: Reader,
    connection_id: ConnectionId,
    receipt_id: Annotated[str, Path(alias="receipt", max_length=128, description="`id` of the list")],
    request: Request,
) -> ReceiptStory:
    """Show a receipt, what it made 7stamp do, and everything that happened to it."""
    shown, store = await caller.connection(connection_id), caller.host.store
    details = await store.read(lambda tx: queries.receipts.details(tx, shown.id, receipt_id))
    if details is None:
        raise NotFound(f"connection {shown.id} has no receipt {receipt_id!r}")
    tries = await store.read(lambda tx: queries.operations.of_sale(tx, receipt_id))
    lines = await store.read(lambda tx: ledger.journal.of_sale(tx, receipt_id))
    localizer = _localizer(caller, request.headers.get("accept-language", ""), shown)
    history = build_history(localizer, details, tries, lines)
    return ReceiptStory.model_validate(
        {
            **_receipt_facts(details.receipt),
            "location": details.location_id,
            "refunded": Money(details.refunded, details.receipt.currency).decimal,
            "operations": [OperationShape.of(one.operation) for one in tries],
            "story": [
                StoryEntry(at=iso(entry.at), text=entry.text, detail=entry.detail, by=entry.by) for entry in history
            ],
        }
    )


def _localizer(caller: Caller, accepted: str, shown: Connection) -> Localizer:
    catalogue = caller.host.words
    language = language_for(catalogue, "", accepted)
    return Localizer(catalogue, language, zone_of(shown.account.zone), caller.host.store.clock.now())


# --- operations -----------------------------------------------------------------------------------------------------


@router.get(
    "/connections/{connection}/operations",
    operation_id="operations",
    summary="What is on its way to 7stamp, newest first",
    responses=problems(),
    tags=["operations"],
)
async def operations(
    caller: Reader,
    connection_id: ConnectionId,
    state: Literal["pending", "applied", "held", "rejected", "cancelled"] | None = None,
    limit: Limit = 50,
    cursor: CursorText = None,
) -> Page[OperationShape]:
    """List the operations of a connection."""
    shown, before = await caller.connection(connection_id), number_from(cursor)
    page = await caller.host.store.read(
        lambda tx: queries.operations.list_newest(tx, shown.id, state=state, limit=limit, before=before)
    )
    newest_first = page[::-1]
    more = cursor_of(newest_first[-1].seq) if len(newest_first) == limit else None
    return Page(items=[OperationShape.of(one) for one in newest_first], next=more)


@router.post(
    "/connections/{connection}/operations/{operation}/{action}",
    operation_id="act",
    summary="Try an operation again, or give it up",
    responses=problems(409),
    tags=["operations"],
)
async def act(
    caller: Actor,
    connection_id: ConnectionId,
    operation_id: Annotated[str, Path(alias="operation", max_length=128)],
    action: Literal["retry", "dismiss"],
) -> OperationShape:
    """Let a held or rejected operation go out again, beyond any cap; or give a held one up."""
    shown = await caller.connection(connection_id)
    review = caller.services.review
    await (review.retry(shown.id, operation_id) if action == "retry" else review.dismiss(shown.id, operation_id))
    operation = await caller.host.store.read(lambda tx: ledger.operations.get(tx, shown.id, operation_id))
    return OperationShape.of(operation)


# --- jobs -----------------------------------------------------------------------------------------------------------


@router.post(
    "/connections/{connection}/backfills",
    operation_id="backfill",
    summary="Take in a till's history, as a job",
    status_code=202,
    response_model=JobBody,
    responses=problems(409),
    tags=["jobs"],
)
async def backfill(
    caller: Actor, connection_id: ConnectionId, body: BackfillRequest, request: Request, key: IdempotencyKey = None
) -> Response:
    """Have receipts from before the connection earn stamps too; ask for the job to see how far it has come."""
    shown = await caller.connection(connection_id)
    if shown.health is not Health.active and shown.health is not Health.failing:
        raise Refusal("this connection is not working: see its state")
    _require_recent(caller, body.since)

    async def work() -> JobBody:
        job = await caller.services.commands.ask_for_history(shown.id, body.since.isoformat())
        if not job.is_new:
            raise Problem("refused", f"a backfill is under way already: job {job.id}")
        return await _job(caller, job.id)

    return await once(caller, request, key, 202, work)


@router.get("/jobs/{job}", operation_id="job", summary="How far a job has come", responses=problems(), tags=["jobs"])
async def job(caller: Actor, job_id: Annotated[str, Path(alias="job", max_length=64)]) -> JobBody:
    """Show a job, for a week after it ended."""
    return await _job(caller, job_id)


async def _job(caller: Caller, job_id: str) -> JobBody:
    command = await caller.host.store.read(lambda tx: host_commands.find(tx, job_id))
    if command is None or not command.connection_id:
        raise NotFound(f"there is no job {job_id!r}")
    with suppress(NotFound):
        await caller.connection(command.connection_id)
        result = dict(command.result or {})
        error = result.pop("error", None)
        done = (command.progress or {}).get("done")
        return JobBody(
            id=command.id,
            kind=command.kind,
            state=command.state.value,
            done=float(done) if isinstance(done, int | float) else None,
            result=result or None,
            error=str(error) if error is not None else None,
        )
    raise NotFound(f"there is no job {job_id!r}")


# --- events of 7stamp -----------------------------------------------------------------------------------------------


@router.get(
    "/events", operation_id="events", summary="What 7stamp said, newest first", responses=problems(), tags=["events"]
)
async def events(caller: Reader, limit: Limit = 50, cursor: CursorText = None) -> Page[LoyaltyEventShape]:
    """List what 7stamp said of the business's cards, as long as events are kept."""
    before = number_from(cursor)
    page = await caller.host.store.read(lambda tx: inbox.loyalty_events.newest(tx, caller.business_id, limit, before))
    more = cursor_of(page[-1].seq) if len(page) == limit else None
    return Page(items=[LoyaltyEventShape.of(one) for one in page], next=more)


# --- sales ----------------------------------------------------------------------------------------------------------


@router.post(
    "/sales",
    operation_id="sell",
    summary="Report a sale",
    response_model=SoldBody,
    responses=problems(409),
    tags=["sales"],
)
async def sell(caller: Seller, body: SoldRequest, request: Request, key: IdempotencyKey = None) -> Response:
    """Take in a receipt as the till knows it now. The same receipt again changes nothing; a changed one corrects."""
    shown = await caller.connection(body.connection)
    connector_class = caller.services.connector_class(shown.connector)
    if connector_class.can("poll") or connector_class.can("fetch"):
        raise Refusal("this connection reads its till by itself: report sales to one whose till only sends")
    sale = _sale_of(body, shown)

    async def work() -> SoldBody:
        snapshot = Snapshot(shown, sale, Source.push, None, fetches=False)
        (outcome,) = await caller.host.ingestor.ingest([snapshot])
        return SoldBody(receipt=sale.receipt_id, outcome=outcome.value)

    return await once(caller, request, key, 200, work)


def _sale_of(body: SoldRequest, shown: Connection) -> Sale:
    """Return a reported receipt as a sale. Raises `Problem` that names the field."""
    currency = shown.account.currency
    try:
        paid, refunded = Money.from_decimal(body.paid, currency), Money.from_decimal(body.refunded, currency)
    except ValueError:
        raise invalid("paid, refunded", f"no amount of {currency}") from None
    known = {location.id for location in shown.account.locations}
    if body.location is not None and known and body.location not in known:
        raise invalid("location", "not a location of this connection's account")
    names = {kind: name for kind, name in body.customer.model_dump().items() if name} if body.customer else {}
    try:
        return Sale(
            receipt_id=body.receipt,
            version=body.version,
            status=SaleStatus(body.status),
            closed_at=body.closed_at,
            paid=paid,
            refunded=refunded,
            customer=Customer(**names) if names else None,
            lines=tuple(
                Line(
                    product_id=line.product,
                    category_id=line.category,
                    quantity=line.quantity,
                    refunded_quantity=line.refunded_quantity,
                    gift=line.gift,
                )
                for line in body.lines
            ),
            redeem_codes=tuple(body.redeem_codes),
            location_id=body.location,
            gift=body.gift,
        )
    except ValidationError as error:
        raise invalid("sale", str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None

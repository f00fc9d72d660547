"""What subscribers are told: one documented JSON body for each event, and what of it a subscription may see.

Owns the shapes, from which the published schema is made; a body is stored with everything in it, and what is personal
is taken out for a subscriber who did not ask for it.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from connector_sdk.loyalty import CLASSES, LoyaltyEvent, LoyaltyVoucher
from connector_sdk.money import Money
from connector_sdk.redaction import personal_name, redact
from connector_sdk.sale import Sale
from connectors.domain.clock import micros, moment
from connectors.domain.events import (
    DomainEvent,
    HealthChanged,
    LoyaltyEventReceived,
    OperationSettled,
    ReconciliationDiffers,
    SaleIngested,
)
from connectors.store.relay.deliveries import CARD_LANE, NewEvent

_EXAMPLE_ID = "evt_example"
_SPENT = ("redeemed", "expired")
"""States of a voucher in which its redeem code is of no use to anybody any more."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class CustomerPart(_Part):
    """Whose card it is."""

    id: str | None = None
    wallet_pass_id: str | None = None
    language: str | None = None
    number: str | None = None
    """Personal: only where the subscription asks for it."""
    phone: str | None = None
    """Personal, in E.164."""
    email: str | None = None
    """Personal."""
    till_id: str | None = None
    """Personal: the till's own id of its customer."""


class CardPart(_Part):
    """A card: `stamps` are those towards the next goal."""

    id: str | None = None
    number: str | None = None
    """Personal: only where the subscription asks for it."""
    goal_index: int | None = None
    stamps: int | None = None
    goal: int | None = None


class VoucherPart(_Part):
    """A voucher."""

    id: str | None = None
    type: str | None = None
    redeem_code: str | None = None
    """Only where the subscription asks for personal data, as long as the voucher can still be used."""
    redeem_code_formats: tuple[str, ...] = ()
    status: str | None = None
    redeemed_via: str | None = None


class ConnectionPart(_Part):
    """The connection that it is about."""

    id: str
    connector: str
    account: str
    title: str


class MoneyPart(_Part):
    """An amount as a decimal text, in a currency of ISO 4217."""

    amount: str
    currency: str


class LoyaltyData(_Part):
    """What 7stamp said."""

    location: str | None = None
    customer: CustomerPart = CustomerPart()
    card: CardPart = CardPart()
    code: str | None = None
    """The operation that caused it, where a till did."""
    receipt: str | None = None
    count: int | None = None
    """How many stamps, of `stamp_added`."""
    reward: str | None = None
    """award, voucher or lottery, of `reward_issued`."""
    voucher: VoucherPart | None = None
    result: str | None = None
    """Of `lottery_played`."""
    channel: str | None = None
    """push, email or messengers, of `campaign_sent`."""
    campaign: str | None = None
    further: Mapping[str, JsonValue] = {}
    """What else 7stamp sent; without what looks personal, unless the subscription asks for it."""


class SaleData(_Part):
    """A receipt as the till shows it now."""

    connection: ConnectionPart
    receipt: str
    status: Literal["open", "closed", "voided"]
    closed_at: str | None = None
    paid: MoneyPart
    refunded: MoneyPart
    location: str | None = None
    customer: CustomerPart = CustomerPart()


class OperationData(_Part):
    """Something that 7stamp was to do, and what became of it."""

    connection: str
    """The connection's id."""
    operation: str
    receipt: str
    kind: Literal["stamps_added", "stamps_reversed", "voucher_redeemed"]
    count: int
    code: str
    card: str | None = None
    reason: str | None = None
    """The id of why it is held or was rejected, such as `no_card`."""


class HealthData(_Part):
    """How a connection does."""

    connection: ConnectionPart
    state: Literal["active", "paused", "failing", "needs_authorisation", "removed"]
    reason: str | None = None
    """The id of why."""


class ReconciliationData(_Part):
    """What did not agree between till, ledger and cards."""

    connection: ConnectionPart
    days: tuple[str, ...]
    receipts: int
    """How many receipts were compared."""
    mended: int
    """How many differences were mended."""
    open: int
    """How many need a person."""


class TestData(_Part):
    """A test that somebody sent."""

    text: str


class _Body(_Part):
    id: str
    """The event's id: the same when it is sent again, and in `webhook-id`."""
    timestamp: str
    """When it happened, in ISO 8601 (UTC)."""
    business: str
    """7stamp's id of the business."""


class LoyaltyBody(_Body):
    """An event of 7stamp: one of the thirteen, or one that is newer than this version."""

    type: str = Field(examples=list(CLASSES))
    data: LoyaltyData


class SaleBody(_Body):
    """A new version of a receipt was stored."""

    type: Literal["sale.ingested"] = "sale.ingested"
    data: SaleData


class OperationBody(_Body):
    """An operation ended, or was held."""

    type: Literal["operation.applied", "operation.held", "operation.rejected"]
    data: OperationData


class HealthBody(_Body):
    """A connection's state is another than before."""

    type: Literal["connection.health_changed"] = "connection.health_changed"
    data: HealthData


class ReconciliationBody(_Body):
    """The nightly comparison found differences."""

    type: Literal["reconciliation.differs"] = "reconciliation.differs"
    data: ReconciliationData


class TestBody(_Body):
    """A test."""

    type: Literal["test"] = "test"
    data: TestData


Body = SaleBody | OperationBody | HealthBody | ReconciliationBody | TestBody | LoyaltyBody
"""Every body that a subscriber may get."""
BODIES: Sequence[type[_Body]] = get_args(Body)

JsonObject = Mapping[str, JsonValue]


# Making them


def business_of(event: DomainEvent) -> str:
    """Return the business that an event is of."""
    match event:
        case LoyaltyEventReceived(business_id=business_id) | OperationSettled(business_id=business_id):
            return business_id
        case SaleIngested() | HealthChanged() | ReconciliationDiffers():
            return event.connection.business_id


def name_of(event: DomainEvent) -> str:
    """Return the name by which subscribers ask for an event."""
    match event:
        case LoyaltyEventReceived(event=said):
            return said.event
        case OperationSettled(operation=operation):
            return f"operation.{operation.state}"
        case SaleIngested():
            return "sale.ingested"
        case HealthChanged():
            return "connection.health_changed"
        case ReconciliationDiffers():
            return "reconciliation.differs"


def new_event(event: DomainEvent, now: int) -> NewEvent:
    """Make what is recorded of an event that happened `now` (UTC microseconds), or when 7stamp says."""
    event_id = f"evt_{secrets.token_hex(12)}"
    match event:
        case LoyaltyEventReceived(business_id, said):
            at, lane, data = micros(said.at), f"{CARD_LANE}{said.card.id or said.id}", _loyalty_data(said)
            body: _Body = LoyaltyBody(id=event_id, type=said.event, timestamp=_iso(at), business=business_id, data=data)
        case SaleIngested(connection, sale):
            at, lane = now, f"receipt:{connection.connector}:{connection.account}:{sale.receipt_id}"
            facts = ConnectionPart(
                id=connection.id, connector=connection.connector, account=connection.account, title=connection.title
            )
            body = SaleBody(
                id=event_id,
                timestamp=_iso(at),
                business=connection.business_id,
                data=_sale_data(facts, sale),
            )
        case OperationSettled():
            at, lane = now, f"{CARD_LANE}{event.card_id or event.operation.id}"
            body = _operation_body(event_id, at, event)
        case HealthChanged(connection, health, reason):
            at, lane = now, f"connection:{connection.id}"
            body = HealthBody(
                id=event_id,
                timestamp=_iso(at),
                business=connection.business_id,
                data=HealthData(
                    connection=_connection_part(event),
                    state=health.value,
                    reason=reason.id.removeprefix("why.") if reason is not None else None,
                ),
            )
        case ReconciliationDiffers(connection, days, receipts, mended, still_open):
            at, lane = now, f"connection:{connection.id}"
            body = ReconciliationBody(
                id=event_id,
                timestamp=_iso(at),
                business=connection.business_id,
                data=ReconciliationData(
                    connection=_connection_part(event), days=days, receipts=receipts, mended=mended, open=still_open
                ),
            )
    return NewEvent(event_id, business_of(event), name_of(event), lane, at, body.model_dump_json())


def test_event(business_id: str, text: str, now: int) -> NewEvent:
    """Make a test, which waits for no card."""
    event_id = f"evt_{secrets.token_hex(12)}"
    body = TestBody(id=event_id, timestamp=_iso(now), business=business_id, data=TestData(text=text))
    return NewEvent(event_id, business_id, "test", f"test:{event_id}", now, body.model_dump_json())


def _iso(at: int) -> str:
    return moment(at).isoformat()


def _connection_part(event: HealthChanged | ReconciliationDiffers) -> ConnectionPart:
    connection = event.connection
    return ConnectionPart(
        id=connection.id, connector=connection.connector, account=connection.account, title=connection.title
    )


def _loyalty_data(event: LoyaltyEvent) -> LoyaltyData:
    own = {
        name: getattr(event, name)
        for name in ("count", "reward", "result", "channel", "campaign")
        if name in type(event).model_fields
    }
    voucher = getattr(event, "voucher", None)
    return LoyaltyData(
        location=event.location_id,
        customer=CustomerPart(**event.customer.model_dump()),
        card=CardPart(**event.card.model_dump()),
        code=event.code,
        receipt=event.receipt,
        voucher=VoucherPart(**voucher.model_dump()) if isinstance(voucher, LoyaltyVoucher) else None,
        further=dict(event.further),
        **own,
    )


def _sale_data(connection: ConnectionPart, sale: Sale) -> SaleData:
    customer = sale.customer
    return SaleData(
        connection=connection,
        receipt=sale.receipt_id,
        status=sale.status.value,
        closed_at=sale.closed_at.isoformat() if sale.closed_at is not None else None,
        paid=_money(sale.paid),
        refunded=_money(sale.refunded),
        location=sale.location_id,
        customer=(CustomerPart(**customer.model_dump()) if customer is not None else CustomerPart()),
    )


def _money(money: Money) -> MoneyPart:
    return MoneyPart(amount=money.decimal, currency=money.currency)


def _operation_body(event_id: str, at: int, event: OperationSettled) -> OperationBody:
    operation = event.operation
    return OperationBody.model_validate(
        {
            "id": event_id,
            "type": f"operation.{operation.state}",
            "timestamp": _iso(at),
            "business": event.business_id,
            "data": {
                "connection": event.connection_id,
                "operation": operation.id,
                "receipt": operation.receipt_id,
                "kind": operation.kind,
                "count": operation.count,
                "code": operation.code,
                "card": event.card_id,
                "reason": event.reason.id.removeprefix("why.") if event.reason is not None else None,
            },
        }
    )


def example(event: str, business_id: str) -> JsonObject:
    """Return a made-up body of an event, for somebody who sets up what to do with it."""
    at = "2026-11-26T09:12:00+00:00"
    connection = ConnectionPart(id="poster-1a2b3c", connector="poster", account="861052", title="Harbour till")
    card = CardPart(id="card_0001", goal_index=1, stamps=4, goal=8)
    body: _Body
    match event:
        case "sale.ingested":
            paid, nothing = MoneyPart(amount="12.50", currency="EUR"), MoneyPart(amount="0.00", currency="EUR")
            sale = SaleData(
                connection=connection, receipt="330661", status="closed", closed_at=at, paid=paid, refunded=nothing,
                location="1",
            )  # fmt: skip
            body = SaleBody(id=_EXAMPLE_ID, timestamp=at, business=business_id, data=sale)
        case "operation.applied" | "operation.held" | "operation.rejected":
            operation = OperationData(
                connection=connection.id, operation="1a2b3c4d5e6f70-1", receipt="330661", kind="stamps_added", count=2,
                code="poster:861052:330661:1", card="card_0001",
                reason={"operation.held": "no_card", "operation.rejected": "dismissed"}.get(event),
            )  # fmt: skip
            body = OperationBody(id=_EXAMPLE_ID, timestamp=at, business=business_id, type=event, data=operation)
        case "connection.health_changed":
            health = HealthData(connection=connection, state="needs_authorisation", reason="till_refuses")
            body = HealthBody(id=_EXAMPLE_ID, timestamp=at, business=business_id, data=health)
        case "reconciliation.differs":
            days = ("2026-11-23", "2026-11-24", "2026-11-25")
            data = ReconciliationData(connection=connection, days=days, receipts=214, mended=1, open=0)
            body = ReconciliationBody(id=_EXAMPLE_ID, timestamp=at, business=business_id, data=data)
        case _:
            said = CLASSES[event].model_fields
            own = {"count": 2, "reward": "voucher", "result": "won", "channel": "push", "campaign": "Autumn"}
            voucher = VoucherPart(
                id="v_0001", type="voucher", redeem_code="FREECOFFEE", status=event.removeprefix("voucher_")
            )
            loyalty = LoyaltyData(
                customer=CustomerPart(id="c_0001", language="en"),
                card=card,
                voucher=voucher if "voucher" in said else None,
                **{name: value for name, value in own.items() if name in said},
            )
            body = LoyaltyBody(id=_EXAMPLE_ID, timestamp=at, business=business_id, type=event, data=loyalty)
    return for_subscriber(body.model_dump(mode="json"), personal=False)


# What a subscriber sees


def for_subscriber(body: JsonObject, *, personal: bool) -> JsonObject:
    """Return a stored body as a subscriber gets it: values that there are not left out, and without what is personal.

    Phones, emails, card numbers and codes that can still be used go only to whoever asked for them; of what 7stamp
    sent besides, whatever is named or looks like something of a person.
    """
    data = _present(body["data"])
    if not personal and isinstance(data, dict):
        data = _without_personal(data)
    return {**body, "data": data}


def _present(value: JsonValue) -> JsonValue:
    """Leave out members that are null, and objects and lists that are empty."""
    if not isinstance(value, dict):
        return value
    members: dict[str, JsonValue] = {
        # what 7stamp sent besides stays as it was sent
        name: inner if name == "further" else _present(inner)
        for name, inner in value.items()
    }
    return {name: inner for name, inner in members.items() if inner is not None and inner not in ({}, [])}


def _without_personal(data: dict[str, JsonValue]) -> dict[str, JsonValue]:
    public = dict(data)
    for part, names in (("customer", ("number", "phone", "email", "till_id")), ("card", ("number",))):
        public |= _without(public, part, names)
    voucher = public.get("voucher")
    if isinstance(voucher, dict) and voucher.get("status") not in _SPENT:
        public |= _without(public, "voucher", ("redeem_code",))
    if "further" in public:
        public["further"] = _impersonal(public["further"])
    return public


def _without(data: dict[str, JsonValue], part: str, names: Sequence[str]) -> dict[str, JsonValue]:
    """Return a part of a body without some of its members; nothing where there is no such part."""
    members = data.get(part)
    if not isinstance(members, dict):
        return {}
    return {part: {name: value for name, value in members.items() if name not in names}}


def _impersonal(value: JsonValue) -> JsonValue:
    """Drop what is named like something of a person, and mask what looks like it; bounded by the depth of events."""
    match value:
        case dict():
            return {name: _impersonal(inner) for name, inner in value.items() if not personal_name(name)}
        case list():
            return [_impersonal(inner) for inner in value]
        case str():
            return redact(value)
        case int() if not isinstance(value, bool) and abs(value) >= 10**9:
            return redact(str(value))
    return value

"""What goes in and out of the API beside the shapes that commands print as well: requests, receipts, jobs.

Owns these names, which stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from connectors.domain.clock import moment
from connectors.domain.plan import Plan
from connectors.services import ConnectionDetails
from connectors.services.shapes import OperationShape
from connectors.web.api.routing import Day, Text

_LONG_AGO = "the first day, in the till's time zone"

Amount = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9]{1,12}(\.[0-9]{1,4})?$"),
    Field(description="A decimal text in the account's currency, such as 12.50", examples=["12.50"]),
]
Short = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Request(BaseModel):
    """The body of a request; a name that is not known is refused, for it may be a mistyped one."""

    model_config = ConfigDict(extra="forbid")


# Out


class ConnectionBody(BaseModel):
    """One cafe's till account joined to its 7stamp key; moments are ISO 8601 in UTC."""

    id: str = Field(examples=["poster-1a2b3c"])
    status: Literal["active", "paused", "failing", "needs_authorisation"]
    since: str
    reason: str | None = Field(description="The message id of why it is in that state")
    connector: str = Field(examples=["poster"])
    account: str
    account_name: str
    title: str
    locations: list[str] = Field(description="The location ids it covers; empty for all")
    rule: dict[str, object]
    last_poll: str | None
    last_hook: str | None
    next_poll: str
    operations_open: int

    @classmethod
    def of(cls, details: ConnectionDetails) -> ConnectionBody:
        """Return a connection's body: without its hook address, which lets a till in."""
        facts = details.as_json()
        return cls.model_validate({name: facts[name] for name in cls.model_fields})


class ReceiptBody(BaseModel):
    """A receipt in a list."""

    id: str = Field(description="Ours: it opens the receipt", examples=["70f7de9950f7f8e37bc87b292405782b"])
    receipt: str = Field(description="The till's own", examples=["330661"])
    status: Literal["open", "closed", "voided"]
    closed_at: str | None
    paid: str = Field(examples=["12.50"])
    currency: str = Field(examples=["EUR"])
    stamps: int = Field(description="What it is entitled to")
    card_ending: str | None = Field(description="The last digits of the card")
    customer: bool = Field(description="Whether somebody was attached")


class StoryEntry(BaseModel):
    """One thing that happened to a receipt."""

    at: str
    text: str = Field(description="In the language that Accept-Language asks for, where we have it")
    detail: str
    by: str | None


class ReceiptStory(ReceiptBody):
    """A receipt with everything that happened to it, oldest first."""

    location: str | None
    refunded: str
    operations: list[OperationShape]
    story: list[StoryEntry]


class PreviewedBody(BaseModel):
    """What a receipt of the till would earn."""

    receipt: str | None
    closed_at: str | None
    paid: str | None
    currency: str | None
    stamps: int | None = Field(description="null where it cannot be read")
    why: str


class DayBody(BaseModel):
    """What a day of a connection came to."""

    day: date
    receipts: int
    stamps: int = Field(description="Put on cards, less those taken back")
    taken_back: int = Field(description="Stamps taken back, after a refund or by hand")
    redemptions: int


class JobBody(BaseModel):
    """Work that takes a while."""

    id: str
    kind: str = Field(examples=["backfill"])
    state: Literal["asked", "running", "done", "failed"]
    done: float | None = Field(description="From 0 to 1, while it runs")
    result: Mapping[str, object] | None
    error: str | None


class PlanBody(BaseModel):
    """The 7stamp plan of the business this month: one card operation is one stamp or voucher entry."""

    used: int = Field(description="as 7stamp said at checked_at, with ours since")
    allowed: int | None = Field(description="null for a plan without a limit")
    until: AwareDatetime = Field(description="when they are counted anew: the next month at the venue")
    checked_at: AwareDatetime
    used_up: bool = Field(description="then stamps wait for the next month, or for a larger plan")

    @classmethod
    def of(cls, plan: Plan) -> PlanBody:
        """Say it in the API's shape."""
        return cls(
            used=plan.used,
            allowed=plan.allowed,
            until=moment(plan.until),
            checked_at=moment(plan.checked_at),
            used_up=plan.is_used_up,
        )


class MeBody(BaseModel):
    """What a token is, and of whose business."""

    business: str
    title: str
    scopes: list[str]
    plan: PlanBody | None = Field(description="null while 7stamp has not said it for this month")


class SoldBody(BaseModel):
    """What became of a sale that was reported."""

    receipt: str
    outcome: Literal["stored", "unchanged", "lost", "kept", "hinted", "elsewhere"] = Field(
        description=(
            "stored: it is the receipt's new state; unchanged: it is known already; lost: it is older than what is "
            "known; kept: it could not be taken in and waits for a person; elsewhere: its place is another connection's"
        )
    )


class Replayed(BaseModel):
    """What goes out again."""

    replayed: int


# In


class BackfillRequest(Request):
    """Take in a till's history."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"since": "2026-11-01"}]})

    since: Day = Field(description=_LONG_AGO, examples=["2026-11-01"])


class NewSubscriptionRequest(Request):
    """Subscribe an address."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"url": "https://hooks.example.com/7stamp", "events": ["voucher_redeemed"], "title": "Our CRM"}
            ]
        },
    )

    url: Text = Field(examples=["https://hooks.example.com/7stamp"])
    events: list[Short] = Field(
        default=[], max_length=50, description="No events mean all", examples=[["voucher_redeemed"]]
    )
    title: Text = ""
    filter: Text | None = Field(default=None, examples=["data.channel=='push'"])
    personal: bool = Field(default=False, description="With phones, emails, card numbers and codes that can be used")
    shape: Literal["standard", "slack"] = "standard"


class SubscriptionChange(Request):
    """What changes of a subscription; what is left out stays."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"events": ["voucher_redeemed", "goal_reached"], "active": True}]},
    )

    url: Text | None = None
    events: list[Short] | None = Field(default=None, max_length=50)
    title: Text | None = None
    filter: Text | None = Field(default=None, description="An empty text for none")
    personal: bool | None = None
    shape: Literal["standard", "slack"] | None = None
    active: bool | None = Field(default=None, description="false stops it, true lets it go on with what waits")


class ReplayRequest(Request):
    """What to deliver again: one of the three."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"failed": True}]})

    delivery: Annotated[int, Field(ge=0, lt=2**62)] | None = Field(default=None, description="One delivery, by its id")
    failed: bool = Field(default=False, description="Everything that was given up")
    since: AwareDatetime | None = Field(default=None, description="What was recorded from then on")
    until: AwareDatetime | None = Field(default=None, description="And before then; now by default")


class SoldLine(Request):
    """One line of a receipt."""

    product: Short
    category: Short | None = None
    quantity: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=3)] = Decimal(1)
    refunded_quantity: Annotated[Decimal, Field(ge=0, max_digits=12, decimal_places=3)] = Decimal(0)
    gift: bool = False


class SoldCustomer(Request):
    """Whose receipt it is, by any of the three."""

    number: Annotated[str, StringConstraints(pattern=r"^[0-9]{6}$")] | None = Field(
        default=None, description="The six digits on the card"
    )
    phone: Annotated[str, StringConstraints(min_length=3, max_length=40, pattern=r"^[^\x00]*$")] | None = None
    email: Annotated[str, StringConstraints(min_length=3, max_length=254, pattern=r"^[^\x00]*$")] | None = None


class IssueCardRequest(Request):
    """Whose card it is to be: a phone or an email."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"phone": "+34600111222"}]})

    phone: Annotated[str, StringConstraints(max_length=40)] | None = None
    email: Annotated[str, StringConstraints(max_length=254)] | None = None


class IssueVoucherRequest(Request):
    """A voucher to issue: one of a template, or with a title of its own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"title": "A free coffee"}]})

    title: Short | None = None
    template_id: Short | None = None
    description: Annotated[str, StringConstraints(max_length=500)] | None = None
    card_id: Short | None = Field(default=None, description="For this card; without it, for whoever has the code")
    redeem_code: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="3 to 64 letters, digits, - and _; without it, one is made"
    )
    validity: Short | None = Field(default=None, description="How long it is good, in 7stamp's words")


class SoldRequest(Request):
    """A receipt as the till knows it now: report it again whenever it changes."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "connection": "webhook-1a2b3c",
                    "receipt": "330661",
                    "closed_at": "2026-11-26T09:12:00+01:00",
                    "paid": "12.50",
                    "customer": {"phone": "+34600111222"},
                }
            ]
        },
    )

    connection: Short = Field(description="A connection whose till cannot be read", examples=["webhook-1a2b3c"])
    receipt: Short = Field(examples=["330661"])
    version: Annotated[int, Field(ge=-(2**63), lt=2**63)] | None = Field(
        default=None, description="The till's own revision: any integer that grows with each change"
    )
    status: Literal["open", "closed", "voided"] = "closed"
    closed_at: AwareDatetime | None = Field(default=None, examples=["2026-11-26T09:12:00+01:00"])
    paid: Amount
    refunded: Amount = "0"
    customer: SoldCustomer | None = None
    lines: list[SoldLine] = Field(default=[], max_length=2000)
    redeem_codes: list[Short] = Field(default=[], max_length=20)
    location: Short | None = None
    gift: bool = False

"""The JSON that commands print with `--json`, as models with a sentence for every key.

Owns the documented shape of each output. `tools.command_reference` renders the models as tables, and
`tests/docs/test_command_reference.py` validates what real commands print against them: a key that is not
described here fails that test, and so does a described key that is missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from connector_sdk.connector import TillAccount
from connector_sdk.money import Money
from connector_sdk.rule import DeadCodes, Mode, Refunds, UnknownCustomer
from connector_sdk.sale import Sale
from connector_sdk.testing import Level, Outcome
from connectors.domain.operation import Kind
from connectors.store.access.security_log import EventKind


class Output(BaseModel):
    """An object in a command's JSON. A field's docstring is its meaning; a field with a default may be absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


# --- connections -----------------------------------------------------------------------------------------------------


class RuleWindow(Output):
    """A time window in which receipts earn a multiple of their stamps."""

    times: int
    """How many times as many stamps a receipt earns."""
    days: list[int] = []
    """Weekdays, 0 is Monday; absent for every day."""
    start: str = ""
    """Local time at which the window begins; absent for midnight."""
    end: str = ""
    """Local time at which the window ends; absent for midnight."""
    locations: list[str] = []
    """Ids of the locations that it is for; absent for all."""
    first_day: str = ""
    """The first day on which it may begin; absent for no bound."""
    last_day: str = ""
    """The last day on which it may begin; absent for no bound."""


class Rule(Output):
    """A stamp rule. Only values that differ from the defaults are printed, and `kind`."""

    kind: Literal["per_order", "by_amount", "per_item"]
    """How a receipt earns stamps."""
    amount: Money | None = None
    """`by_amount`: one stamp for each of these amounts, as `minor` (minor units) and `currency`."""
    products: list[str] = []
    """`per_item`: ids of products that earn a stamp."""
    categories: list[str] = []
    """`per_item`: ids of categories whose products earn a stamp."""
    minimum: Money | None = None
    """Receipts below this amount earn nothing."""
    multipliers: list[RuleWindow] = []
    """Time windows with more stamps."""
    max_per_sale: int | None = None
    """The most stamps for one receipt."""
    max_per_card_per_day: int | None = None
    """The most stamps for one card in a day; more is held for a person."""
    refunds: Refunds = Refunds.reverse
    """What a refund does to the stamps."""
    unknown_customer: UnknownCustomer = UnknownCustomer.hold
    """What happens for a customer without a card."""
    hold_days: int = 30
    """Days for which stamps wait for a card."""
    mode: Mode = Mode.identified
    """How customers become known: see [Stamps with the receipt](../howto/receipt-qr.md)."""
    claim_days: int = 14
    """Days for which a receipt can be claimed."""
    gift_products: list[str] = []
    """Ids of products that, given free, use a voucher of the customer's card."""
    dead_codes: DeadCodes = DeadCodes.tell
    """What happens where a gift was given against a code that is used, expired or unknown."""


class ConnectionOutput(Output):
    """A connection."""

    id: str
    """The connection's id, for other commands."""
    status: Literal["active", "paused", "needs_authorisation", "failing", "removed"]
    """The [state of the connection](../how-it-works.md#states-of-a-connection)."""
    since: datetime
    """When it entered that state."""
    reason: str | None
    """Message id of why it is in that state."""
    connector: str
    """Name of the connector."""
    account: str
    """Id of the till account, as the till gives it."""
    account_name: str
    """Name of the till account."""
    business: str
    """Id of the 7stamp business."""
    title: str
    """What people call the connection."""
    locations: list[str]
    """Ids of the locations it covers; empty for all."""
    rule: Rule
    """The stamp rule that holds for receipts closed now."""
    checkpoint: datetime | None
    """Everything that changed at the till before then has been read; null before the first read."""
    last_poll: datetime | None
    """When the till was last read to the end."""
    last_hook: datetime | None
    """When the last hook was taken."""
    next_poll: datetime
    """When the till is read next."""
    hints_waiting: int
    """Receipts that a hook named and that are still to be fetched."""
    operations_open: int
    """Operations that are not settled: pending, held, or on the wire."""
    hook_url: str | None
    """Where the till may send hooks; null for a till that sends none."""
    former_hook_until: datetime | None
    """Until when the hook address from before the last renewal is accepted."""
    consent_until: datetime | None
    """Until when the till's consent lets us in; null where a token was pasted, or it does not end."""
    consent_troubled: bool
    """Whether somebody must let us in again before then, because it is not renewed."""
    undecided_locations: list[str]
    """Ids of locations that the till has opened, and of which nobody has said whose stamps they give."""
    plan_used: int | None
    """Card operations of the 7stamp plan that the business has used this month; null while 7stamp has not said it."""
    plan_allowed: int | None
    """How many the plan has; null for no limit, and while 7stamp has not said it."""


# --- work on a connection --------------------------------------------------------------------------------------------


class OperationCounts(Output):
    """Operations by state: settled ones count if they were settled in this run, open ones always."""

    applied: int
    """Applied at 7stamp in this run."""
    pending: int
    """Waiting to be sent, on the wire, or in doubt."""
    held: int
    """Held for a reason that `connectors operations ID` names."""
    rejected: int
    """Rejected in this run."""
    cancelled: int
    """Cancelled in this run, before they were sent."""


class SyncResult(Output):
    """What a run read and did."""

    sales_seen: int
    """Receipts that the till gave."""
    sales_changed: int
    """Receipts of which something new was stored."""
    operations: OperationCounts
    """Operations by state."""
    status: str = ""
    """The connection's state, only where it is neither active nor paused."""


class PreviewRow(Output):
    """A receipt and what it would earn."""

    receipt_id: str | None
    """The receipt; null where even that cannot be read."""
    closed_at: datetime | None
    """When it was closed, in the till's time zone."""
    paid: str | None
    """What was paid, with its currency."""
    customer: Literal["attached"] | None
    """Whether the receipt names a customer."""
    stamps: int | None
    """Stamps it would earn; null where the receipt cannot be read."""
    why: str
    """How the stamps come about, or why the receipt cannot be read."""


class BackfillCounts(Output):
    """What a backfill would take in."""

    receipts: int
    """Receipts in that time."""
    with_customer: int
    """Receipts that name a customer."""
    stamps: int
    """Stamps they earn, including those they have already."""
    unreadable: int
    """Receipts that cannot be read."""
    known: int
    """Receipts that count already: to take them in once more gives nothing."""
    new_with_customer: int
    """Of the others, those that name a customer."""
    new_stamps: int
    """Stamps that those earn."""


class ImportRow(Output):
    """A receipt of a file and what it would earn."""

    line: int
    """Its line in the file, from 1."""
    receipt: str
    """The receipt."""
    closed: datetime | None
    """When it was closed."""
    paid: str
    """What was paid, with its currency."""
    customer: Literal["attached"] | None
    """Whether the receipt names a customer."""
    stamps: int
    """Stamps it would earn."""
    why: str
    """How the stamps come about."""


class NamedRow(Output):
    """A row of a file that is no receipt."""

    line: int
    """Its line in the file, from 1."""
    why: str
    """Why it is none."""


class ImportCounts(Output):
    """What an import would take in."""

    rows: int
    """Rows below the header."""
    receipts: int
    """Receipts in them."""
    with_customer: int
    """Receipts that name a customer."""
    stamps: int
    """Stamps they earn, including those they have already."""
    unread: int
    """Rows that are no receipts."""
    first: list[ImportRow]
    """The first ten receipts."""
    named: list[NamedRow]
    """Rows that are no receipts, the first hundred."""


class ImportResult(Output):
    """What an import took in."""

    rows: int
    """Rows below the header."""
    receipts: int
    """Receipts in them."""
    changed: int
    """Receipts of which something new was stored."""
    unread: int
    """Rows that are no receipts."""
    named: list[NamedRow]
    """Rows that are no receipts, the first hundred."""
    operations: OperationCounts
    """Operations by state."""


class ReplanCounts(Output):
    """What planning again would change."""

    sales: int
    """Receipts that were planned again."""
    more: int
    """Stamps more than before."""
    fewer: int
    """Stamps fewer than before."""


class ReplanResult(ReplanCounts):
    """What planning again changed and what was delivered."""

    sales_seen: Literal[0]
    """Always 0: no till is read."""
    sales_changed: Literal[0]
    """Always 0: no till is read."""
    operations: OperationCounts
    """Operations by state."""
    status: str = ""
    """The connection's state, only where it is neither active nor paused."""


class JournalLine(Output):
    """A line of the journal."""

    at: datetime
    """When it happened."""
    receipt_id: str | None
    """The receipt it is about."""
    message: str
    """Message id: stable, for scripts."""
    text: str
    """The line in the chosen language."""


class UnreadRequest(Output):
    """A receipt or request that could not be read."""

    id: str
    """Its id, for `--show` and `--leave`; the first letters are enough."""
    receipt: str | None
    """The receipt, where its number could be read."""
    at: datetime
    """When it arrived."""
    where: str
    """The field that could not be read."""
    why: str
    """What is wrong with it."""


class UnreadList(Output):
    """What could not be read."""

    unread: list[UnreadRequest]
    """Newest first."""


class UnreadRetryResult(UnreadList):
    """What reading again came to, and what is left."""

    read: int
    """Could be read now."""
    still_unread: int
    """Could still not be read."""
    asked: int
    """Receipts that are fetched from the till instead."""


class OperationOutput(Output):
    """An operation."""

    id: str
    """The operation's id, for `retry` and `dismiss`."""
    receipt_id: str
    """The receipt it is for."""
    kind: Kind
    """What it makes 7stamp do."""
    count: int
    """How many stamps; 1 for a voucher."""
    state: Literal["pending", "applied", "held", "rejected", "cancelled"]
    """Its state; `pending` covers what is on the wire or in doubt."""
    reason: str | None
    """Message id of why it is held or was rejected."""
    code: str
    """The code under which 7stamp knows it."""


class LoyaltyEventOutput(Output):
    """What 7stamp said of a card; moments are ISO 8601 in UTC."""

    id: str
    """7stamp's id of the event, the same when it is told again."""
    event: str | None
    """Its canonical name; `null` where the body could not be read."""
    at: str | None
    """When it happened."""
    received_at: str
    """When it arrived here."""
    business: str
    """The business at whose address it came."""
    card: str | None
    """7stamp's id of the card."""
    code: str | None
    """The code of the operation that caused it."""
    state: Literal["arrived", "settled", "done", "unknown", "unreadable"]
    """How far it has come here; `unknown` is of a card or business that the ledger does not know."""


class DifferenceOutput(Output):
    """A difference between till, ledger and card."""

    receipt: str
    """The receipt's number at the till."""
    kind: str
    """Which difference; see [differences](../operating/agreement.md#differences)."""
    mended: bool
    """True if it was mended, false if it needs a person."""
    stamps: int | None = None
    """Of how many stamps it is."""


class ReconcileOutput(Output):
    """What a comparison of till, ledger and cards came to."""

    first_day: str
    """The first day that was compared."""
    last_day: str
    """The last day that was compared."""
    till_read: bool
    """Whether the till could be read back."""
    receipts: int
    """Receipts that were compared."""
    calls: int
    """Calls to 7stamp that it made."""
    mended: int
    """Differences that were mended."""
    open: int
    """Differences that need a person."""
    differences: list[DifferenceOutput]
    """The differences, the first 200."""


class SubscriptionOutput(Output):
    """Who is told of a business's events; moments are ISO 8601 in UTC."""

    id: str
    """The subscription's id."""
    title: str
    """How people call it."""
    host: str
    """Where events go; the whole address may let others in and is not shown."""
    events: list[str]
    """The events it asks for."""
    filter: str | None
    """The condition that a body must meet."""
    personal: bool
    """Whether bodies hold phones, emails, card numbers and codes that can still be used."""
    shape: Literal["standard", "slack"]
    """How a body looks."""
    state: Literal["active", "disabled"]
    """Whether events are recorded and delivered."""
    reason: str | None
    """Message id of why it is disabled; `null` also where a person stopped it."""
    pending: int
    """Events that wait for it."""
    failing_since: str | None
    """Since when it has taken nothing, in spite of tries."""
    delivered_at: str | None
    """When it took something last."""


class NewSubscriptionOutput(SubscriptionOutput):
    """A subscription with the secret that proves its deliveries."""

    secret: str
    """The secret (`whsec_…`), shown only now."""


class TryOutput(Output):
    """One try at a delivery."""

    at: str
    """When it was sent."""
    milliseconds: int
    """How long it took."""
    status: int | None
    """The status of the answer."""
    error: str | None
    """What went wrong, where there was no answer of use."""
    answer: str | None
    """The answer's first kilobyte."""


class DeliveryOutput(Output):
    """An event on its way to a subscriber."""

    id: int
    """The delivery's id, for `replay --delivery`."""
    event: str
    """The event's name."""
    event_id: str
    """The event's id, which is in `webhook-id`."""
    at: str
    """When it happened."""
    state: Literal["pending", "delivered", "filtered", "failed"]
    """How it stands."""
    next_try: str | None
    """When it is tried again."""
    tries: list[TryOutput]
    """Every try, oldest first."""


class SubscriptionDetails(SubscriptionOutput):
    """A subscription with its newest deliveries."""

    deliveries: list[DeliveryOutput]
    """Its deliveries, newest first."""


class TokenOutput(Output):
    """An API token without itself; moments are ISO 8601 in UTC."""

    id: str
    """The token's id, for `revoke`."""
    title: str
    """What uses it."""
    scopes: list[str]
    """Its rights."""
    ending: str
    """Its last characters."""
    made_at: str
    """When it was made."""
    last_used_at: str | None
    """When it was used last, to the minute."""


class VoucherDoneOutput(Output):
    """What became of a voucher."""

    redeem_code: str
    """Its redeem code."""
    outcome: Literal["done", "in_doubt"]
    """`in_doubt` while 7stamp has not answered: it is looked up by the host that runs, and never done twice."""


class VoucherOutput(Output):
    """A voucher as 7stamp knows it; moments are ISO 8601 in UTC."""

    redeem_code: str
    """Its redeem code."""
    title: str
    """What it is for."""
    status: str
    """`issued`, `active`, `redeemed` or `expired`."""
    card: str | None
    """The id of the card that it is for; null for whoever has the code."""
    redeemed_at: str | None
    """When it was redeemed."""
    redeemed_by_receipt: str | None
    """The receipt whose sale redeemed it, where one did."""


class NewTokenOutput(TokenOutput):
    """A token that was made."""

    token: str
    """The token itself, shown only now."""


class ReplayResult(Output):
    """What goes out again."""

    replayed: int
    """How many events."""


# --- the installation ------------------------------------------------------------------------------------------------


class DoctorFinding(Output):
    """One thing that was looked at."""

    check: str
    """What was looked at."""
    ok: bool | None
    """True if it is right, false if it must be mended, null if it is only worth knowing."""
    text: str
    """What was found, and what to do."""


class PluginOutput(Output):
    """A plugin that is installed."""

    name: str
    """Name of its entry point."""
    package: str
    """The package it is from, with its version."""
    connectors: list[str]
    """Names of the connectors it brings."""
    status: Literal["ready", "set aside"]
    """Whether it is used."""
    reason: str | None
    """Why it was set aside."""
    checked: dict[str, str]
    """What its package says of the conformance of each connector."""


class KeyRotation(Output):
    """What changing the secret key came to."""

    key: str
    """Id of the key that encrypts from now on."""
    encrypted: int
    """Values that were encrypted anew."""
    unreadable: int
    """Values whose key is not known; they stay as they are."""
    former_keys: Literal["removed", "yours to remove"]
    """Whether the former key is gone, or `CONNECTORS_SECRET_KEYS_OLD` must be removed by hand."""


class SignInLink(Output):
    """A link that signs in."""

    url: str
    """The link."""
    expires_in: int
    """Seconds for which it works."""


class SecurityEvent(Output):
    """A row of the security log."""

    at: datetime
    """When it happened first."""
    last_at: datetime
    """When it happened last."""
    kind: EventKind
    """What happened; see the [security log](../operating/console-access.md#security-log)."""
    business: str | None
    """The business it is about."""
    connection: str | None
    """The connection it is about."""
    address: str
    """Network of the client's address: /24 of IPv4, /48 of IPv6."""
    device: str
    """Browser and system, as the client says."""
    count: int
    """How often it happened between `at` and `last_at`."""
    text: str
    """The row as a sentence."""


class ForgetCounts(Output):
    """What there is, or was, of a customer."""

    receipts: int
    """Receipts that name them or gave stamps to their card."""
    snapshots: int
    """Stored versions of receipts that name them."""
    known: int
    """Rows for looking them up."""
    requests: int
    """Requests and samples that name them."""
    events: int
    """Events of 7stamp about them or their card."""
    drafts: int
    """Drafts of connections that name them."""
    journal_lines: int
    """Journal lines with the last digits of their card."""
    operations_ended: int
    """Stamps that were planned and are not sent."""
    being_sent: int
    """Operations on the wire or in doubt, which are finished."""


class BusinessForgetCounts(ForgetCounts):
    """The counts of one business."""

    business: str
    """Id of the business."""
    name: str
    """Name of the business."""


class MovedTable(Output):
    """A table that was moved."""

    table: str
    """Its name."""
    here: int
    """Its rows in the file."""
    there: int
    """Its rows on the server."""


class MoveOutput(Output):
    """An installation that was moved."""

    moved: bool
    """Always `true`: where both sides differ, the command ends with an error."""
    tables: list[MovedTable]
    """All tables; their contents agree too."""


class ForgetResult(Output):
    """What was erased, or would be."""

    dry_run: bool
    """Whether nothing was changed."""
    businesses: list[BusinessForgetCounts]
    """Businesses that know the customer."""
    total: ForgetCounts
    """The sums over all businesses."""


# --- for integrators -------------------------------------------------------------------------------------------------


class NewPackage(Output):
    """A package that was made."""

    folder: str
    """Its folder."""
    files: list[str]
    """The files that were written."""


class LevelCounts(Output):
    """Behaviours of one level."""

    shown: int
    """Behaviours that the stub shows and the connector keeps."""
    asked: int
    """Behaviours that apply to this connector."""


class BehaviourResult(Output):
    """One behaviour and how it came out."""

    behaviour: str
    """Its name, for `--only`."""
    level: Level
    """Whether it is needed to conform."""
    outcome: Outcome
    """How it came out."""
    why: str
    """Why, where it did not pass."""
    guards_against: str
    """What goes wrong for a cafe without it."""
    fix: str
    """How to mend it."""


class RecordingResult(Output):
    """A recording of a real account, read again."""

    file: str
    """Its file in the package."""
    made: str
    """When it was recorded."""
    receipts: int
    """Receipts in it."""
    difference: str | None
    """What is read differently now; null if nothing is."""


class CheckResult(Output):
    """The result of the conformance suite."""

    connector: str
    """Name of the connector."""
    suite: int
    """Version of the suite."""
    conforms: bool
    """Whether everything required is shown and recordings are read as they were."""
    required: LevelCounts
    """Behaviours that are needed to conform."""
    recommended: LevelCounts
    """Behaviours that are not needed to conform."""
    recordings: int
    """Recordings that are read as they were."""
    behaviours: list[BehaviourResult]
    """Every behaviour that was looked at."""
    recorded: list[RecordingResult]
    """Every recording in the package."""


class BehaviourName(Output):
    """A behaviour of the suite."""

    behaviour: str
    """Its name, for `--only`."""
    level: Level
    """Whether it is needed to conform."""
    title: str
    """What a connector promises by it."""


class TrySale(Output):
    """A sale that was read."""

    sale: Sale
    """The sale, as [its page](../sale.md) describes it."""
    from_: dict[str, list[str]] = Field(alias="from")
    """For each field, the paths on the wire that it came from."""
    needs: list[str]
    """Paths without which the sale cannot be read."""


class UnreadableReceipt(Output):
    """A receipt that could not be read."""

    receipt_id: str | None
    """The receipt, where its number could be read."""
    where: str
    """The field that could not be read."""
    why: str
    """What is wrong with it."""


class TryResult(Output):
    """What a connector reads of a till."""

    connector: str
    """Name of the connector."""
    account: TillAccount
    """The account, as [`TillAccount`](../reference.md#connector_sdk.connector.TillAccount) describes it."""
    proof: str | None
    """Why the hook's proof does not hold; null where it holds or there is no hook."""
    hints: list[str]
    """Receipts that the hook names for fetching."""
    ignored: str | None
    """Why the hook is about no sale."""
    sales: list[TrySale]
    """Sales that were read."""
    unreadable: list[UnreadableReceipt]
    """Receipts that could not be read."""


class MappingResult(Output):
    """What a mapping makes of a sample."""

    sales: list[Sale]
    """The sales, as [their page](../sale.md) describes them."""
    unreadable: list[UnreadableReceipt]
    """Receipts that could not be read."""


# --- which command prints what ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class JsonOutput:
    """One form of a command's JSON: an object or a list of them, printed when the options in `when` are given."""

    model: type[Output]
    is_list: bool = False
    when: str = ""
    a_line_each: bool = False
    """Whether objects are printed one a line as they come."""

    def validate(self, printed: str) -> None:
        """Check what a command printed. Raises `pydantic.ValidationError` for a missing, extra or wrong key."""
        if self.is_list:
            TypeAdapter(list[self.model]).validate_json(printed)  # type: ignore[name-defined] # known when it runs
        else:
            self.model.model_validate_json(printed)


OUTPUTS: Mapping[str, tuple[JsonOutput, ...]] = {
    "connection add": (JsonOutput(ConnectionOutput),),
    "connection list": (JsonOutput(ConnectionOutput, is_list=True),),
    "connection show": (JsonOutput(ConnectionOutput),),
    "connection edit": (JsonOutput(ConnectionOutput),),
    "connection renew-address": (JsonOutput(ConnectionOutput),),
    "operations list": (JsonOutput(OperationOutput, is_list=True),),
    "console link": (JsonOutput(SignInLink),),
    "security log": (JsonOutput(SecurityEvent, is_list=True),),
    "keys rotate": (JsonOutput(KeyRotation),),
    "move": (JsonOutput(MoveOutput),),
    "sync": (JsonOutput(SyncResult),),
    "preview": (JsonOutput(PreviewRow, is_list=True),),
    "backfill": (JsonOutput(SyncResult), JsonOutput(BackfillCounts, when="--dry-run")),
    "import": (JsonOutput(ImportResult), JsonOutput(ImportCounts, when="--dry-run")),
    "replan": (JsonOutput(ReplanResult), JsonOutput(ReplanCounts, when="--dry-run")),
    "journal": (JsonOutput(JournalLine, is_list=True), JsonOutput(JournalLine, when="--follow", a_line_each=True)),
    "reconcile": (JsonOutput(ReconcileOutput),),
    "unread": (JsonOutput(UnreadList), JsonOutput(UnreadRetryResult, when="--try-again")),
    "events": (JsonOutput(LoyaltyEventOutput, is_list=True),),
    "voucher issue": (JsonOutput(VoucherDoneOutput),),
    "voucher redeem": (JsonOutput(VoucherDoneOutput),),
    "voucher show": (JsonOutput(VoucherOutput),),
    "token make": (JsonOutput(NewTokenOutput),),
    "token list": (JsonOutput(TokenOutput, is_list=True),),
    "subscription add": (JsonOutput(NewSubscriptionOutput),),
    "subscription list": (JsonOutput(SubscriptionOutput, is_list=True),),
    "subscription show": (JsonOutput(SubscriptionDetails),),
    "subscription edit": (JsonOutput(SubscriptionOutput),),
    "subscription test": (JsonOutput(DeliveryOutput),),
    "subscription replay": (JsonOutput(ReplayResult),),
    "subscription renew-secret": (JsonOutput(NewSubscriptionOutput),),
    "forget": (JsonOutput(ForgetResult),),
    "plugins": (JsonOutput(PluginOutput, is_list=True),),
    "doctor": (JsonOutput(DoctorFinding, is_list=True),),
    "new": (JsonOutput(NewPackage),),
    "check": (JsonOutput(CheckResult), JsonOutput(BehaviourName, is_list=True, when="--list")),
    "try": (JsonOutput(TryResult),),
    "mapping try": (JsonOutput(MappingResult),),
}
"""What each command prints with `--json`, by its name."""

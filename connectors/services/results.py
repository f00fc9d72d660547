"""What services answer with, and how far a long one has come: typed values, each with the JSON that scripts read.

Owns those shapes and names; they are what `--json` prints and what a running host leaves for the command that asked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, JsonValue

JsonObject = dict[str, JsonValue]


class JsonModel(BaseModel):
    """A value that goes to scripts, or through the database to another process, as a JSON object.

    Names that it does not know are left out when it is read: the other process may be of a newer version.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    def as_json(self) -> JsonObject:
        """Return the object that scripts read; a value that there is not is left out."""
        shown: JsonObject = self.model_dump(mode="json", exclude_none=True)
        return shown


class Result(JsonModel):
    """What a command ends with."""


class SyncResult(Result):
    """What was read of a till, and what became of the operations since."""

    sales_seen: int
    """How many receipts the till showed, those that could not be read among them."""
    sales_changed: int
    """How many of them were new, or another version than was stored."""
    operations: Mapping[str, int]
    """How many operations are in each state, as the outside sees states: settled ones since the call began."""
    status: str | None = None
    """The connection's health, where it is neither active nor paused."""


class ReplanCounts(Result):
    """What planning by the newest rule would change, or has changed."""

    sales: int = 0
    """How many receipts were planned again."""
    more: int = 0
    """How many stamps more they earn."""
    fewer: int = 0
    """How many stamps fewer they earn."""

    def plus(self, other: ReplanCounts) -> ReplanCounts:
        """Return the sum of both."""
        return ReplanCounts(sales=self.sales + other.sales, more=self.more + other.more, fewer=self.fewer + other.fewer)


class ReplanResult(SyncResult, ReplanCounts):
    """What a replan changed, and what became of the operations it planned; without them for a dry run."""

    # pydantic takes fields from the last base first, so `sales` stands before `sales_seen` in the JSON


class RetryResult(Result):
    """What came of reading once more what could not be read."""

    read: int
    """Receipts that are understood now."""
    still_unread: int
    """Requests or receipts that are not."""
    asked: int
    """Receipts that the till is asked for instead."""


class NamedRow(JsonModel):
    """A row of a file that is no receipt, by its line, and why."""

    line: int
    why: str


class ImportResult(Result):
    """What an import came to."""

    rows: int
    receipts: int
    changed: int
    """Receipts that were new or said something new."""
    unread: int
    """Rows that are no receipts."""
    named: tuple[NamedRow, ...]
    """Those rows one by one, the first hundred."""
    operations: dict[str, int]


class DifferenceShown(JsonModel):
    """One difference between till, ledger and card."""

    receipt: str
    kind: str
    """Which difference it is, as `docs/operating/agreement.md` lists them."""
    mended: bool
    """Whether it was mended; `false` for one that needs a person."""
    stamps: int | None = None
    """Of how many stamps it is, where it is of stamps."""


class ReconcileResult(Result):
    """What a comparison of till, ledger and cards came to."""

    first_day: str
    last_day: str
    """The days that were compared (`2026-11-23`), both included."""
    till_read: bool
    """Whether the till could be read back; without it, ledger and cards were compared."""
    receipts: int
    calls: int
    """How many calls to 7stamp it made."""
    mended: int
    open: int
    """How many differences need a person."""
    differences: tuple[DifferenceShown, ...]
    """The differences one by one, the first two hundred."""


class RotationResult(Result):
    """What a rotation of the secret key came to."""

    key: str
    """The id of the key that everything is encrypted with."""
    encrypted: int
    """How many values were encrypted anew."""
    unreadable: int
    """How many values no known key opens: they stay as they are."""
    former_keys: Literal["removed", "yours to remove"]
    """Whether former keys are gone, or in the environment, where only the operator can take them away."""


class ProgressReport(JsonModel):
    """How far long work has come: `done` from 0 to 1, and the counts that this work has."""

    done: float
    sales_seen: int | None = None
    sales_changed: int | None = None
    sales: int | None = None
    more: int | None = None
    fewer: int | None = None
    encrypted: int | None = None


Progress = Callable[[ProgressReport], Awaitable[None]]
"""Told again and again how far work has come."""


async def ignore(_report: ProgressReport) -> None:
    """Be told of progress that nobody watches."""


@dataclass(frozen=True, slots=True)
class ConnectionDetails:
    """A connection as scripts read it; moments are ISO 8601 in UTC, `None` for what has not happened."""

    id: str
    status: str
    since: str
    reason: str | None
    """The message id of why it is in that state."""
    connector: str
    account: str
    account_name: str
    business: str
    title: str
    locations: list[str]
    """The location ids it covers; empty for all."""
    rule: JsonObject
    """The rule that is in force now, without what is as usual."""
    checkpoint: str | None
    last_poll: str | None
    last_hook: str | None
    next_poll: str
    hints_waiting: int
    operations_open: int
    hook_url: str | None
    """Where the till is to post; `None` where it has no hooks."""
    former_hook_until: str | None
    consent_until: str | None
    """Until when the till's consent lets us in; `None` where a token was pasted, or it does not end."""
    consent_troubled: bool
    """Whether somebody must let us in again before then, because it is not renewed."""
    undecided_locations: list[str]
    """The ids of locations that the till has opened and nobody has said whose stamps they give."""
    plan_used: int | None
    """Card operations of the 7stamp plan that the business has used this month; `None` while 7stamp has not said it."""
    plan_allowed: int | None
    """How many the plan has; `None` for no limit, and while 7stamp has not said it."""

    def as_json(self) -> JsonObject:
        """Return the object that scripts read, every name in it."""
        return asdict(self)

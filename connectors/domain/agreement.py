"""Agreement: what till, ledger and cards say of the same receipts, and how they may differ.

Owns the kinds of difference, and which of them is certain enough to be mended; reading all three is
`connectors.sync.agreement`'s.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

from connector_sdk.messages import Message
from connectors.domain.clock import DAY, micros, moment
from connectors.domain.operation import State

DAYS_COMPARED = 3
_NIGHT = time(4)
"""When a venue's night begins to be used: its day has ended, and the next has not begun."""
_NIGHT_MINUTES = 120
"""Over how many minutes from then on an installation's connections are spread."""
_SENT_AGAIN_FOR = 7 * DAY


class DifferenceKind(StrEnum):
    """How till, ledger and card may differ about a receipt; the values stand in the database and in `--json`."""

    changed_unseen = "changed_unseen"
    """The till has a receipt, or a state of it, that no hook and no read had brought: it was taken in."""
    not_at_till = "not_at_till"
    """The till does not show the receipt any more. Nothing found never changes a sale: a person looks."""
    unrecorded = "unrecorded"
    """The card has it and the ledger had it as not applied: the ledger says so now."""
    not_on_card = "not_on_card"
    """The ledger has it as applied, and the card does not have it: it is sent once more."""
    still_not_on_card = "still_not_on_card"
    """It was sent once more already, and the card still does not have it."""
    lost_long_ago = "lost_long_ago"
    """The ledger has had it as applied for more than a week, and the card does not have it: how long 7stamp keeps a
    card's history is not known, so that it is not sent again without a person."""
    other_count = "other_count"
    """The card has another number of stamps for it than the ledger."""
    cancelled = "cancelled"
    """The card has it, and the ledger cancelled it before it was sent, as far as it knows."""
    unknown = "unknown"
    """The card has stamps of a receipt of this till, and the ledger knows no such operation."""
    other_card = "other_card"
    """Another card has it than the ledger says."""
    other_use = "other_use"
    """The voucher was used by another receipt, or elsewhere, and the ledger says that this one used it."""


MENDED = frozenset({DifferenceKind.changed_unseen, DifferenceKind.unrecorded, DifferenceKind.not_on_card})
"""Differences that are certain: they are mended. The others need a person."""


@dataclass(frozen=True, slots=True)
class Difference:
    """One difference, about one receipt; `message` words it for whoever reads."""

    kind: DifferenceKind
    receipt_id: str
    sale_id: str | None
    message: Message

    @property
    def is_mended(self) -> bool:
        """Whether it was mended, and needs nobody."""
        return self.kind in MENDED


@dataclass(frozen=True, slots=True)
class Days:
    """Whole days of a venue, from `first` to `last` (`2026-11-23`), both included."""

    first: str
    last: str

    def each(self) -> tuple[str, ...]:
        """Return every day."""
        first, last = date.fromisoformat(self.first), date.fromisoformat(self.last)
        return tuple((first + timedelta(days=number)).isoformat() for number in range((last - first).days + 1))

    def start(self, zone: str) -> datetime:
        """Return the first day's midnight in a zone."""
        return datetime.fromisoformat(self.first).replace(tzinfo=ZoneInfo(zone))

    def end(self, zone: str) -> datetime:
        """Return the midnight that ends the last day in a zone."""
        return (datetime.fromisoformat(self.last) + timedelta(days=1)).replace(tzinfo=ZoneInfo(zone))


def days_since(first: date, now: int, zone: str) -> Days:
    """Return the days from one until today at a venue."""
    return Days(first.isoformat(), moment(now).astimezone(ZoneInfo(zone)).date().isoformat())


def last_days(now: int, zone: str) -> Days:
    """Return the last business days that have ended at a venue."""
    today = moment(now).astimezone(ZoneInfo(zone)).date()
    first, last = today - timedelta(days=DAYS_COMPARED), today - timedelta(days=1)
    return Days(first.isoformat(), last.isoformat())


def next_night(now: int, zone: str, place: int) -> int:
    """Return when a venue's night comes next (UTC microseconds); `place` spreads connections over two hours of it."""
    here = moment(now).astimezone(ZoneInfo(zone))
    minutes = timedelta(minutes=place % _NIGHT_MINUTES)
    tonight = datetime.combine(here.date(), _NIGHT, here.tzinfo) + minutes
    if tonight <= here:
        tonight = datetime.combine(here.date() + timedelta(days=1), _NIGHT, here.tzinfo) + minutes
    return micros(tonight)


@dataclass(frozen=True, slots=True)
class Shown:
    """What 7stamp shows of an operation: whether it is there, with how many stamps (`None` for a voucher)."""

    there: bool
    stamps: int | None = None


class Absence(StrEnum):
    """What it means that 7stamp does not show an operation."""

    nothing = "nothing"
    """The reading began too early: it may show later."""
    proven = "proven"
    repeated = "repeated"
    """Proven, and a comparison had it sent once more before."""
    long_past = "long_past"
    """It was sent so long ago that its history may not be kept any more."""


def absence(sent_at: int, horizon: int, began: int, *, sent_again: bool) -> Absence:
    """Say what "not there" means for an operation, in a reading that began then; all in UTC microseconds.

    `horizon` is from when on a reading proves anything.
    """
    if began <= horizon:
        return Absence.nothing
    if sent_again:
        return Absence.repeated
    return Absence.long_past if sent_at < began - _SENT_AGAIN_FOR else Absence.proven


_OF_ABSENCE = {
    Absence.nothing: None,
    Absence.proven: DifferenceKind.not_on_card,
    Absence.repeated: DifferenceKind.still_not_on_card,
    Absence.long_past: DifferenceKind.lost_long_ago,
}


def compare(state: State, count: int, shown: Shown, absent: Absence) -> DifferenceKind | None:
    """Say how an operation in the ledger and what 7stamp shows of it differ; `None` where they agree.

    `absent` is what it means if it is not there.
    """
    if not shown.there:
        # on its way, held, or given up: the card is right not to have it
        return _OF_ABSENCE[absent] if state is State.applied else None
    if shown.stamps is not None and abs(shown.stamps) != count:
        return DifferenceKind.other_count
    if state is State.applied:
        return None
    return DifferenceKind.cancelled if state is State.cancelled else DifferenceKind.unrecorded

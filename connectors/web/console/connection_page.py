"""A connection's page: is it working, what happened, what needs somebody.

Owns what that page shows and what changes on it while somebody looks; its buttons are `connection_actions`' and
`operation_review`'s.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby, islice
from urllib.parse import urlencode

from starlette.responses import Response

from connector_sdk.connector import Location
from connector_sdk.messages import Message
from connectors.domain.agreement import Difference
from connectors.domain.connection import Connection, Health
from connectors.store import connections, ledger, queries
from connectors.store.ledger.agreements import Agreement
from connectors.store.ledger.daily_totals import DayTotals
from connectors.store.ledger.journal import JournalLine
from connectors.store.queries.overviews import Overview
from connectors.sync.agreement import outcome_message
from connectors.web.console import charts
from connectors.web.console.charts import Chart
from connectors.web.console.onboarding import offers_consent
from connectors.web.console.operation_review import StoppedOperation, with_choices
from connectors.web.console.routing import Role, Router
from connectors.web.console.sample_view import setting_title
from connectors.web.console.search_terms import span_of_day
from connectors.web.console.settings_form import find_wrong_settings
from connectors.web.console.visit import Visit

router = Router()

_DAYS = 7
_LINES = 10
_LINES_READ = 120
"""More than are shown: some are left out, and many are told in one."""
_QUIET = frozenset({"sale.identifying"})
"""Messages that only say that work goes on: the journal keeps them, the page leaves them out."""


@dataclass(frozen=True, slots=True)
class JournalPart:
    """Some lines of the journal, newest first, and from where to go on.

    `before` is the line that the address asked to see what is older than, `None` for the newest lines; `older` is the
    line to go on from, `None` where there are no more; `newest` is the number of the newest line that the page knows,
    by which it is told of later ones.
    """

    lines: tuple[JournalLine, ...]
    before: int | None
    older: int | None
    newest: int


@dataclass(frozen=True, slots=True)
class DayCounts:
    """A venue's day (`2026-11-23`) with what was counted on it."""

    day: str
    totals: DayTotals


@dataclass(frozen=True, slots=True)
class RecentDays:
    """The counts of the last days, oldest first, as table and as chart."""

    days: tuple[DayCounts, ...]
    chart: Chart
    missed_receipts: int
    """Today's receipts that earn stamps, and on which nobody was attached."""
    missed_stamps: int

    @property
    def today(self) -> DayTotals:
        """The counts of today."""
        return self.days[-1].totals


@dataclass(frozen=True, slots=True)
class ConnectionStatus:
    """The part of a connection's page that changes while somebody looks."""

    overview: Overview
    title: str
    """The till's title; its connector's name where that is not installed any more."""
    state: str
    """Which sentence is true of the connection now, as the template words them."""
    installed: bool
    """`True` where the connector is installed here."""
    missing_settings: tuple[str, ...]
    """The titles of settings that the connector's model, as it is now, finds missing or wrong."""
    can_consent: bool
    expires_at: int | None
    """When the till's consent ends (UTC microseconds), where that is soon."""
    new_venues: tuple[Location, ...]
    """Venues that nobody has said yet whose stamps they are."""
    stopped: tuple[StoppedOperation, ...]
    """The operations that need a person."""
    recent: RecentDays
    journal: JournalPart

    @property
    def agreement(self) -> Agreement | None:
        """The last comparison of till, ledger and cards; `None` where there was none, or it is under way."""
        last = self.overview.agreement
        return last if last is not None and last.finished_at is not None else None

    @property
    def agreed(self) -> Message | None:
        """What the last comparison came to."""
        return outcome_message(self.agreement) if self.agreement is not None else None

    @property
    def differences(self) -> tuple[Difference, ...]:
        """The differences that need a person."""
        found = self.agreement.differences if self.agreement is not None else ()
        return tuple(difference for difference in found if not difference.is_mended)

    @property
    def connection(self) -> Connection:
        """The connection itself."""
        return self.overview.connection


@router.get("/connections/{connection}", Role.manager)
async def connection_page(visit: Visit) -> Response:
    """Show a connection, or the part of it that changes."""
    # before everything else: whatever is committed while the page is put together is news to it
    lines = await _read_journal(visit)
    overview = await visit.load_overview()
    connection = overview.connection
    query = visit.request.query_params
    receipts = f"/connections/{connection.id}/receipts"
    # where the lists stood before they had a page
    if query.get("show") == "without-card":
        return visit.redirect(f"{receipts}?kind=waiting")
    if query.get("q"):
        return visit.redirect(f"{receipts}?{urlencode({'q': query['q']})}")
    status = await _read_status(visit, overview, lines)
    template = "_now.html" if query.get("part") == "now" else "connection.html"
    return visit.render(template, connection=connection, connection_status=status)


# --- the journal ----------------------------------------------------------------------------------------------------


async def _read_journal(visit: Visit) -> list[JournalLine]:
    """Read the newest lines, or those before the one that the address names; enough to leave out the quiet ones."""
    connection_id, before = visit.path_params["connection"], _before(visit)
    return await visit.host.store.read(
        lambda tx: ledger.journal.of_connection(tx, connection_id, before=before, limit=_LINES_READ)
    )


def _before(visit: Visit) -> int | None:
    before = visit.request.query_params.get("before", "")
    # `isdigit` takes digits of every script; a number of 16 digits or more is no line of any journal
    return int(before) if before.isascii() and before.isdigit() and len(before) < 16 else None


def _journal_part(visit: Visit, lines: Sequence[JournalLine]) -> JournalPart:
    """Take the lines to show out of those read, which are oldest first."""
    before = _before(visit)
    newest_first = [line for line in reversed(lines) if line.message.id not in _QUIET]
    shown = list(islice(_newest_of_each_receipt(_with_older_receipts_as_one(newest_first)), _LINES))
    return JournalPart(
        tuple(shown),
        before,
        older=_older_than(shown, lines),
        # a page of older lines is not told of news: 0 stands for that
        newest=lines[-1].seq if lines and before is None else 0,
    )


def _older_than(shown: Sequence[JournalLine], lines: Sequence[JournalLine]) -> int | None:
    """Return the line to go on from: the last that is shown, or the last that was read where many became one."""
    if len(shown) == _LINES:
        return shown[-1].seq
    return lines[0].seq if len(lines) == _LINES_READ else None


def _with_older_receipts_as_one(lines: Sequence[JournalLine]) -> Iterator[JournalLine]:
    """Yield lines, with one in place of several in a row that tell of receipts from before the connection."""
    for is_older, run in groupby(lines, _is_of_older_receipt):
        together = list(run)
        if is_older and len(together) > 1:
            # the oldest of them: from it the page goes on
            message = Message("journal.older_receipts", {"count": len(together)})
            yield replace(together[-1], message=message, receipt_id=None, sale_id=None)
        else:
            yield from together


def _newest_of_each_receipt(lines: Iterable[JournalLine]) -> Iterator[JournalLine]:
    """Leave out what happened to a receipt before the line that is shown of it: its own page tells that."""
    receipts = set[str]()
    for line in lines:
        if line.sale_id is None or line.sale_id not in receipts:
            yield line
        if line.sale_id is not None:
            receipts.add(line.sale_id)


def _is_of_older_receipt(line: JournalLine) -> bool:
    return line.message.id == "sale.none" and _gives_reason(line.message, "why.before")


def _gives_reason(message: Message, reason: str) -> bool:
    """Say whether a message has a reason among its parameters, or among those of its reasons."""
    nested = [value for value in message.params.values() if isinstance(value, Message)]
    return any(value.id == reason or _gives_reason(value, reason) for value in nested)


# --- what changes ---------------------------------------------------------------------------------------------------


async def _read_status(visit: Visit, overview: Overview, lines: Sequence[JournalLine]) -> ConnectionStatus:
    connection = overview.connection
    connector_class = visit.host.plugins.classes.get(connection.connector)
    return ConnectionStatus(
        overview,
        title=visit.localizer.text(connector_class.info.title) if connector_class else connection.connector,
        state=_state(visit, overview, newest_is_unread=await _newest_is_unread(visit, overview)),
        installed=connector_class is not None,
        missing_settings=_missing_settings(visit, connection),
        can_consent=offers_consent(visit, connection.connector),
        expires_at=_shown_expiry(connection, visit.localizer.now),
        new_venues=await _read_new_venues(visit, connection),
        stopped=await _stopped_operations(visit, overview),
        recent=await _read_recent_days(visit, connection.id),
        journal=_journal_part(visit, lines),
    )


async def _read_new_venues(visit: Visit, connection: Connection) -> tuple[Location, ...]:
    """Read which venues the till has opened that no connection of the account covers, and nobody left out."""
    undecided = connection.undecided_locations()
    if not undecided:
        return ()
    account = await visit.host.store.read(
        lambda tx: connections.registry.of_account(tx, connection.connector, connection.account.id)
    )
    return tuple(venue for venue in undecided if not any(other.covers(venue.id) for other in account))


def _shown_expiry(connection: Connection, now: int) -> int | None:
    """Return when the till's consent ends, where that is near by its own lifetime, or its renewal does not succeed."""
    return connection.expires_at if connection.consent_ends_unrenewed(now) else None


async def _stopped_operations(visit: Visit, overview: Overview) -> tuple[StoppedOperation, ...]:
    # the overview has counted them: most connections have none, and are spared the query
    if not overview.stopped:
        return ()
    connection_id = overview.connection.id
    operations = await visit.host.store.read(lambda tx: queries.operations.needing_person(tx, connection_id))
    return tuple(with_choices(operations))


async def _read_recent_days(visit: Visit, connection_id: str) -> RecentDays:
    # the venue's day: loading the overview has set the zone
    today = date.fromisoformat(visit.localizer.today())
    days = [(today - timedelta(days=ago)).isoformat() for ago in range(_DAYS - 1, -1, -1)]
    span = span_of_day(today, visit.localizer.zone)
    read = await visit.host.store.read(lambda tx: queries.days.recent_days(tx, connection_id, days[0], span))
    counts = tuple(DayCounts(day, read.totals.get(day, DayTotals())) for day in days)
    chart = charts.chart_of_days(
        [day.totals.receipts for day in counts],
        [day.totals.stamps for day in counts],
    )
    return RecentDays(counts, chart, read.missed_receipts, read.missed_stamps)


def _missing_settings(visit: Visit, connection: Connection) -> tuple[str, ...]:
    connector_class = visit.host.plugins.classes.get(connection.connector)
    if connector_class is None:
        return ()
    # they were right when they were stored; a newer version of the connector may ask for more
    values = visit.services.connections.settings_of(connection)
    wrong = find_wrong_settings(connector_class.settings_model, values)
    return tuple(setting_title(connector_class, name, default=name) for name in wrong)


def _state(visit: Visit, overview: Overview, *, newest_is_unread: bool) -> str:
    """Return the state that matters most: what stops everything first, then what delays, then what goes on."""
    connection = overview.connection
    # a person has to act, or has acted: nothing else is true before that
    if connection.health is not Health.active:
        return connection.health.value
    # sales are read, but 7stamp takes no stamps until the plan begins anew
    if overview.paused_until > visit.localizer.now:
        return "plan"
    # one failure is told of, though it becomes a health of its own only after several
    if connection.failures:
        return "unanswered"
    # what came last could not be read: that everything works is not what somebody should hear then
    if newest_is_unread:
        return "unread"
    # a till that only sends is never read: there is no last look to tell of
    if not _is_polled(visit, connection):
        return "pushed"
    if overview.hints or _awaits_first_poll(connection):
        return "reading"
    return "sending" if overview.on_its_way else "well"


async def _newest_is_unread(visit: Visit, overview: Overview) -> bool:
    """Say whether the last receipt that the journal tells of is one that could not be read, and still is."""
    if not overview.unread:  # most have none, and are spared the query
        return False
    # not the lines of the page: somebody may look at older ones, or at what a search found
    connection_id = overview.connection.id
    lines = await visit.host.store.read(lambda tx: ledger.journal.of_connection(tx, connection_id, limit=_LINES))
    of_receipts = (line.message.id for line in reversed(lines) if line.message.id.startswith(("sale.", "operation.")))
    return next(of_receipts, "") == "sale.unreadable"


def _is_polled(visit: Visit, connection: Connection) -> bool:
    connector_class = visit.host.plugins.classes.get(connection.connector)
    return connector_class is None or connector_class.can("poll")


def _awaits_first_poll(connection: Connection) -> bool:
    """Return whether the till was not read yet since the connection began to work (again)."""
    return connection.last_poll_at is None or connection.last_poll_at < connection.health_since

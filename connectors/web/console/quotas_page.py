"""The operator's page of quotas and limits: what each is, which setting changes it, and who met one.

Owns the page; the numbers are settings, and what was refused is counted where it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.runtime.counter_names import REFUSED
from connectors.store import access, counters
from connectors.store.access.security_log import Event, EventKind
from connectors.store.engine import Transaction
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import Visit

router = Router()

_MAX_EVENTS = 50


_QUOTAS = (
    (Message("Tills of a business"), "max_tills_per_business"),
    (Message("Connections that a business has begun to make"), "max_drafts"),
    (Message("Hooks of a till in a minute"), "hooks_per_minute"),
    (Message("Events of 7stamp of a business in a minute"), "events_per_minute"),
    (Message("MiB of hooks of a business in a day"), "hook_mib_per_day"),
    (Message("Requests of a till that could not be read"), "kept_requests"),
    (Message("MiB of them"), "kept_mib"),
    (Message("Requests collected for a till that is being taught"), "captured_requests"),
    (Message("MiB of them"), "captured_mib"),
    (Message("Open connections of one client address"), "max_connections_per_address"),
    (Message("Open connections in all"), "max_connections"),
)
"""The title of each quota, in the order of the page, and the setting that changes it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the page: a quota's title, its number and the environment variable that sets it."""

    title: str
    number: int
    variable: str


@dataclass(frozen=True, slots=True)
class _Refused:
    """Who met a quota lately, newest first, and how often each kind of request was refused, by its name."""

    events: list[Event]
    counts: dict[str, int]


@router.get("/operator/quotas", Role.operator)
async def quotas(visit: Visit) -> Response:
    """Show every quota with its number, and who met one."""
    refused = await visit.host.store.read(_load_refused)
    counts = sorted(refused.counts.items())
    return visit.render("quotas.html", rows=_rows(visit), events=refused.events, refused=counts)


def _rows(visit: Visit) -> list[Row]:
    settings = visit.host.settings
    return [
        Row(visit.localizer.text(title.id), getattr(settings, name), f"CONNECTORS_{name.upper()}")
        for title, name in _QUOTAS
    ]


def _load_refused(tx: Transaction) -> _Refused:
    events = access.security_log.list_newest(tx, None, kind=EventKind.quota_met, limit=_MAX_EVENTS)
    counts = {
        name.removeprefix(REFUSED): number
        for name, number in counters.read_counters(tx).items()
        if name.startswith(REFUSED)
    }
    return _Refused(events, counts)

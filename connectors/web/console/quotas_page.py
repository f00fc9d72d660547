"""The operator's page of quotas and limits: what each is, which setting changes it, and who met one.

Owns the page; the numbers are `connectors.domain.quotas`', what was refused is counted where it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.runtime.host import REFUSED
from connectors.store import access, counters
from connectors.store.access.security_log import Event, EventKind
from connectors.store.engine import Transaction
from connectors.web.console.frame import Pages, Visit, Who

pages = Pages()

_MET = 50


_QUOTAS = (
    (Message("Tills of a business"), "max_tills_per_business"),
    (Message("Connections that a business has begun to make"), "max_drafts"),
    (Message("Hooks of a till in a minute"), "hooks_per_minute"),
    (Message("MiB of hooks of a business in a day"), "hook_mib_per_day"),
    (Message("Requests of a till that could not be read"), "kept_requests"),
    (Message("MiB of them"), "kept_mib"),
    (Message("Requests collected for a till that is being taught"), "captured_requests"),
    (Message("MiB of them"), "captured_mib"),
    (Message("Open connections of one client address"), "max_connections_per_address"),
    (Message("Open connections in all"), "max_connections"),
)
"""What each quota is, in the order of the page, and the setting that changes it."""


@dataclass(frozen=True, slots=True)
class Row:
    """A quota in words, with its number and the variable that sets it."""

    what: str
    number: int
    setting: str


@pages.get("/operator/quotas", Who.operator)
async def quotas(visit: Visit) -> Response:
    def query(tx: Transaction) -> tuple[list[Event], dict[str, int]]:
        met = access.security_log.list_newest(tx, None, kind=EventKind.quota_met, limit=_MET)
        refused = {
            name.removeprefix(REFUSED): n for name, n in counters.read_counters(tx).items() if name.startswith(REFUSED)
        }
        return met, refused

    met, refused = await visit.host.store.read(query)
    rows = [
        Row(visit.words.text(what.id), getattr(visit.host.settings, name), f"CONNECTORS_{name.upper()}")
        for what, name in _QUOTAS
    ]
    return visit.page("quotas.html", rows=rows, met=met, refused=sorted(refused.items()))

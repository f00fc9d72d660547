"""Security events of requests: signing in and out, failed attempts and refused ones, with their address and device.

Owns what the console tells the security log; the rows and how long they are kept are the store's, the page that shows
them is `security_log`.
"""

from __future__ import annotations

from starlette.requests import HTTPConnection

from connector_sdk.messages import Message
from connectors.runtime.host import Host
from connectors.store import access
from connectors.store.access.security_log import EventKind, NewEvent
from connectors.store.access.sessions import OPERATOR, Session
from connectors.store.engine import Transaction
from connectors.web.console.clients import Clients, device_name


class SecurityEvents:
    """Records events with the address and the device of the request that they came from.

    What costs its sender nothing is counted in memory and written with others once a minute, so that a stranger cannot
    have this host write as often as they ask.
    """

    def __init__(self, host: Host, clients: Clients) -> None:
        self._host = host
        self._clients = clients

    def record(
        self,
        tx: Transaction,
        request: HTTPConnection,
        kind: EventKind,
        message: Message | None = None,
        *,
        business_id: str | None,
        connection_id: str | None = None,
    ) -> None:
        """Record an event in the transaction of what it reports."""
        access.security_log.record(
            tx,
            kind,
            message,
            business_id=business_id,
            connection_id=connection_id,
            address=self._clients.address(request),
            device=device_name(request),
        )

    async def record_failed_sign_in(self, request: HTTPConnection, reason: str, business_id: str | None) -> None:
        """Record that a wrong `key`, `password` or key of another business (`foreign`) was tried."""
        message = Message(f"security.failed.{reason}")
        await self._host.store.write(
            lambda tx: self.record(tx, request, EventKind.failed_sign_in, message, business_id=business_id)
        )

    def count_failed_sign_in(self, request: HTTPConnection, reason: str) -> None:
        """Count a failed attempt that costs its sender nothing, such as one with a wrong `passkey`."""
        self._count(request, EventKind.failed_sign_in, Message(f"security.failed.{reason}"), None)

    def count_refused_attempt(self, request: HTTPConnection, session: Session | None) -> None:
        """Count an attempt that was refused without a check, because there were too many."""
        business_id = session.principal.business_id if session is not None else None
        self._count(request, EventKind.quota_met, Message("security.quota_met.tries"), business_id)

    def count_operator_visit(self, request: HTTPConnection, business_id: str, connection_id: str) -> None:
        """Count that the operator looked at a connection of a business, however many of its pages."""
        message = Message("security.operator_visit")
        self._count(request, EventKind.operator_visit, message, business_id, connection_id)

    def _count(
        self,
        request: HTTPConnection,
        kind: EventKind,
        message: Message,
        business_id: str | None,
        connection_id: str | None = None,
    ) -> None:
        address, device = self._clients.address(request), device_name(request)
        self._host.security_events.count(NewEvent(kind, message, business_id, connection_id, address, device))


def link_message(action: str, login: str) -> Message:
    """Word that a sign-in link was `made` or `used`, and for whom: the operator, or a login at 7stamp."""
    if login == OPERATOR:
        return Message(f"security.link_{action}.operator")
    return Message(f"security.link_{action}", {"login": login})

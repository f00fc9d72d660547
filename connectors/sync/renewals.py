"""Renewal of grants: trading what a till's consent gave for the next, before it ends or once the till refuses it.

Owns the order of steps, by which a refresh token that is good once is not lost or used twice: leased in the database,
traded, stored, and only then used. When a renewal is due is `connectors.store.connections.renewals`'.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

import httpx
from pydantic import BaseModel

from connector_sdk.authorisation import Credentials, Grant, OAuth
from connector_sdk.connector import Connector
from connector_sdk.errors import ConnectorError, NotAuthorised, NotConfigured, RateLimited, TillUnavailable
from connector_sdk.messages import Message
from connector_sdk.redaction import redact
from connectors.domain.clock import SECOND, micros
from connectors.domain.renewal import CALL_SECONDS
from connectors.store import connections
from connectors.store.connections.renewals import Busy, Ended, Leased, Renewed
from connectors.store.engine import Store
from connectors.sync.operator_settings import app_settings

log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 0.3
"""How often a process looks whether another one has renewed a grant."""


class RenewedCredentials(Credentials):
    """The credentials of a connection: its grant, and the host's renewal behind it."""

    def __init__(self, connection_id: str, grant: Grant, renewer: Renewer) -> None:
        super().__init__(grant)
        self._connection_id = connection_id
        self._renewer = renewer

    async def renew(self, refused: Grant) -> Grant:
        """Return a newer grant than the refused one; many who ask at once share one renewal."""
        if self._grant is refused:
            self._grant = await self._renewer.renew(self._connection_id, refused)
        return self._grant


class Renewer:
    """Renews grants, each once at a time; `transport` returns what calls tills of a connector."""

    def __init__(
        self,
        store: Store,
        classes: Mapping[str, type[Connector[BaseModel]]],
        transport: Callable[[str], httpx.AsyncBaseTransport],
    ) -> None:
        self._store = store
        self._classes = classes
        self._transport = transport
        self._tasks: dict[str, asyncio.Task[Grant]] = {}

    async def renew(self, connection_id: str, refused: Grant | None = None) -> Grant:
        """Return a grant that is newer than the refused one; without one, renew where that is due.

        Raises `NotAuthorised` where there is none and the till gives none, `TillUnavailable` where it cannot be asked
        now. Whoever waits may be cancelled: a renewal that has begun goes on to its end.
        """
        task = self._tasks.get(connection_id)
        if task is None:
            task = self._tasks[connection_id] = asyncio.create_task(self._renew(connection_id, refused))
            # the exception is looked at even where nobody waits any more: asyncio would complain of it
            task.add_done_callback(lambda done: self._forget(connection_id, done))
        # shielded: between the till's answer and the database nothing may be cancelled
        return await asyncio.shield(task)

    def _forget(self, connection_id: str, done: asyncio.Task[Grant]) -> None:
        self._tasks.pop(connection_id, None)
        if not done.cancelled():
            done.exception()

    async def aclose(self) -> None:
        """Wait for the renewals that are under way."""
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)

    async def _renew(self, connection_id: str, refused: Grant | None) -> Grant:
        while True:
            begun = await self._store.write(lambda tx: connections.renewals.begin_renewal(tx, connection_id, refused))
            match begun:
                case Leased():
                    return await self._trade(begun)
                case Renewed(grant):
                    return grant
                case Ended():
                    raise NotAuthorised("the till's consent has ended, and cannot be renewed")
                case Busy():
                    await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _trade(self, leased: Leased) -> Grant:
        """Trade a leased grant for the next and store that one. Raises `NotAuthorised` or `TillUnavailable`."""
        # The lease is on disk before the till is asked, and the new grant before anybody uses it. A host that dies in
        # between leaves the lease to run out. A refresh token that is good again and again is then shown again. One
        # that is good once may be used up, and its successor is lost with the host: it is not shown again, for a till
        # may end all access when it is; the access token is still good for three quarters of its time, in which the
        # cafe is asked to consent anew. The same holds where the till's answer is lost on the way.
        write = self._store.write
        try:
            grant = await self._ask(leased)
        except NotAuthorised as error:
            reason = Message("why.text", {"text": _without_secrets(str(error), leased.grant)})
            await write(lambda tx: connections.renewals.refuse_renewal(tx, leased, reason))
            raise
        except (RateLimited, TillUnavailable, NotConfigured) as error:
            raise TillUnavailable(f"the consent was not renewed: {await self._fail(leased, error)}") from None
        except Exception as error:  # noqa: BLE001 - a plugin may raise anything; the grant is still good for a while
            # whatever else goes wrong, the till may have traded the token
            if leased.grant.single_use:
                await write(lambda tx: connections.renewals.interrupt_renewal(tx, leased))
                raise TillUnavailable("the consent was perhaps renewed, and the answer is lost") from None
            raise TillUnavailable(f"the consent was not renewed: {await self._fail(leased, error)}") from None
        return await write(lambda tx: connections.renewals.finish_renewal(tx, leased, grant))

    async def _fail(self, leased: Leased, error: Exception) -> str:
        """Note a renewal that failed, to be tried again; return why."""
        text = str(error) if isinstance(error, ConnectorError) else f"the connector raised {type(error).__name__}"
        text = _without_secrets(text, leased.grant)
        pause = int(error.retry_after * SECOND) if isinstance(error, RateLimited) else 0
        reason = Message("why.text", {"text": text})
        await self._store.write(lambda tx: connections.renewals.fail_renewal(tx, leased, reason, retry_after=pause))
        log.warning("connection %s: its consent was not renewed: %s", leased.connection.id, text)
        return text

    async def _ask(self, leased: Leased) -> Grant:
        """Ask the till for the next grant."""
        name = leased.connection.connector
        connector_class = self._classes.get(name)
        oauth = oauth_of(connector_class) if connector_class is not None else None
        if connector_class is None or oauth is None or oauth.refresh is None:
            raise TillUnavailable("the connector is not here, or cannot renew")
        async with asyncio.timeout(CALL_SECONDS):
            grant = await oauth.refresh(app_settings(connector_class), leased.grant, self._transport(name))
        # a plugin's function may return anything, and what is stored as a grant must be one
        if not isinstance(grant, Grant) or not grant.secrets:
            raise TypeError("refresh returned no grant")
        if grant.expires_at is not None and micros(grant.expires_at) <= self._store.clock.now():
            # stored, it would be due again at once: one renewal after the other
            raise ConnectorError("the till gave a grant that has ended already: is this machine's clock right?")
        return grant


def _without_secrets(text: str, grant: Grant) -> str:
    """Redact what a connector says of a renewal: the till's own reason may quote the token that it was shown."""
    return redact(text, [secret.get_secret_value() for secret in grant.secrets.values()])


def oauth_of(connector_class: type[Connector[BaseModel]]) -> OAuth | None:
    """Return a connector's consent page; `None` where it has none."""
    return next((way for way in connector_class.authorisation if isinstance(way, OAuth)), None)

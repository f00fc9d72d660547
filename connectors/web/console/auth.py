"""Sessions: who a request is from, and how somebody is signed in and out.

Owns the session's cookie and how long a session lives; what somebody proves before is checked in `credentials` and
`relying_party`, the pages are `login`'s.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from connector_sdk.messages import Message
from connectors.domain.clock import DAY, HOUR, SECOND
from connectors.runtime.host import Host
from connectors.services import Refusal
from connectors.sevenstamp.models import Me
from connectors.store import access
from connectors.store.access.push_devices import PushOwner
from connectors.store.access.security_log import EventKind
from connectors.store.access.sessions import OPERATOR, Opened, Principal, Session
from connectors.store.engine import Transaction
from connectors.web.console.clients import device_name
from connectors.web.console.cookies import REMEMBERED_FOR, Cookies
from connectors.web.console.key_rechecks import KeyRechecks, KeyStatus
from connectors.web.console.known_browsers import KnownBrowsers
from connectors.web.console.security_events import SecurityEvents, link_message

_SESSION_COOKIE = "console"
_TOLD_COOKIE = "told"
_LIFETIME = DAY
_IDLE = 8 * HOUR  # a session that is not remembered ends when it has not been used so long
_RECORD_USE_EVERY = 300 * SECOND
_RECHECK_KEY_EVERY = 240 * SECOND  # a refused key ends its sessions within five minutes


@dataclass(frozen=True, slots=True)
class _Opening:
    """The beginning of a session: by whom, for how long, and what opened it where that may end it again."""

    principal: Principal
    remember: bool
    link: Opened | None = None
    passkey_id: str | None = None

    @property
    def lifetime(self) -> int:
        """How long the session lives at most, in microseconds."""
        return REMEMBERED_FOR if self.remember else _LIFETIME


class Auth:
    """Finds, begins and ends the sessions of browsers."""

    def __init__(
        self,
        host: Host,
        cookies: Cookies,
        known_browsers: KnownBrowsers,
        key_rechecks: KeyRechecks,
        security_events: SecurityEvents,
    ) -> None:
        self._store = host.store
        self._cookies = cookies
        self._known_browsers = known_browsers
        self._key_rechecks = key_rechecks
        self._security_events = security_events

    # --- finding ------------------------------------------------------------------------------------------------

    async def find_session(self, request: HTTPConnection, *, used: bool = True) -> Session | None:
        """Return the session of a request; `None` where there is none, or 7stamp refuses its key.

        What a page asks by itself does not count as the session being `used`.
        """
        session_id = self._cookies.read(request, _SESSION_COOKIE)
        if not session_id:
            return None
        session = await self._store.read(lambda tx: access.sessions.find(tx, session_id, _IDLE))
        if session is None:
            return None
        status = await self._check_key(session)
        # a session that a link opened shows nothing until 7stamp has accepted its key once
        if status is KeyStatus.refused or (status is KeyStatus.unknown and not session.checked_at):
            return None
        await self._record_use(session, used=used, checked=status is KeyStatus.accepted)
        return session

    async def _check_key(self, session: Session) -> KeyStatus | None:
        """Ask 7stamp about the session's key where that is due; `None` where it is not, or there is no key."""
        key, key_hash = session.principal.key, session.key_hash
        if not key or not key_hash or self._store.clock.now() - session.checked_at <= _RECHECK_KEY_EVERY:
            return None
        return await self._key_rechecks.recheck(key, key_hash, session.principal.business_id)

    async def _record_use(self, session: Session, *, used: bool, checked: bool) -> None:
        """Record that a session was used, not at each request, or that its key was checked."""
        if checked or (used and self._store.clock.now() - session.seen_at > _RECORD_USE_EVERY):
            await self._store.write(lambda tx: access.sessions.record_use(tx, session, used=used, checked=checked))

    # --- signing in ---------------------------------------------------------------------------------------------

    async def begin_session(
        self,
        request: HTTPConnection,
        response: Response,
        principal: Principal,
        *,
        remember: bool,
        method: Message | None = None,
        passkey_id: str | None = None,
    ) -> Response:
        """Begin a session in this browser, and end the one it had before; the security log tells the `method`.

        Raises `Refusal` where the passkey that opens it was removed or closed meanwhile.
        """
        opening = _Opening(principal, remember, passkey_id=passkey_id)

        def work(tx: Transaction) -> str | None:
            if passkey_id is not None and not access.passkeys.opens(tx, passkey_id):
                return None
            business_id = principal.business_id
            self._security_events.record(tx, request, EventKind.sign_in, method, business_id=business_id)
            access.passkeys.renew_key(tx, principal)
            return self._store_session(tx, request, opening)

        session_id = await self._store.write(work)
        if session_id is None:
            raise Refusal("this passkey was removed: sign in another way, and delete it from your device")
        return self._set_session(request, response, opening, session_id)

    async def begin_session_by_link(self, request: HTTPConnection, token: str, *, remember: bool) -> Response | None:
        """Spend a link and begin its session, both or neither; return `None` where the link opens nothing."""

        def spend(tx: Transaction) -> _Opening | None:
            link = access.sessions.spend_link(tx, token)
            if link is None:
                return None
            message, business_id = link_message("used", link.principal.login), link.principal.business_id
            self._security_events.record(tx, request, EventKind.link_used, message, business_id=business_id)
            return _Opening(link.principal, remember, link=link)

        return await self._begin_by(request, spend)

    async def begin_session_by_invitation(self, request: HTTPConnection, token: str) -> Response | None:
        """Spend an invitation and begin its session, both or neither; return `None` where it opens nothing."""

        def spend(tx: Transaction) -> _Opening | None:
            principal = access.colleagues.join(tx, token)
            if principal is None:
                return None
            message = Message("security.sign_in.invitation", {"name": principal.login})
            self._security_events.record(tx, request, EventKind.sign_in, message, business_id=principal.business_id)
            # as with a link: the key was good when the invitation was made, and is looked at before anything is shown
            return _Opening(principal, remember=True, link=Opened(principal, None, by_operator=False))

        return await self._begin_by(request, spend)

    async def _begin_by(
        self, request: HTTPConnection, spend: Callable[[Transaction], _Opening | None]
    ) -> Response | None:
        """Begin the session of what is spent in the same transaction; return `None` where that opens nothing."""

        def work(tx: Transaction) -> tuple[_Opening, str] | None:
            opening = spend(tx)
            return (opening, self._store_session(tx, request, opening)) if opening is not None else None

        begun = await self._store.write(work)
        if begun is None:
            return None
        opening, session_id = begun
        response = RedirectResponse("/operator" if opening.principal.business_id is None else "/", 303)
        return self._set_session(request, response, opening, session_id)

    def _store_session(self, tx: Transaction, request: HTTPConnection, opening: _Opening) -> str:
        """Store a new session in place of the one that this browser has, and return its id."""
        previous_id = self._cookies.read(request, _SESSION_COOKIE)
        previous = access.sessions.find(tx, previous_id, _IDLE) if previous_id else None
        session_id = access.sessions.begin(
            tx,
            opening.principal,
            device=device_name(request),
            remembered=opening.remember,
            lives=opening.lifetime,
            by=opening.link,
            passkey_id=opening.passkey_id,
        )
        # messages to this device go on where the same person signs in anew, and end with the session before where not
        if device_id := self.told_device(request):
            begun = access.sessions.find(tx, session_id, _IDLE)
            if begun is not None and not begun.operator:
                access.push_devices.follow(tx, device_id, push_owner(begun))
        if previous is not None:
            access.sessions.end(tx, previous.id_hash, previous.principal.business_id)
        return session_id

    def told_device(self, request: HTTPConnection) -> str:
        """Return the id of this browser among the devices that are told by Web Push; empty where it is none."""
        device_id, _, signature = self._cookies.read(request, _TOLD_COOKIE).rpartition(".")
        # signed: who knows another's id, and writes it into a cookie, must not end its messages by signing in
        return device_id if hmac.compare_digest(signature.encode(), self._sign(device_id).encode()) else ""

    def mark_told_device(self, request: HTTPConnection, response: Response, device_id: str) -> None:
        """Have this browser remember which of the devices it is."""
        mark = f"{device_id}.{self._sign(device_id)}"
        self._cookies.set(request, response, _TOLD_COOKIE, mark, REMEMBERED_FOR // SECOND)

    def _sign(self, device_id: str) -> str:
        return self._store.vault.hash("told device", device_id)

    def _set_session(self, request: HTTPConnection, response: Response, opening: _Opening, session_id: str) -> Response:
        """Give this browser its session, and the mark that somebody signed in with it."""
        max_age = opening.lifetime // SECOND if opening.remember else None
        self._cookies.set(request, response, _SESSION_COOKIE, session_id, max_age)
        self._known_browsers.mark(request, response, opening.principal)
        if device_id := self.told_device(request):
            self.mark_told_device(request, response, device_id)  # as long as what is remembered now
        return response

    # --- signing out --------------------------------------------------------------------------------------------

    async def end_session(self, request: HTTPConnection, response: Response, session: Session | None) -> Response:
        """End the session of this browser, if it has one, and delete its cookie."""
        if session is not None:
            await self._store.write(lambda tx: self._sign_out(tx, request, session))
        self._cookies.delete(request, response, _SESSION_COOKIE)
        return response

    def _sign_out(self, tx: Transaction, request: HTTPConnection, session: Session) -> None:
        principal = session.principal
        if access.sessions.end(tx, session.id_hash, principal.business_id):
            message = Message("security.sign_out", {"login": principal.login})
            self._security_events.record(tx, request, EventKind.sign_out, message, business_id=principal.business_id)


def principal_of(me: Me, key: str | None) -> Principal:
    """Return the business that 7stamp names as the owner of a key."""
    return Principal(me.business.id, me.business.name, me.business.timezone, me.staff_login, key)


def push_owner(session: Session) -> PushOwner:
    """Return whose a device is that a business' session adds."""
    principal = session.principal
    return PushOwner(str(principal.business_id), principal.colleague_id, session.id_hash, session.key_hash)


def operator() -> Principal:
    """Return the operator, who has no business and no key."""
    return Principal(None, "", "UTC", OPERATOR)

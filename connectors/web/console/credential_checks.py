"""The checks of what somebody types to sign in or to confirm: a 7stamp key, or the operator's password.

Owns in which order an attempt is bounded, checked and recorded; the bounds are `sign_in_limits`', the session that
follows is `auth`'s.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import OrderedDict
from dataclasses import dataclass

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import HTTPConnection

from connectors.runtime.host import Host
from connectors.services import KeyRefused, Refusal
from connectors.sevenstamp.models import Me
from connectors.store import access
from connectors.store.access.sessions import Session
from connectors.web.console.clients import Clients
from connectors.web.console.known_browsers import KnownBrowser, KnownBrowsers
from connectors.web.console.security_events import SecurityEvents
from connectors.web.console.sign_in_limits import (
    MAX_REMEMBERED,
    AttemptLimits,
    AttemptOrigin,
    RateLimits,
    TooManyAttempts,
    network_of,
)

_KEY = re.compile(r"7loc_sc_[!-~]{1,180}")
_MAX_PASSWORD = 1000  # characters
_KEYS_AT_ONCE = 4  # calls of 7stamp for keys that this host does not know
_PASSWORDS_AT_ONCE = 1  # argon2 takes memory and processors on purpose
_QUESTIONS_PER_SECOND, _QUESTIONS_AT_ONCE = 1.0, 10  # to 7stamp about one key that this host knows
_OWNER_LIFETIME = 30.0  # seconds


@dataclass(frozen=True, slots=True)
class _KeyOwner:
    """Whom 7stamp named as the owner of a key, and until when that is not asked again (monotonic seconds)."""

    me: Me
    until: float


class CredentialChecks:
    """Checks keys at 7stamp and the operator's password, within bounds."""

    def __init__(
        self, host: Host, clients: Clients, known_browsers: KnownBrowsers, security_events: SecurityEvents
    ) -> None:
        self._host = host
        self._store = host.store
        self._clients = clients
        self._known_browsers = known_browsers
        self._security_events = security_events
        # apart from each other: a right key, which anybody may have, must not forgive wrong passwords
        self._key_limits = AttemptLimits(self._store, "key", _KEYS_AT_ONCE)
        self._password_limits = AttemptLimits(self._store, "password", _PASSWORDS_AT_ONCE)
        self._questions = RateLimits(_QUESTIONS_PER_SECOND, _QUESTIONS_AT_ONCE)
        self._questions_under_way: dict[str, asyncio.Task[Me]] = {}
        self._owners: OrderedDict[str, _KeyOwner] = OrderedDict()
        self._hasher = PasswordHasher()

    # --- where an attempt is from -------------------------------------------------------------------------------

    # Wrong attempts count for the session or browser that makes them, so that a thief's do not delay the owner's. Who
    # signed in as a business is no known operator: anybody with a 7stamp key can be a business here.

    def _origin_of_key(self, request: HTTPConnection, session: Session | None) -> AttemptOrigin:
        if session is not None:
            return _session_origin(session)
        browser = self._known_browsers.find_businesses(request)
        if browser is not None:
            return AttemptOrigin(_browser_name(browser), f"business {browser.owner_id}", is_known=True)
        return self._stranger(request)

    def _origin_of_password(self, request: HTTPConnection, session: Session | None) -> AttemptOrigin:
        if session is not None:
            return _session_origin(session)
        browser = self._known_browsers.find_operators(request)
        if browser is not None:
            return AttemptOrigin(_browser_name(browser), _browser_name(browser), is_known=True)
        return self._stranger(request)

    def _stranger(self, request: HTTPConnection) -> AttemptOrigin:
        address = self._clients.address(request)
        return AttemptOrigin(address, network_of(address), is_known=False)

    # --- 7stamp keys --------------------------------------------------------------------------------------------

    async def check_key(self, request: HTTPConnection, key: str, *, session: Session | None = None) -> Me:
        """Return the owner of a key that somebody types, to sign in or to confirm in a `session`.

        Raises `Refusal` where it is no key or 7stamp refuses it, and `TooManyAttempts`.
        """
        _require_key_format(key)
        key_hash = self._hash(key)
        try:
            if await self._store.read(lambda tx: access.sessions.knows_key(tx, key_hash)):
                # nobody guesses a key that this host knows, so no wrong attempt stands in its way
                return await self._ask(key_hash, key)
            return await self._check_unknown_key(self._origin_of_key(request, session), key)
        except TooManyAttempts:
            self._security_events.count_refused_attempt(request, session)
            raise
        except KeyRefused:
            business_id = session.principal.business_id if session is not None else None
            await self._security_events.record_failed_sign_in(request, "key", business_id)
            raise

    def _hash(self, key: str) -> str:
        return self._store.vault.hash("7stamp key", key)

    async def _check_unknown_key(self, origin: AttemptOrigin, key: str) -> Me:
        async with self._key_limits.attempt(origin):
            me = await self._host.services.checks.check_key(key)
        await self._key_limits.forgive(origin)
        return me

    async def _ask(self, key_hash: str, key: str) -> Me:
        """Ask 7stamp about a key that this host knows, once for all that want to know meanwhile."""
        question = self._questions_under_way.get(key_hash)
        if question is None:
            self._questions.take(key_hash)
            question = asyncio.create_task(self._host.services.checks.check_key(key))
            self._questions_under_way[key_hash] = question
            question.add_done_callback(lambda task: self._end_question(key_hash, task))
        # shielded: a client that goes away must not cancel the question for the others
        return await asyncio.shield(question)

    def _end_question(self, key_hash: str, question: asyncio.Task[Me]) -> None:
        del self._questions_under_way[key_hash]
        if not question.cancelled():
            question.exception()  # asyncio warns of an error that nobody looked at, also where all askers have gone

    async def find_key_owner(self, key: str) -> Me:
        """Return the owner of a key that is stored here, at most half a minute old.

        Raises `Refusal` where 7stamp refuses the key, and `TooManyAttempts`.
        """
        now, key_hash = time.monotonic(), self._hash(key)
        owner = self._owners.get(key_hash)
        if owner is not None and now < owner.until:
            return owner.me
        me = await self._ask(key_hash, key)
        self._owners[key_hash] = _KeyOwner(me, now + _OWNER_LIFETIME)
        while len(self._owners) > MAX_REMEMBERED:
            self._owners.popitem(last=False)
        return me

    # --- the operator's password --------------------------------------------------------------------------------

    async def check_password(self, request: HTTPConnection, password: str, *, session: Session | None = None) -> None:
        """Return where this is the operator's password. Raises `Refusal` where it is not, and `TooManyAttempts`."""
        origin = self._origin_of_password(request, session)
        try:
            async with self._password_limits.attempt(origin):
                is_right = await self._is_operator_password(password)
        except TooManyAttempts:
            self._security_events.count_refused_attempt(request, None)
            raise
        if not is_right:
            await self._security_events.record_failed_sign_in(request, "password", None)
            raise Refusal("this is not the operator's password", field="password")
        await self._password_limits.forgive(origin)

    async def _is_operator_password(self, password: str) -> bool:
        password_hash = await self._store.read(access.operator_password.password_hash)
        if password_hash is None:  # the operator has set none yet: nothing opens
            return False
        try:
            # in a thread: argon2 takes tens of milliseconds, in which the event loop would answer nobody
            return await asyncio.to_thread(self._hasher.verify, password_hash, password[:_MAX_PASSWORD])
        except (VerificationError, InvalidHashError):
            return False


def _require_key_format(key: str) -> None:
    """Refuse what cannot be a 7stamp key without asking 7stamp. Raises `Refusal`."""
    if not key:
        raise Refusal("paste your 7stamp key here", field="key")
    if not _KEY.fullmatch(key):
        raise Refusal("this is no 7stamp key: a key begins with 7loc_sc_", field="key")


def _session_origin(session: Session) -> AttemptOrigin:
    """Return the origin of a session: a business's sessions share its turns, each of the operator's has its own."""
    name, business_id = f"session {session.id_hash}", session.principal.business_id
    return AttemptOrigin(name, name if business_id is None else f"business {business_id}", is_known=True)


def _browser_name(browser: KnownBrowser) -> str:
    return f"browser {browser.signature}"

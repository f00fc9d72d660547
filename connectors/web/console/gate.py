"""Who may come in: sessions and their cookies, proofs against forged forms, and delays for those who guess.

Owns every decision about a visitor's identity; what a visitor sees is the pages'.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import re
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import HTTPConnection
from starlette.responses import RedirectResponse, Response

from connector_sdk.messages import Message
from connectors.domain.clock import DAY, HOUR, SECOND
from connectors.runtime.host import Host
from connectors.services import KeyRefused, Refusal
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.models import Me
from connectors.store import access
from connectors.store.access.security_log import EventKind, NewEvent
from connectors.store.access.sessions import OPERATOR, Opened, Session, Visitor
from connectors.store.engine import Transaction
from connectors.web.console.attempts import Bounds, Delays, FairQueue, TooMany, network_of
from connectors.web.request_input import read_cookie

REMEMBERED = 90 * DAY
_ONE_DAY = DAY
_IDLE = 8 * HOUR
_TOUCH = 300 * SECOND
_RECHECK = 240 * SECOND  # a refused key ends its sessions within five minutes
_RECHECK_PATIENCE = 5.0
_RECHECK_AGAIN = 15.0
_KEY = re.compile(r"7loc_sc_[!-~]{1,180}")
_ADDRESSES = 10_000
_OF_NETWORK = (1.0, 20)  # tries a second of a stranger's network, or of a business, and how many at once
_OF_KEY = (1.0, 10)  # how often 7stamp is asked about one key that this host knows
_KEYS_AT_ONCE = 4  # calls of 7stamp for keys that this host does not know
_PASSWORDS_AT_ONCE = 1  # argon2 takes memory and processors on purpose
_REMEMBER_ME = 30.0
_OPERATORS_BROWSER = "operator"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a try is from: wrong ones count for its `name`, it waits by turns of `network`; no stranger is `known`."""

    name: str
    network: str
    known: bool


class Gate:
    """Lets visitors in, and out."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._store = host.store
        self._key_delays, self._password_delays = Delays(), Delays()  # a right key must not pardon wrong passwords
        self._networks_keys, self._networks_passwords = Bounds(*_OF_NETWORK), Bounds(*_OF_NETWORK)
        # strangers wait for strangers only: whoever this host knows has queues of their own
        self._key_queues = {known: FairQueue(_KEYS_AT_ONCE) for known in (True, False)}
        self._password_queues = {known: FairQueue(_PASSWORDS_AT_ONCE) for known in (True, False)}
        self._searches = Bounds(0.5, 20)
        self._key_asks = Bounds(*_OF_KEY)
        self._asked: dict[str, asyncio.Task[Me]] = {}
        self._known: OrderedDict[str, tuple[float, Me]] = OrderedDict()
        self._rechecked: OrderedDict[str, tuple[float, asyncio.Task[bool | None]]] = OrderedDict()
        self._hasher = PasswordHasher()

    # --- where a request is from --------------------------------------------------------------------------------

    def _trusted(self, address: _Address | None) -> bool:
        return address is not None and any(address in network for network in self._host.settings.proxies)

    def address(self, request: HTTPConnection) -> str:
        """The client's address; what a proxy forwards counts only where the proxy is trusted."""
        address = _parsed(request.client.host if request.client else "")
        # a proxy may add a header line of its own: together they are one list
        for one in reversed(",".join(request.headers.getlist("x-forwarded-for")).split(",")):
            said = _parsed(one)
            if not self._trusted(address) or said is None:
                break
            address = said
        if address is None:
            return ""
        # one house has a whole network of the longer ones
        return str(ipaddress.ip_network((address, 48), strict=False)) if address.version == 6 else str(address)

    def secure(self, request: HTTPConnection) -> bool:
        """Whether the browser came by https."""
        if request.client and self._trusted(_parsed(request.client.host)):
            forwarded = request.headers.get("x-forwarded-proto", "").split(",")[0].strip()
            if forwarded:
                return forwarded == "https"
        return request.url.scheme == "https" or urlsplit(self._host.public_url).scheme == "https"

    # --- sessions -----------------------------------------------------------------------------------------------

    def _cookie(self, request: HTTPConnection, name: str) -> str:
        return f"__Host-{name}" if self.secure(request) else name

    def _set(self, request: HTTPConnection, response: Response, name: str, value: str, seconds: int | None) -> None:
        response.set_cookie(
            self._cookie(request, name),
            value,
            max_age=seconds,
            path="/",
            secure=self.secure(request),
            httponly=True,
            samesite="lax",
        )

    def _id(self, request: HTTPConnection) -> str:
        return read_cookie(request, self._cookie(request, "console"))[:200]

    async def session(self, request: HTTPConnection, *, used: bool = True) -> Session | None:
        """Who this is; `None` for nobody, and for whoever's key 7stamp does not know any more.

        What a page asks by itself is not the session being `used`.
        """
        one = self._id(request)
        if not one:
            return None
        found = await self._store.read(lambda tx: access.sessions.find(tx, one, _IDLE))
        if found is None:
            return None
        return await self._still(found, used=used)

    async def _still(self, found: Session, *, used: bool) -> Session | None:
        """The same session, its key looked at again where that is due."""
        now = self._store.clock.now()
        checked = False
        if found.visitor.key and found.key_hash and now - found.checked_at > _RECHECK:
            answer = await self._recheck(found.visitor.key, found.key_hash)
            if answer is False:
                await self._end_of_key(found.key_hash, found.visitor.business_id)
                return None
            if answer is None and not found.checked_at:  # it came by a link, and nobody has vouched for its key yet
                return None
            checked = answer is True
        if checked or (used and now - found.seen_at > _TOUCH):
            await self._store.write(lambda tx: access.sessions.record_use(tx, found, used=used, checked=checked))
        return found

    async def vouched(self, key: str, key_hash: str, business_id: str | None) -> bool | None:
        """Whether 7stamp takes a key now; `None` where it does not say. A refused key ends what stands on it."""
        answer = await self._recheck(key, key_hash)
        if answer is False:
            await self._end_of_key(key_hash, business_id)
        return answer

    async def _end_of_key(self, key_hash: str, business_id: str | None) -> None:
        """7stamp refuses a key: end its sessions and links, and let its passkeys open nothing."""

        def work(tx: Transaction) -> None:
            ended = access.passkeys.end_of_key(tx, key_hash), access.sessions.end_of_key(tx, key_hash)
            if any(ended):  # of several requests at once, one is first
                access.security_log.record(tx, EventKind.key_refused, business_id=business_id)

        await self._store.write(work)

    async def _recheck(self, key: str, key_hash: str) -> bool | None:
        """Whether 7stamp still knows a key; `None` where it does not say, which is not asked for at every click."""
        now = time.monotonic()
        asked, asking = self._rechecked.get(key_hash, (-_RECHECK_AGAIN, None))
        if asking is None or now - asked >= _RECHECK_AGAIN:
            asking = asyncio.create_task(self._known_there(key))
            self._rechecked[key_hash] = (now, asking)
            while len(self._rechecked) > _ADDRESSES:
                self._rechecked.popitem(last=False)
        return await asyncio.shield(asking)  # whoever comes meanwhile waits for the same answer

    async def _known_there(self, key: str) -> bool | None:
        try:
            async with asyncio.timeout(_RECHECK_PATIENCE):
                await self._host.services.sevenstamp.with_key(key).me()
        except InvalidKey:
            return False
        except (SevenStampError, Refusal, TimeoutError):
            return None
        return True

    async def let_in(
        self,
        request: HTTPConnection,
        response: Response,
        visitor: Visitor,
        *,
        remember: bool,
        how: Message | None = None,
        passkey_id: str | None = None,
    ) -> Response:
        """Begin a session in this browser; one it had before ends. The security log says `how`.

        Raises `Refusal` where the passkey that opens it was removed or closed meanwhile.
        """

        def work(tx: Transaction) -> str | None:
            if passkey_id is not None and not access.passkeys.opens(tx, passkey_id):
                return None
            self.log(tx, request, EventKind.sign_in, how, business_id=visitor.business_id)
            access.passkeys.renew_key(tx, visitor)
            return self._begin(tx, request, visitor, remember, passkey_id=passkey_id)

        session_id = await self._store.write(work)
        if session_id is None:
            raise Refusal("this passkey was removed: sign in another way, and delete it from your device")
        return self._admit(request, response, visitor, session_id, remember)

    async def let_in_by_link(self, request: HTTPConnection, token: str, *, remember: bool) -> Response | None:
        """Spend a link and begin its session, both or neither; `None` where the link opens nothing."""

        def work(tx: Transaction) -> tuple[Visitor, str] | None:
            opened = access.sessions.spend_link(tx, token)
            if opened is None:
                return None
            visitor = opened.visitor
            self.log(
                tx, request, EventKind.link_used, link_words("used", visitor.login), business_id=visitor.business_id
            )
            return visitor, self._begin(tx, request, visitor, remember, by=opened)

        begun = await self._store.write(work)
        if begun is None:
            return None
        visitor, session_id = begun
        response = RedirectResponse("/operator" if visitor.business_id is None else "/", 303)
        return self._admit(request, response, visitor, session_id, remember)

    def _begin(
        self,
        tx: Transaction,
        request: HTTPConnection,
        visitor: Visitor,
        remember: bool,
        *,
        by: Opened | None = None,
        passkey_id: str | None = None,
    ) -> str:
        old, lives = self._id(request), REMEMBERED if remember else _ONE_DAY
        if old and (before := access.sessions.find(tx, old, _IDLE)) is not None:
            access.sessions.end(tx, before.id_hash, before.visitor.business_id)
        return access.sessions.begin(
            tx, visitor, device=device_of(request), remembered=remember, lives=lives, by=by, passkey_id=passkey_id
        )

    def _admit(
        self, request: HTTPConnection, response: Response, visitor: Visitor, session_id: str, remember: bool
    ) -> Response:
        """Give this browser its session, and a sign that it was signed in, which outlives the session."""
        lives = REMEMBERED if remember else _ONE_DAY
        self._set(request, response, "console", session_id, lives // SECOND if remember else None)
        whose = visitor.business_id or _OPERATORS_BROWSER
        sign = f"{whose}.{self._sign(request, whose)}"
        self._set(request, response, _sign_name(whose), sign, REMEMBERED // SECOND)
        return response

    async def let_out(self, request: HTTPConnection, response: Response, session: Session | None) -> Response:
        if session is not None:
            gone = session
            business_id = gone.visitor.business_id

            def work(tx: Transaction) -> None:
                if access.sessions.end(tx, gone.id_hash, business_id):
                    message = Message("security.sign_out", {"login": gone.visitor.login})
                    self.log(tx, request, EventKind.sign_out, message, business_id=business_id)

            await self._store.write(work)
        response.delete_cookie(
            self._cookie(request, "console"), path="/", secure=self.secure(request), httponly=True, samesite="lax"
        )
        return response

    # --- the security log ---------------------------------------------------------------------------------------

    def log(
        self,
        tx: Transaction,
        request: HTTPConnection,
        kind: EventKind,
        message: Message | None = None,
        *,
        business_id: str | None,
        connection_id: str | None = None,
    ) -> None:
        """Record an event with the address and the device that it came from."""
        access.security_log.record(
            tx,
            kind,
            message,
            business_id=business_id,
            connection_id=connection_id,
            address=self.address(request),
            device=device_of(request),
        )

    async def failed(self, request: HTTPConnection, what: str, business_id: str | None) -> None:
        """Record that a wrong `key`, `password` or key of another business (`foreign`) was tried."""
        message = Message(f"security.failed.{what}")
        await self._store.write(
            lambda tx: self.log(tx, request, EventKind.failed_sign_in, message, business_id=business_id)
        )

    def count_failed(self, request: HTTPConnection, what: str) -> None:
        """Count a failed try that costs its sender nothing; it is written with others once a minute."""
        message = Message(f"security.failed.{what}")
        event = NewEvent(EventKind.failed_sign_in, message, None, None, self.address(request), device_of(request))
        self._host.security_events.count(event)

    def _refused(self, request: HTTPConnection, session: Session | None) -> None:
        """Count a try that was not even checked; that costs no write of its own."""
        business_id = session.visitor.business_id if session is not None else None
        message = Message("security.quota_met.tries")
        event = NewEvent(EventKind.quota_met, message, business_id, None, self.address(request), device_of(request))
        self._host.security_events.count(event)

    # --- forms --------------------------------------------------------------------------------------------------

    def proof(self, request: HTTPConnection) -> tuple[str, str | None]:
        """What a form of this browser carries, and the cookie to set where it has none yet."""
        one, fresh = read_cookie(request, self._cookie(request, "visitor"))[:200], None
        if not one:
            one = fresh = secrets.token_urlsafe(18)
        return self._store.vault.hash("form", one), fresh

    def greet(self, request: HTTPConnection, response: Response, fresh: str) -> None:
        """Its own cookie, which outlives sessions: so a form is still proven when its session has ended."""
        self._set(request, response, "visitor", fresh, REMEMBERED // SECOND)

    def proven(self, request: HTTPConnection, given: str) -> bool:
        """Whether a form came from a page of ours in this browser."""
        if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
            return False
        # browsers say Sec-Fetch-Site by https only; Origin they say always, and a form of ours comes from this host
        origin = request.headers.get("origin", "")
        if origin and origin.rpartition("://")[2] not in (request.url.netloc, urlsplit(self._host.public_url).netloc):
            return False
        one = read_cookie(request, self._cookie(request, "visitor"))[:200]
        wanted = self._store.vault.hash("form", one)
        return bool(one) and hmac.compare_digest(given.encode(), wanted.encode())

    # --- the two doors ------------------------------------------------------------------------------------------

    def _sign(self, request: HTTPConnection, whose: str) -> str:
        browser = read_cookie(request, self._cookie(request, "visitor"))[:200]
        return self._store.vault.hash("signed in before", whose, browser) if browser else ""

    def _origin(self, request: HTTPConnection, session: Session | None, *, operator: bool) -> Origin:
        """Whose try it is: a session's, a browser's in which a business (or the operator) was signed in, an address's.

        Who signed in as a business is no known operator: anybody with a 7stamp key can be a business here. Wrong tries
        count for the session or browser that makes them, so that a thief's do not delay the owner's.
        """
        if session is not None:
            name = f"session {session.id_hash}"
            business_id = session.visitor.business_id
            return Origin(name, name if business_id is None else f"business {business_id}", known=True)
        signed = read_cookie(request, self._cookie(request, _sign_name(_OPERATORS_BROWSER if operator else "")))
        whose, _, sign = signed[:300].rpartition(".")
        wanted = self._sign(request, whose)
        # the cookie's name is the browser's to choose, so what was signed must say whose it is
        is_theirs = (whose == _OPERATORS_BROWSER) is operator
        if wanted and is_theirs and hmac.compare_digest(sign.encode(), wanted.encode()):
            name = f"browser {wanted}"
            return Origin(name, name if operator else f"business {whose}", known=True)
        address = self.address(request)
        return Origin(address, network_of(address), known=False)

    async def check_key(self, request: HTTPConnection, key: str, *, session: Session | None = None) -> Me:
        """Whose key somebody gives, at the door or in a `session`. Raises `Refusal`, `TooMany`."""
        if not key:
            raise Refusal("paste your 7stamp key here", field="key")
        if not _KEY.fullmatch(key):
            raise Refusal("this is no 7stamp key: a key begins with 7loc_sc_", field="key")
        business_id = session.visitor.business_id if session is not None else None
        try:
            key_hash = self._store.vault.hash("7stamp key", key)
            if await self._store.read(lambda tx: access.sessions.knows_key(tx, key_hash)):
                return await self._ask(key_hash, key)  # nobody guesses it: no wrong try stands in its way
            return await self._check_unknown(self._origin(request, session, operator=False), key)
        except TooMany:
            self._refused(request, session)
            raise
        except KeyRefused:
            await self.failed(request, "key", business_id)
            raise

    async def _check_unknown(self, origin: Origin, key: str) -> Me:
        self._key_delays.wait(origin.name)
        self._networks_keys.take(origin.network)
        async with self._key_queues[origin.known].turn(origin.name, origin.network):
            self._key_delays.try_(origin.name)
            me = await self._host.services.checks.check_key(key)
        self._key_delays.right(origin.name)
        return me

    async def _ask(self, key_hash: str, key: str) -> Me:
        """What 7stamp says of a key that this host knows; whoever asks meanwhile waits for the same answer."""
        asked = self._asked.get(key_hash)
        if asked is None:
            self._key_asks.take(key_hash)
            asked = self._asked[key_hash] = asyncio.create_task(self._host.services.checks.check_key(key))
            asked.add_done_callback(lambda task: (self._asked.pop(key_hash), task.cancelled() or task.exception()))
        return await asyncio.shield(asked)

    async def me(self, key: str) -> Me:
        """What 7stamp says of a key we have, asked at most twice a minute. Raises `Refusal`, `TooMany`."""
        now, name = time.monotonic(), self._store.vault.hash("7stamp key", key)
        until, kept = self._known.get(name, (0.0, None))
        if kept is not None and now < until:
            return kept
        me = await self._ask(name, key)
        self._known[name] = (now + _REMEMBER_ME, me)
        while len(self._known) > _ADDRESSES:
            self._known.popitem(last=False)
        return me

    def search(self, session: Session) -> None:
        """One look for somebody's card, of which a session has not too many. Raises `TooMany`."""
        self._searches.take(session.id_hash)

    async def check_password(self, request: HTTPConnection, password: str, *, session: Session | None = None) -> None:
        """Whether this is the operator's. Raises `Refusal`, `TooMany`."""
        origin = self._origin(request, session, operator=True)
        try:
            right = await self._right_password(origin, password)
        except TooMany:
            self._refused(request, None)
            raise
        if not right:
            await self.failed(request, "password", None)
            raise Refusal("this is not the operator's password", field="password")
        self._password_delays.right(origin.name)

    async def _right_password(self, origin: Origin, password: str) -> bool:
        self._password_delays.wait(origin.name)
        self._networks_passwords.take(origin.network)
        async with self._password_queues[origin.known].turn(origin.name, origin.network):
            self._password_delays.try_(origin.name)
            kept = await self._store.read(access.operator_password.password_hash)
            return kept is not None and await self._verified(kept, password)

    async def _verified(self, kept: str, password: str) -> bool:
        try:
            return await asyncio.to_thread(self._hasher.verify, kept, password[:1000])
        except (VerificationError, InvalidHashError):
            return False


def _sign_name(whose: str) -> str:
    return "operator-was-here" if whose == _OPERATORS_BROWSER else "business-was-here"


def link_words(what: str, login: str) -> Message:
    """That a sign-in link was `made` or `used`, and whose it is: the operator's, or a login's at 7stamp."""
    if login == OPERATOR:
        return Message(f"security.link_{what}.operator")
    return Message(f"security.link_{what}", {"login": login})


_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_PORT = re.compile(r"\[?(?P<six>[0-9a-fA-F:.]+)\](:\d+)?|(?P<four>[0-9.]+)(:\d+)?")


def _parsed(text: str) -> _Address | None:
    """An address as proxies write it, with or without a port; `None` where it is none."""
    found = _PORT.fullmatch(text.strip()[:80])
    plain = (found["six"] or found["four"]) if found else text.strip()[:80]
    try:
        one = ipaddress.ip_address(plain)
    except ValueError:
        return None
    return one.ipv4_mapped or one if isinstance(one, ipaddress.IPv6Address) else one


def visitor_of(me: Me, key: str | None) -> Visitor:
    return Visitor(me.business.id, me.business.name, me.business.timezone, me.staff_login, key)


_BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
_SYSTEMS = (
    ("iPhone", "iPhone"),
    ("iPad", "iPad"),
    ("Android", "Android"),
    ("Windows", "Windows"),
    ("Mac OS", "Mac"),
    ("Linux", "Linux"),
)


def device_of(request: HTTPConnection) -> str:
    """What a browser calls itself, in two words people know."""
    said = request.headers.get("user-agent", "")
    words = [next((word for sign, word in known if sign in said), "") for known in (_BROWSERS, _SYSTEMS)]
    return " · ".join(word for word in words if word)

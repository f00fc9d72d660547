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
from collections.abc import Mapping
from urllib.parse import urlsplit

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from starlette.requests import HTTPConnection
from starlette.responses import Response

from connectors.desk import Refusal
from connectors.domain.clock import DAY, HOUR, SECOND
from connectors.host import Host
from connectors.sevenstamp.client import InvalidKey, SevenStampError
from connectors.sevenstamp.models import Me
from connectors.store import operators, passkeys, sessions
from connectors.store.engine import Transaction
from connectors.store.sessions import Opened, Session, Visitor

REMEMBERED = 90 * DAY
_ONE_DAY = DAY
_IDLE = 8 * HOUR
_TOUCH = 300 * SECOND
_RECHECK = 240 * SECOND  # a refused key ends its sessions within five minutes
_RECHECK_PATIENCE = 5.0
_RECHECK_AGAIN = 15.0
_KEY = re.compile(r"7loc_sc_[!-~]{1,180}")
_ADDRESSES = 10_000
_FREE_TRIES = 3
_LONGEST_DELAY = 300.0
_FORGOTTEN = 1800.0  # so long after the last delay an address begins anew
_AT_THE_DOOR = (2.0, 20)  # checks a second over all addresses, and how many at once
_INSIDE = (5.0, 50)  # the same for who is signed in already: a crowd at the door does not shut them out
_REMEMBER_ME = 30.0


class TooMany(Exception):
    """Wait so many seconds."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"wait {seconds:.0f} seconds")
        self.seconds = max(1, round(seconds))


class Delays:
    """Growing delays for each client address; a try counts before it is known to be wrong."""

    def __init__(self) -> None:
        self._tries: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def try_(self, address: str) -> None:
        """Raises `TooMany`."""
        now = time.monotonic()
        count, not_before = self._tries.get(address, (0, 0.0))
        if now < not_before:
            raise TooMany(not_before - now)
        if now > not_before + _FORGOTTEN and count:
            count = 0
        delay = 0.0 if count < _FREE_TRIES else min(2.0 ** (count - _FREE_TRIES + 1), _LONGEST_DELAY)
        self._tries[address] = (count + 1, now + delay)
        self._tries.move_to_end(address)
        while len(self._tries) > _ADDRESSES:
            self._tries.popitem(last=False)

    def wait(self, address: str) -> None:
        """Whether it must wait, without counting. Raises `TooMany`."""
        _, not_before = self._tries.get(address, (0, 0.0))
        if time.monotonic() < not_before:
            raise TooMany(not_before - time.monotonic())

    def right(self, address: str) -> None:
        self._tries.pop(address, None)


class Bound:
    """At most so many a second over all addresses, after a burst."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        self._left, self._at = float(burst), time.monotonic()

    def take(self) -> None:
        """Raises `TooMany`."""
        now = time.monotonic()
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            raise TooMany((1 - self._left) / self._per_second)
        self._left -= 1


class Gate:
    """Lets visitors in, and out."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._store = host.store
        self._key_delays, self._password_delays = Delays(), Delays()  # a right key must not pardon wrong passwords
        self._key_checks, self._password_checks, self._inside = (
            Bound(*_AT_THE_DOOR),
            Bound(*_AT_THE_DOOR),
            Bound(*_INSIDE),
        )
        self._searches: OrderedDict[str, Bound] = OrderedDict()
        self._known: OrderedDict[str, tuple[float, Me]] = OrderedDict()
        self._rechecked: OrderedDict[str, tuple[float, asyncio.Task[bool | None]]] = OrderedDict()
        self._hasher = PasswordHasher()
        self._hashing = asyncio.Semaphore(2)  # argon2 takes memory on purpose

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
        return request.cookies.get(self._cookie(request, "console"), "")[:200]

    async def session(self, request: HTTPConnection, *, used: bool = True) -> Session | None:
        """Who this is; `None` for nobody, and for whoever's key 7stamp does not know any more.

        What a page asks by itself is not the session being `used`.
        """
        one = self._id(request)
        if not one:
            return None
        found = await self._store.read(lambda tx: sessions.of(tx, one, _IDLE))
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
                await self._end_of_key(found.key_hash)
                return None
            if answer is None and not found.checked_at:  # it came by a link, and nobody has vouched for its key yet
                return None
            checked = answer is True
        if checked or (used and now - found.seen_at > _TOUCH):
            await self._store.write(lambda tx: sessions.seen(tx, found, used=used, checked=checked))
        return found

    async def vouched(self, key: str, key_hash: str) -> bool | None:
        """Whether 7stamp takes a key now; `None` where it does not say. A refused key ends what stands on it."""
        answer = await self._recheck(key, key_hash)
        if answer is False:
            await self._end_of_key(key_hash)
        return answer

    async def _end_of_key(self, key_hash: str) -> None:
        """7stamp refuses a key: end its sessions and links, and let its passkeys open nothing."""

        def work(tx: Transaction) -> None:
            sessions.end_of_key(tx, key_hash)
            passkeys.end_of_key(tx, key_hash)

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
                await self._host.desk.sevenstamp.with_key(key).me()
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
        by: Opened | None = None,
        passkey_id: str | None = None,
    ) -> Response:
        """Begin a session in this browser; one it had before ends."""
        lives = REMEMBERED if remember else _ONE_DAY
        device = _device(request.headers)
        old = self._id(request)

        def work(tx: Transaction) -> str:
            if old and (before := sessions.of(tx, old, _IDLE)) is not None:
                sessions.end(tx, before.id_hash, before.visitor.business_id)
            if by is None:  # a key that came by a link is not looked at yet
                passkeys.renew_key(tx, visitor)
            return sessions.begin(
                tx, visitor, device=device, remembered=remember, lives=lives, by=by, passkey_id=passkey_id
            )

        one = await self._store.write(work)
        self._set(request, response, "console", one, lives // SECOND if remember else None)
        return response

    async def let_out(self, request: HTTPConnection, response: Response, session: Session | None) -> Response:
        if session is not None:
            gone = session
            await self._store.write(lambda tx: sessions.end(tx, gone.id_hash, gone.visitor.business_id))
        response.delete_cookie(
            self._cookie(request, "console"), path="/", secure=self.secure(request), httponly=True, samesite="lax"
        )
        return response

    # --- forms --------------------------------------------------------------------------------------------------

    def proof(self, request: HTTPConnection) -> tuple[str, str | None]:
        """What a form of this browser carries, and the cookie to set where it has none yet."""
        one, fresh = request.cookies.get(self._cookie(request, "visitor"), "")[:200], None
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
        one = request.cookies.get(self._cookie(request, "visitor"), "")[:200]
        wanted = self._store.vault.hash("form", one)
        return bool(one) and hmac.compare_digest(given.encode(), wanted.encode())

    # --- the two doors ------------------------------------------------------------------------------------------

    async def check_key(self, request: HTTPConnection, key: str, *, inside: bool = False) -> Me:
        """Whose key somebody gives, at the door or `inside`. Raises `Refusal`, `TooMany`."""
        address = self.address(request)
        if not key:
            raise Refusal("paste your 7stamp key here", field="key")
        if not _KEY.fullmatch(key):
            raise Refusal("this is no 7stamp key: a key begins with 7loc_sc_", field="key")
        self._key_delays.wait(address)
        (self._inside if inside else self._key_checks).take()
        self._key_delays.try_(address)
        me = await self._host.desk.check_key(key)
        self._key_delays.right(address)
        return me

    async def me(self, key: str) -> Me:
        """What 7stamp says of a key we have, asked at most twice a minute. Raises `Refusal`, `TooMany`."""
        now, name = time.monotonic(), self._store.vault.hash("7stamp key", key)
        until, kept = self._known.get(name, (0.0, None))
        if kept is not None and now < until:
            return kept
        self._inside.take()
        me = await self._host.desk.check_key(key)
        self._known[name] = (now + _REMEMBER_ME, me)
        while len(self._known) > _ADDRESSES:
            self._known.popitem(last=False)
        return me

    def search(self, session: Session) -> None:
        """One look for somebody's card, of which a session has not too many. Raises `TooMany`."""
        bound = self._searches.setdefault(session.id_hash, Bound(0.5, 20))
        while len(self._searches) > _ADDRESSES:
            self._searches.popitem(last=False)
        bound.take()

    async def check_password(self, request: HTTPConnection, password: str) -> None:
        """Whether this is the operator's. Raises `Refusal`, `TooMany`."""
        address = self.address(request)
        self._password_delays.wait(address)
        self._password_checks.take()
        self._password_delays.try_(address)
        kept = await self._store.read(operators.password_hash)
        if kept is None or not await self._verified(kept, password):
            raise Refusal("this is not the operator's password", field="password")
        self._password_delays.right(address)

    async def _verified(self, kept: str, password: str) -> bool:
        async with self._hashing:
            try:
                return await asyncio.to_thread(self._hasher.verify, kept, password[:1000])
            except (VerificationError, InvalidHashError):
                return False


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


def _device(headers: Mapping[str, str]) -> str:
    """What a browser calls itself, in two words people know."""
    said = headers.get("user-agent", "")
    words = [next((word for sign, word in known if sign in said), "") for known in (_BROWSERS, _SYSTEMS)]
    return " · ".join(word for word in words if word)

"""Parses a Poster hook and verifies its signature, each once while the hook is on its way.

Owns the memory of hooks that were parsed and verified a moment ago; how a body is read is `wire`'s, and which account
a hook is for is `connector`'s.

One hook comes here several times: `route` verifies it to find its account, then for each connection of that account
`prove` verifies it and `receive` reads it, and none of the three may rely on another having been called. Both results
are pure functions of what was sent (and of the secret), so they are remembered by exactly that: a body that differs in
one byte, or another secret, is parsed and verified anew. A refusal is never remembered.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from functools import lru_cache

from connector_sdk.errors import Forged, NotConfigured
from connector_sdk.hooks import Account, HookRequest
from connector_sdk.signatures import OrderedFieldsMd5
from poster_connector import wire
from poster_connector.settings import PosterApp

# More hooks than a host takes at one moment; what is forgotten too early is only computed once more.
_HOOKS_ON_THEIR_WAY = 128
# With the bound on their number, what remembered bodies hold of memory stays below eight megabytes. Larger bodies are
# read in a worker process, another one each time, where nothing would be gained.
LARGEST_REMEMBERED = 16 * 1024
_LATEST_SECONDS = 300


def parse(body: bytes) -> wire.Hook:
    """Parse a hook. Raises `BadPayload` that names the field."""
    return _parse_once(body) if len(body) <= LARGEST_REMEMBERED else wire.parse_hook(body)


def verify(app: PosterApp, body: bytes) -> wire.Hook | None:
    """Return a hook whose signature holds; `None` for the developer site's test, which is not signed.

    Raises `NotConfigured` where the operator has set no secret, `Forged`, or `BadPayload`.
    """
    secret = app.secret()
    if not secret:
        raise NotConfigured("POSTER_APPLICATION_SECRET")
    hook = parse(body)
    if hook.is_test:
        return None
    if not hook.verify:
        raise Forged("the signature is missing")
    _verify_once(secret, hook)
    return hook


def caller(app: PosterApp, request: HookRequest) -> Account | None:
    """Return whose screen asks, of a request that Poster has signed and sent on; `None` for one without a signature.

    The account's name is not signed, but Poster sets it, and what it signs it sends to nobody but the signed address.
    Raises `NotConfigured`, `Forged`.
    """
    signature, sent_at = request.headers.get("x-poster-signature"), request.headers.get("x-poster-time", "")
    if signature is None:
        return None
    secret = app.secret()
    if not secret:
        raise NotConfigured("POSTER_APPLICATION_SECRET")
    # https://dev.joinposter.com/en/docs/v3/pos/requests/makeRequest: md5 of address, body, time and secret; a GET has
    # no body in it
    body = b"" if request.method == "GET" else request.body
    signed = b"".join((request.url.encode(), body, sent_at.encode(), secret.encode()))
    expected = hashlib.md5(signed, usedforsecurity=False).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.lower().encode()):
        raise Forged("the signature does not hold")
    if not (sent_at.isascii() and sent_at.isdigit() and abs(time.time() - int(sent_at[:12])) <= _LATEST_SECONDS):
        raise Forged("it was signed too long ago")
    return Account("", hook_name=_account_name(request.headers.get("x-poster-url", "")))


def _account_name(text: str) -> str:
    """Return an account's name, which Poster writes by itself or as an address of it."""
    name = text.strip().lower().removeprefix("https://").removeprefix("http://")
    return name.partition("/")[0].removesuffix(".joinposter.com")


@lru_cache(maxsize=_HOOKS_ON_THEIR_WAY)
def _parse_once(body: bytes) -> wire.Hook:
    """Parse a hook, or return it from a moment ago; it is frozen, so that callers may share it."""
    return wire.parse_hook(body)


@lru_cache(maxsize=_HOOKS_ON_THEIR_WAY)
def _verify_once(secret: str, hook: wire.Hook) -> None:
    """Verify a hook's signature by a secret, unless just this was done a moment ago. Raises `Forged`."""
    OrderedFieldsMd5(secret).verify(hook.signed, hook.verify)

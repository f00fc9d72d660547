"""Webhooks of the stand-in Square: signing an event, and posting it until it is taken.

Owns the signature, the headers and the retries; which events there are is `sandbox_records`'.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import httpx

from square_connector.sandbox_records import Event

SIGNATURE_KEY = "sandbox-signature-key"
NOTIFICATION_URL = "https://connectors.example/hooks/tills/square"
SIGNATURE_HEADER = "x-square-hmacsha256-signature"
_RETRY_WAITS = (1.0, 10.0, 60.0)  # seconds; how often Square itself tries is not documented
_TIMED_OUT, _REFUSED = "http_timeout", "http_error"


@dataclass(frozen=True, slots=True)
class SignedHook:
    """A webhook as it is posted; the body's bytes are what the signature holds for."""

    headers: Mapping[str, str]
    body: bytes


def sign_body(body: bytes, key: str = SIGNATURE_KEY, url: str = NOTIFICATION_URL) -> str:
    """Return the signature of a body posted to a subscription: over the URL as subscribed, then the raw body."""
    digest = hmac.new(key.encode(), url.encode() + body, hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


@dataclass(slots=True)
class Subscription:
    """The application's one subscription, to every event of all its sellers.

    `notification_url` is the URL as it was subscribed, over which webhooks are signed wherever they are posted:
    `delivery_url`, or nowhere where it is `None`. The next `duplicates_next` webhooks are posted twice. A webhook that
    nobody takes is posted again after each of `retry_waits`, in seconds.
    """

    notification_url: str = NOTIFICATION_URL
    delivery_url: str | None = None
    duplicates_next: int = 0
    retry_waits: Sequence[float] = _RETRY_WAITS

    def sign(self, event: Event, key: str = SIGNATURE_KEY) -> SignedHook:
        """Return the webhook of an event, as it is posted first; another `key` makes a forged one."""
        body = json.dumps(event.body(), separators=(",", ":")).encode()
        signature = sign_body(body, key, self.notification_url)
        return SignedHook({"content-type": "application/json", SIGNATURE_HEADER: signature}, body)

    def sign_all(self, events: Iterable[Event]) -> list[SignedHook]:
        """Return the webhooks of events, those that are to come twice twice."""
        hooks: list[SignedHook] = []
        for event in events:
            hooks += [self.sign(event)] * (2 if self.duplicates_next else 1)
            self.duplicates_next = max(0, self.duplicates_next - 1)
        return hooks


def retry_of(hook: SignedHook, number: int, reason: str = _TIMED_OUT) -> SignedHook:
    """Return a webhook as it is posted again for the `number`th time: the body and signature stay."""
    headers = {"square-retry-number": str(number), "square-retry-reason": reason}
    return SignedHook({**hook.headers, **headers}, hook.body)


async def deliver(hook: SignedHook, url: str, waits: Sequence[float], client: httpx.AsyncClient) -> bool:
    """Post a webhook and post it again after each of `waits`, in seconds; return whether anybody took it."""
    reason = await _post(hook, url, client)
    for number, wait in enumerate(waits, 1):
        if reason is None:
            break
        await asyncio.sleep(wait)
        reason = await _post(retry_of(hook, number, reason), url, client)
    return reason is None


async def _post(hook: SignedHook, url: str, client: httpx.AsyncClient) -> str | None:
    """Post once; return why it is to be posted again, or `None`."""
    try:
        answer = await client.post(url, content=hook.body, headers=dict(hook.headers))
    except httpx.TimeoutException:
        return _TIMED_OUT
    except httpx.HTTPError:
        return _REFUSED
    return None if answer.is_success else _REFUSED

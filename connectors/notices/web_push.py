"""Web Push: a message for one browser, which its push service cannot read, and which says who sends it.

Owns RFC 8291 (encryption) and RFC 8292 (who sends), as the libraries of the web-push project do them, and the bounds of
a message. Which browsers are told what is `connectors.store.connections.push_alerts`'.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from connectors.domain.clock import HOUR, SECOND
from connectors.relay.addresses import AddressPolicy, Refused
from connectors.relay.posting import Reply, SubscriberClient
from connectors.store.access.push_devices import PushAddress
from connectors.store.engine import Store

_CURVE = ec.SECP256R1()
_POINT_BYTES, _AUTH_BYTES = 65, 16
_LONGEST_TITLE, _LONGEST_TEXT = 120, 600
_SIGNED_FOR = 12 * HOUR // SECOND
_GONE = (404, 410)
# no push service takes such a message, now or later
_NEVER = (400, 401, 403, 413)


@dataclass(frozen=True, slots=True)
class PushMessage:
    """What a phone shows, and the page of the console that it opens; `topic` names what it replaces."""

    title: str
    text: str
    path: str
    topic: str
    urgent: bool = False
    lives: int = 24 * HOUR
    """How long its push service keeps it for a phone that is off, in microseconds."""


class Outcome(Enum):
    """What became of a message."""

    sent = "sent"
    later = "later"
    """It did not go out; it may, another time."""
    gone = "gone"
    """The browser takes no messages any more: it was reset, or its owner took the permission back."""
    refused = "refused"
    """Its push service does not take messages from here."""


@dataclass(frozen=True, slots=True)
class Sent:
    """An outcome, how long the push service asks to wait (microseconds), and what it said for the log."""

    outcome: Outcome
    wait: int = 0
    said: str = ""


class WebPush:
    """Sends messages to browsers; `console_url` returns the console's address, which push services are told."""

    def __init__(
        self, store: Store, client: SubscriberClient, policy: AddressPolicy, console_url: Callable[[], str]
    ) -> None:
        self._store = store
        self._client = client
        self._policy = policy
        self._console_url = console_url

    @property
    def public_key(self) -> str:
        """What a browser subscribes with, as base64url."""
        point = self._key().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        return base64.urlsafe_b64encode(point).decode().rstrip("=")

    def _key(self) -> ec.EllipticCurvePrivateKey:
        # of the key of hashes, which stays when the secret key changes: another one would cut every phone off
        vault = self._store.vault
        number = int(vault.hash("web push", "1") + vault.hash("web push", "2"), 16)
        order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
        return ec.derive_private_key(number % (order - 1) + 1, _CURVE)

    async def check(self, endpoint: str, public_key: str, auth: str) -> PushAddress:
        """Return what a browser gave. Raises `ValueError` where nothing could be sent to it."""
        ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, _decode(public_key, _POINT_BYTES))
        _decode(auth, _AUTH_BYTES)
        try:
            target = await self._policy.check(endpoint)
        except Refused as refusal:
            raise ValueError(str(refusal)) from None
        if ":" in target.host:
            raise ValueError("a push service has a name")
        return PushAddress(endpoint, public_key, auth)

    async def send(self, address: PushAddress, message: PushMessage) -> Sent:
        """Send a message, and return what became of it."""
        headers = [
            ("Authorization", self._signature(address.endpoint)),
            ("Content-Encoding", "aes128gcm"),
            ("Content-Type", "application/octet-stream"),
            ("TTL", str(message.lives // SECOND)),
            ("Urgency", "high" if message.urgent else "normal"),
            ("Topic", hashlib.sha256(message.topic.encode()).hexdigest()[:32]),
        ]
        reply = await self._client.post(address.endpoint, _encrypted(address, message), headers)
        return _read(reply)

    def _signature(self, endpoint: str) -> str:
        from py_vapid import Vapid02  # most processes send none

        parts = urlsplit(endpoint)
        claims: dict[str, object] = {"aud": f"{parts.scheme}://{parts.netloc}", "sub": self._contact()}
        claims["exp"] = self._store.clock.now() // SECOND + _SIGNED_FOR
        return str(Vapid02(self._key()).sign(claims)["Authorization"])

    def _contact(self) -> str:
        """Return how a push service reaches whoever sends: the console's host, where others can open it."""
        console = urlsplit(self._console_url())
        if console.scheme == "https" and console.hostname and "." in console.hostname:
            return f"https://{console.hostname}"
        return "mailto:operator@localhost"


def _encrypted(address: PushAddress, message: PushMessage) -> bytes:
    import http_ece

    shown = {
        "title": message.title[:_LONGEST_TITLE],
        "body": message.text[:_LONGEST_TEXT],
        "path": message.path,
        "tag": message.topic,
    }
    encrypted: bytes = http_ece.encrypt(
        json.dumps(shown, ensure_ascii=False).encode(),
        private_key=ec.generate_private_key(_CURVE),
        dh=_decode(address.public_key, _POINT_BYTES),
        auth_secret=_decode(address.auth, _AUTH_BYTES),
        version="aes128gcm",
    )
    return encrypted


def _decode(text: str, length: int) -> bytes:
    """Read base64url with or without its padding. Raises `ValueError` for anything but so many bytes."""
    digits = text[: 2 * length].rstrip("=")
    try:
        decoded = base64.b64decode(digits + "=" * (-len(digits) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64url") from None
    if len(decoded) != length:
        raise ValueError(f"{length} bytes expected")
    return decoded


def _read(reply: Reply) -> Sent:
    if reply.status is not None and 200 <= reply.status < 300:
        return Sent(Outcome.sent)
    if reply.status in _GONE:
        return Sent(Outcome.gone, said=str(reply.status))
    said = reply.error or str(reply.status)
    if reply.status in _NEVER:
        return Sent(Outcome.refused, said=said)
    return Sent(Outcome.later, reply.asked_pause, said)

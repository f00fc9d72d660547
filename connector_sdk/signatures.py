"""Schemes by which tills sign their hooks, each one class with `verify` and `sign`.

Owns the arithmetic, in constant time; which header or field carries a signature is the connector's.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from standardwebhooks.webhooks import EmptyWebhookSecretError, Webhook, WebhookVerificationError

from connector_sdk.errors import Forged, NotConfigured

TOLERANCE_SECONDS = 300
_STAMP = re.compile(r"[0-9]{1,12}")


def equal(ours: str, theirs: str) -> bool:
    """Whether two texts are the same, in time that does not depend on where they differ."""
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True, repr=False)
class OrderedFieldsMd5:
    """md5 of field values in a fixed order joined by `separator`, the secret last (Poster's scheme)."""

    secret: str
    separator: str = ";"

    def sign(self, fields: Iterable[str]) -> str:
        """In hex."""
        joined = self.separator.join([*fields, self.secret])
        return hashlib.md5(joined.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()

    def verify(self, fields: Iterable[str], signature: str) -> None:
        """Raises `Forged`."""
        if not equal(self.sign(fields), signature.lower()):
            raise Forged("the signature does not match")


@dataclass(frozen=True, slots=True, repr=False)
class BodyHmac:
    """HMAC-SHA256 of the raw body, in hex or base64; a `sha256=` before it is understood."""

    secret: str
    encoding: Literal["hex", "base64"] = "hex"

    def sign(self, body: bytes) -> str:
        """In the encoding, without `sha256=`."""
        digest = hmac.new(self.secret.encode(), body, hashlib.sha256).digest()
        return digest.hex() if self.encoding == "hex" else base64.b64encode(digest).decode()

    def verify(self, body: bytes, signature: str) -> None:
        """Raises `Forged`."""
        theirs = signature.strip().removeprefix("sha256=")
        if not equal(self.sign(body), theirs.lower() if self.encoding == "hex" else theirs):
            raise Forged("the signature does not match")


@dataclass(frozen=True, slots=True, repr=False)
class TimestampedHmac:
    """`t={seconds},v1={hex}` with v1 = HMAC-SHA256(secret, `{t}.{body}`); several v1 during a rotation."""

    secret: str
    now: Callable[[], float] = time.time

    def sign(self, body: bytes, at: int) -> str:
        """The header's value; `at` is in seconds since 1970."""
        return f"t={at},v1={self._digest(body, str(at))}"

    def _digest(self, body: bytes, at: str) -> str:
        return hmac.new(self.secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()

    def verify(self, body: bytes, header: str) -> None:
        """Raises `Forged`, naming the skew where only the clocks disagree."""
        parts = [part.strip().partition("=") for part in header.split(",")[:16]]
        stamps = [value for name, _, value in parts if name == "t"]
        if len(stamps) != 1 or not _STAMP.fullmatch(stamps[0]):
            raise Forged("the signature has no time")
        ours = self._digest(body, stamps[0])
        if not any([equal(ours, value) for name, _, value in parts if name == "v1"]):  # noqa: C419 - no short cut
            raise Forged("the signature does not match")
        skew = self.now() - int(stamps[0])
        if abs(skew) > TOLERANCE_SECONDS:
            raise Forged(f"the signature's time is {abs(skew):.0f} seconds {'old' if skew > 0 else 'ahead'}")


@dataclass(frozen=True, slots=True, repr=False)
class StandardWebhooks:
    """The Standard Webhooks scheme, by its own package; `secret` is base64, with or without `whsec_`."""

    secret: str

    def __post_init__(self) -> None:
        try:
            Webhook(self.secret)
        except (EmptyWebhookSecretError, ValueError):
            raise NotConfigured("the webhook secret (base64, perhaps with whsec_ before it)") from None

    def sign(self, body: bytes, message_id: str, at: datetime) -> dict[str, str]:
        """The three headers of a delivery."""
        at = at.astimezone(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(self.secret).sign(message_id, at, body.decode()),
        }

    def verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Raises `Forged`."""
        try:
            Webhook(self.secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            raise Forged("the signature does not match") from error

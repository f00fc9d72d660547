"""Schemes by which tills sign their hooks, each a class with `sign` and `verify`.

Owns the arithmetic, and compares in constant time; which header or field carries a signature is the connector's.
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
from connector_sdk.hooks import HookRequest

TOLERANCE_SECONDS = 300
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_MOST_PARTS = 16  # of a header: a rotation needs three, and each further one costs a comparison


def equal(ours: str, theirs: str) -> bool:
    """Compare two texts in time that does not depend on where they differ."""
    # a header may hold lone surrogates, which UTF-8 refuses: they must compare as different, not raise
    return hmac.compare_digest(ours.encode(), theirs.encode("utf-8", "surrogatepass"))


@dataclass(frozen=True, slots=True, repr=False)
class OrderedFieldsMd5:
    """The MD5 of field values in a fixed order, joined by `separator`, the secret last (Poster's scheme)."""

    secret: str
    separator: str = ";"

    def sign(self, fields: Iterable[str]) -> str:
        """Return the signature of these fields, in hex."""
        # MD5 is the till's choice, not ours; builds of Python for FIPS refuse it for security
        joined = self.separator.join([*fields, self.secret])
        return hashlib.md5(joined.encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()

    def verify(self, fields: Iterable[str], signature: str) -> None:
        """Verify the signature of these fields. Raises `Forged`."""
        if not equal(self.sign(fields), signature.lower()):
            raise Forged("the signature does not match")


@dataclass(frozen=True, slots=True, repr=False)
class BodyHmac:
    """The HMAC of the raw body, in hex or base64; `verify` accepts the algorithm before it, as in `sha256=…`.

    `algorithm` is SHA-256, or SHA-1 where the till knows nothing better (Loyverse): an HMAC of it is not broken.
    """

    secret: str
    encoding: Literal["hex", "base64"] = "hex"
    algorithm: Literal["sha256", "sha1"] = "sha256"

    def sign(self, body: bytes) -> str:
        """Return the body's signature in `encoding`, without the algorithm's name."""
        digest = hmac.new(self.secret.encode(), body, self.algorithm).digest()
        return digest.hex() if self.encoding == "hex" else base64.b64encode(digest).decode()

    def verify(self, body: bytes, signature: str) -> None:
        """Verify the body's signature. Raises `Forged`."""
        encoded = signature.strip().removeprefix(f"{self.algorithm}=")
        # the case of hex digits means nothing, that of base64 does
        if not equal(self.sign(body), encoded.lower() if self.encoding == "hex" else encoded):
            raise Forged("the signature does not match")


@dataclass(frozen=True, slots=True, repr=False)
class AddressedHmac:
    """The HMAC-SHA256, in base64, of the address to which a hook is posted and its raw body (Square's scheme).

    The address is `HookRequest.url`: it must be, to the letter, the one that was entered at the till.
    """

    secret: str

    def sign(self, url: str, body: bytes) -> str:
        """Return the signature of a body that is posted to an address."""
        return BodyHmac(self.secret, "base64").sign(url.encode("utf-8", "surrogatepass") + body)

    def verify(self, hook: HookRequest, signature: str) -> None:
        """Verify a hook's signature. Raises `Forged`."""
        if not equal(self.sign(hook.url, hook.body), signature.strip()):
            raise Forged("the signature does not match")


@dataclass(frozen=True, slots=True, repr=False)
class TimestampedHmac:
    """A header `t={seconds},v1={hex}` with v1 = HMAC-SHA256(secret, `{t}.{body}`); several v1 during a rotation.

    `now` returns the current time in seconds since 1970.
    """

    secret: str
    now: Callable[[], float] = time.time

    def sign(self, body: bytes, at: int) -> str:
        """Return the header's value for a body signed `at` that time, in seconds since 1970."""
        return f"t={at},v1={self._digest(body, str(at))}"

    def _digest(self, body: bytes, at: str) -> str:
        return hmac.new(self.secret.encode(), at.encode() + b"." + body, hashlib.sha256).hexdigest()

    def verify(self, body: bytes, header: str) -> None:
        """Verify a body's header. Raises `Forged`, which names the skew where only the clocks disagree."""
        parts = [part.strip().partition("=") for part in header.split(",")[:_MOST_PARTS]]
        timestamp = _timestamp_of([value for name, _, value in parts if name == "t"])
        digest = self._digest(body, timestamp)
        # a list, not a generator: `any` would stop at the first match, and how long it took would say which it was
        if not any([equal(digest, value) for name, _, value in parts if name == "v1"]):  # noqa: C419
            raise Forged("the signature does not match")
        # the age is judged last: only whoever knows the secret learns anything of our clock
        self._check_age(int(timestamp))

    def _check_age(self, signed_at: int) -> None:
        """Raise `Forged` for a time that is too far from now, before or after."""
        skew = self.now() - signed_at
        if abs(skew) > TOLERANCE_SECONDS:
            raise Forged(f"the signature's time is {abs(skew):.0f} seconds {'old' if skew > 0 else 'ahead'}")


def _timestamp_of(values: list[str]) -> str:
    """Return the only time of a header, in seconds since 1970. Raises `Forged` where there is not exactly one."""
    if len(values) != 1 or not _TIMESTAMP.fullmatch(values[0]):
        raise Forged("the signature has no time")
    return values[0]


@dataclass(frozen=True, slots=True, repr=False)
class StandardWebhooks:
    """The Standard Webhooks scheme, computed by its own package; `secret` is base64, with or without `whsec_`.

    Raises `NotConfigured` for a secret that is empty or no base64.
    """

    secret: str

    def __post_init__(self) -> None:
        # tried at once: a secret that cannot be decoded must stop the setting, not every later delivery
        try:
            Webhook(self.secret)
        except (EmptyWebhookSecretError, ValueError):
            raise NotConfigured("the webhook secret (base64, perhaps with whsec_ before it)") from None

    def sign(self, body: bytes, message_id: str, at: datetime) -> dict[str, str]:
        """Return the three headers of a delivery sent `at` that moment (aware)."""
        at = at.astimezone(UTC)
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(self.secret).sign(message_id, at, body.decode()),
        }

    def verify(self, body: bytes, headers: Mapping[str, str]) -> None:
        """Verify a delivery by its headers, whose names are lower-case. Raises `Forged`."""
        try:
            # the package checks the age as well; it must not parse the body, whose numbers would become floats
            Webhook(self.secret).verify(body, dict(headers), json_parse=False)
        except (WebhookVerificationError, ValueError) as error:
            raise Forged("the signature does not match") from error

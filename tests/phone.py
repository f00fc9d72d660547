"""A phone that is told by Web Push: its two keys, its push service on loopback, and what it reads there."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import http_ece
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from py_vapid import Vapid02

from tests.relay.subscriber import Received, Subscriber, subscribing


def as_text(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).decode().rstrip("=")


@dataclass
class Phone:
    """One browser at a push service; its push service answers what `service.answer` says."""

    service: Subscriber
    name: str = "phone"
    auth: bytes = b"sixteen bytes..."
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    @property
    def form(self) -> dict[str, str]:
        """What a browser's script fills in."""
        point = self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        endpoint = f"{self.service.origin}/{self.name}"
        return {"endpoint": endpoint, "public_key": as_text(point), "auth": as_text(self.auth), "zone": "Europe/Kyiv"}

    def read(self, one: Received) -> Any:
        """Prove who sent a message, and decrypt it."""
        assert Vapid02.verify(one.headers["authorization"])
        assert one.headers["content-encoding"] == "aes128gcm"
        return json.loads(http_ece.decrypt(one.body, private_key=self.key, auth_secret=self.auth, version="aes128gcm"))

    @property
    def messages(self) -> list[Any]:
        """What it was sent and took, in order."""
        return [self.read(one) for one in self.service.taken if one.path == f"/{self.name}"]

    @property
    def titles(self) -> list[str]:
        return [one["title"] for one in self.messages]


@asynccontextmanager
async def phone() -> AsyncIterator[Phone]:
    async with subscribing() as service:
        yield Phone(service)

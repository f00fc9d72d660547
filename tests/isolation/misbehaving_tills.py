"""Connectors that misbehave on what they are sent, for the tests of isolation; importable, as a plugin's class is."""

from __future__ import annotations

import os
import re
import time
from datetime import UTC, datetime
from typing import ClassVar

from pydantic import BaseModel, SecretStr

from connector_sdk import (
    Account,
    Connector,
    ConnectorInfo,
    Customer,
    Forged,
    HookAddress,
    HookRequest,
    Ignored,
    Money,
    NotConfigured,
    Received,
    Sale,
    Sales,
    SaleStatus,
    TillAccount,
)

_SLOW = re.compile(rb"(a+)+b")
PROOF = "good"


class NoSettings(BaseModel):
    pass


class _Till(Connector[NoSettings]):
    async def check(self) -> TillAccount:
        return TillAccount(id=f"{self.info.name}-1", name=self.info.title, currency="EUR", zone="UTC", country="ES")

    def prove(self, hook: HookRequest) -> None:
        if hook.headers.get("x-proof") != PROOF:
            raise Forged("no proof")

    def receive(self, hook: HookRequest) -> Received:
        match hook.body.split(b" ")[0]:
            case b"compute":
                _SLOW.fullmatch(b"a" * 60 + b"c")
            case b"wait":
                time.sleep(3600)
            case b"memory":
                _ = bytearray(8 * 1024**3)
            case b"die":
                os._exit(3)
            case b"raise":
                raise KeyError(hook.body.decode())
            case b"answer":
                return object()  # type: ignore[return-value]
            case b"print":
                print("0" * 100_000)  # noqa: T201
        if hook.body.startswith(b"sale"):
            return Sales((_sale(hook.body.decode()),))
        return Ignored("nothing")


def _sale(text: str) -> Sale:
    _, receipt, phone = text.split(" ")
    return Sale(
        receipt_id=receipt,
        version=1,
        status=SaleStatus.closed,
        closed_at=datetime(2099, 1, 1, tzinfo=UTC),
        paid=Money(500, "EUR"),
        refunded=Money(0, "EUR"),
        customer=Customer(phone=phone),
    )


class OddTill(_Till):
    """Does what the first word of a hook says."""

    info = ConnectorInfo(name="odd", title="Odd till", hook_address=HookAddress.connection)


class OtherTill(_Till):
    """The same, under another name."""

    info = ConnectorInfo(name="other", title="Other till", hook_address=HookAddress.connection)


class KeyedTill(_Till):
    """Is told its address by its API, and gives the key that proves its hooks with the first telling only."""

    info = ConnectorInfo(name="keyed", title="Keyed till", hook_address=HookAddress.connection)
    told: ClassVar[dict[str, str]] = {}
    """The keys by address, as the till has them."""

    async def subscribe(self, address: str) -> SecretStr | None:
        if address in self.told:
            return None
        self.told[address] = f"key-{len(self.told)}-of-the-till"
        return SecretStr(self.told[address])

    async def unsubscribe(self, address: str) -> None:
        self.told.pop(address, None)

    def prove(self, hook: HookRequest) -> None:
        if self.hook_key is None:
            raise NotConfigured("the till has not told its key")
        if hook.headers.get("x-proof") != self.hook_key.get_secret_value():
            raise Forged("no proof")


class SharedTill(_Till):
    """Has one address for all accounts, and reads a hook before it knows whose it is."""

    info = ConnectorInfo(name="shared", title="Shared till", hook_address=HookAddress.operator)

    @classmethod
    def route(cls, app: object, hook: HookRequest) -> Account:
        if hook.body.startswith(b"compute"):
            _SLOW.fullmatch(b"a" * 60 + b"c")
        return Account("shared-1")

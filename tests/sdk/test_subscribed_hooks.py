"""The suite over tills that are told the hook address by their API, and give a key with it."""

from __future__ import annotations

import secrets
from typing import Any, ClassVar

import pytest
from pydantic import SecretStr

from connector_sdk import Connector, Forged, HookRequest, NotConfigured
from connector_sdk.signatures import TimestampedHmac
from connector_sdk.testing import TillStub
from connector_sdk.testing.behaviour_trial import Behaviour
from connector_sdk.testing.suite import BEHAVIOURS, Outcome, judge
from serve_connector import ServeConnector
from serve_connector.stub import ServeStub
from serve_connector.wire import SIGNATURE

HOOKS = [behaviour for behaviour in BEHAVIOURS if behaviour.name in ("true_hook", "forged_hook", "unset_secret")]


class GivesAKey(ServeConnector):
    """Proves hooks with the key that the till gave with the address."""

    cafe: ClassVar[_Addresses]
    _key: SecretStr | None = None

    async def subscribe(self, address: str) -> SecretStr | None:
        return self.cafe.subscribe(address)

    def prove(self, hook: HookRequest) -> None:
        if self.hook_key is None:
            raise NotConfigured("the till has told no key yet")
        if SIGNATURE not in hook.headers:
            raise Forged("the signature is missing")
        TimestampedHmac(self.hook_key.get_secret_value()).verify(hook.body, hook.headers[SIGNATURE])


class KeepsTheKeyItself(GivesAKey):
    """Keeps the key in its instance, which the host's workers do not have."""

    async def subscribe(self, address: str) -> SecretStr | None:
        self._key = self.cafe.subscribe(address) or self._key
        return None

    def prove(self, hook: HookRequest) -> None:
        self.hook_key = self._key
        super().prove(hook)


class _Addresses:
    """The addresses that a till was told, and the key of each; named once."""

    def __init__(self) -> None:
        self.keys: dict[str, str] = {}

    def subscribe(self, address: str) -> SecretStr | None:
        if address in self.keys:
            return None
        self.keys[address] = secrets.token_hex(16)
        return SecretStr(self.keys[address])


class _Stub(ServeStub):
    connector: ClassVar[type[Connector[Any]]] = GivesAKey

    def __init__(self) -> None:
        super().__init__()
        GivesAKey.cafe = _Addresses()

    def hook(self, receipt_id: str) -> HookRequest:
        (key,) = GivesAKey.cafe.keys.values()
        body = self._cafe.event(receipt_id)
        return HookRequest("POST", self._cafe.signed(body, secrets_=(key,)), {}, body)

    def forget_secret(self, connector: Connector[Any]) -> None:
        TillStub.forget_secret(self, connector)


class _SelfKeepingStub(_Stub):
    connector = KeepsTheKeyItself


@pytest.mark.parametrize("behaviour", HOOKS, ids=lambda behaviour: behaviour.name)
async def test_a_key_that_the_till_gives_is_shown_to_prove(behaviour: Behaviour) -> None:
    result = await judge(_Stub(), behaviour)
    assert result.outcome is Outcome.passed, result.why


async def test_a_key_that_only_the_instance_has_fails_as_it_would_in_a_worker() -> None:
    (true_hook,) = [behaviour for behaviour in HOOKS if behaviour.name == "true_hook"]
    result = await judge(_SelfKeepingStub(), true_hook)
    assert result.outcome is Outcome.failed
    assert "NotConfigured" in result.why

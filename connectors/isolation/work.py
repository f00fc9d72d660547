"""What a worker is asked to do, and how it is done there: one connector's method on one request.

Owns the values that cross between host and worker; they are pickled, for both run the same installed code.
"""

from __future__ import annotations

import importlib
import pickle
import traceback
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import BadPayload, ConnectorError
from connector_sdk.hooks import HookRequest, Received

_INSTANCES = 500


@dataclass(frozen=True, slots=True)
class ClassName:
    """Where a connector's class is: its module and name there, and the connector's own name."""

    module: str
    qualname: str
    connector: str

    @classmethod
    def of(cls, connector_class: type[Connector[Any]]) -> ClassName:
        return cls(connector_class.__module__, connector_class.__qualname__, connector_class.info.name)


@dataclass(frozen=True, slots=True)
class TillState:
    """What a connector's instance is made of; `key` is the same for the same settings of the same connection."""

    key: str
    settings: Any
    app: Any
    account: TillAccount | None


@dataclass(frozen=True, slots=True)
class Unread:
    """A proven hook that could not be read, and why; `raised` is where the connector stumbled, if it did."""

    reason: BadPayload
    raised: str = ""


def read_hook(till: Connector[Any], hook: HookRequest, *, proven: bool) -> Received | Unread:
    """Prove a hook (unless it is `proven`) and read it. Raises what `Connector.prove` does."""
    if not proven:
        till.prove(hook)
    try:
        received = till.receive(hook)
        if isinstance(received, Received):
            return received
        return Unread(BadPayload("body", f"the connector answered with {type(received).__name__}"))
    except BadPayload as error:
        return Unread(error)
    except Exception as error:  # noqa: BLE001 - a connector may raise anything; what came is kept
        # not what it says, for that may hold what somebody bought, and who
        where = f"{type(error).__name__}\n{''.join(traceback.format_tb(error.__traceback__))}"
        return Unread(BadPayload("body", f"the connector raised {type(error).__name__}"), where)


@dataclass(frozen=True, slots=True)
class Route:
    """Say whose a hook at a connector's one address is."""

    app: Any
    hook: HookRequest

    def perform(self, connector_class: type[Connector[Any]]) -> object:
        return connector_class.route(self.app, self.hook)


@dataclass(frozen=True, slots=True)
class Receive:
    """Read a hook, after its proof unless it was proven when it came."""

    till: TillState
    hook: HookRequest
    proven: bool = False

    def perform(self, connector_class: type[Connector[Any]]) -> object:
        return read_hook(_instance(connector_class, self.till), self.hook, proven=self.proven)


@dataclass(frozen=True, slots=True)
class Teach:
    """Ask a connector that is taught by example: `method` is a name in its `Teaching`."""

    method: str
    arguments: tuple[Any, ...]

    def perform(self, connector_class: type[Connector[Any]]) -> object:
        method: Callable[..., object] = getattr(connector_class.teaching, self.method)
        return method(*self.arguments)


Work = Route | Receive | Teach


@dataclass(frozen=True, slots=True)
class Done:
    """The method returned this."""

    result: object


@dataclass(frozen=True, slots=True)
class Refused:
    """The method raised an error of the SDK."""

    error: ConnectorError


@dataclass(frozen=True, slots=True)
class Raised:
    """The method raised anything else: its type's name and where, not its text, which may hold what somebody bought."""

    error: str
    where: str


Answer = Done | Refused | Raised

_made: OrderedDict[str, Connector[Any]] = OrderedDict()


def _instance(connector_class: type[Connector[Any]], state: TillState) -> Connector[Any]:
    """Return the connection's connector, made once for the same settings."""
    found = _made.get(state.key)
    if found is None:
        found = connector_class(state.settings, app=state.app, account=state.account)
        _made[state.key] = found
        if len(_made) > _INSTANCES:
            _made.popitem(last=False)
    return found


@lru_cache(maxsize=1000)
def class_of(name: ClassName) -> type[Connector[Any]]:
    """Import a connector's class; one that is made by its plugin's registration is found as the host finds it."""
    found: Any = importlib.import_module(name.module)
    try:
        for part in name.qualname.split("."):
            found = getattr(found, part)
    except AttributeError:
        from connectors.plugins import Plugins

        found = Plugins().classes[name.connector]
    if not (isinstance(found, type) and issubclass(found, Connector)):
        raise TypeError(f"{name.module}.{name.qualname} is no connector")
    return found


def perform(work: Work, connector_class: type[Connector[Any]]) -> Answer:
    """Do the work; what it raises is an answer too."""
    try:
        return Done(work.perform(connector_class))
    except ConnectorError as error:
        return Refused(error)
    except Exception as error:  # noqa: BLE001 - a connector may raise anything
        return Raised(type(error).__name__, "".join(traceback.format_tb(error.__traceback__)))


def packed(answer: Answer) -> bytes:
    """An answer as it crosses; one that cannot be pickled is an error of the connector's."""
    try:
        return pickle.dumps(answer, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever a connector returned
        return pickle.dumps(Raised(type(error).__name__, "its answer cannot be handed on"))

"""The calls that a worker can be asked to make, each of one connector's method on one request, and their results.

Owns the values that cross between host and worker; they are pickled, for both run the same installed code.
"""

from __future__ import annotations

import importlib
import pickle
import traceback
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from pydantic import BaseModel, SecretStr

from connector_sdk.connector import Connector, TillAccount
from connector_sdk.errors import BadPayload, ConnectorError
from connector_sdk.hooks import HookRequest, Received

_MOST_INSTANCES = 500
"""How many connections' connectors a worker keeps; those not made for longest go first."""

AnyConnector = Connector[BaseModel]
ConnectorClass = type[AnyConnector]


@dataclass(frozen=True, slots=True)
class ClassReference:
    """Where a connector's class is: its module and name there, and the connector's own name."""

    module: str
    qualname: str
    connector: str

    @classmethod
    def of(cls, connector_class: ConnectorClass) -> ClassReference:
        """Return the reference by which `load_class` finds a class in another process."""
        return cls(connector_class.__module__, connector_class.__qualname__, connector_class.info.name)


@dataclass(frozen=True, slots=True)
class ConnectorArguments:
    """What a connector's instance is made of; `key` is the same for the same settings of the same connection."""

    key: str
    settings: BaseModel
    app: object
    """The operator's settings, an instance of the class's `app_model`."""
    account: TillAccount | None
    hook_key: SecretStr | None = None


@dataclass(frozen=True, slots=True)
class UnreadableHook:
    """A proven hook that could not be read, and why; `raised` is the error and its traceback where it was a crash."""

    reason: BadPayload
    raised: str = ""


def read_hook(till: AnyConnector, hook: HookRequest, *, proven: bool) -> Received | UnreadableHook:
    """Prove a hook (unless it is `proven`) and read it. Raises what `Connector.prove` does."""
    if not proven:
        till.prove(hook)
    # from here on the hook is the till's: whatever goes wrong, its body is kept rather than refused
    try:
        received = till.receive(hook)
        if isinstance(received, Received):
            return received
        return UnreadableHook(BadPayload("body", f"the connector answered with {type(received).__name__}"))
    except BadPayload as error:
        return UnreadableHook(error)
    except Exception as error:  # noqa: BLE001 - a connector may raise anything; what came is kept
        # not the error's text, for that may hold what somebody bought, and who
        raised = f"{type(error).__name__}\n{_traceback_of(error)}"
        return UnreadableHook(BadPayload("body", f"the connector raised {type(error).__name__}"), raised)


def read_rows(till: AnyConnector, bodies: Sequence[bytes]) -> list[Received | UnreadableHook]:
    """Read bodies that nobody has to prove, in their order; one that cannot be read stops no other."""
    return [read_hook(till, HookRequest("POST", {}, {}, body), proven=True) for body in bodies]


@dataclass(frozen=True, slots=True)
class RouteCall:
    """Ask whose a hook at a connector's one address is."""

    app: object
    hook: HookRequest

    def make(self, connector_class: ConnectorClass) -> object:
        """Call `Connector.route`."""
        return connector_class.route(self.app, self.hook)


@dataclass(frozen=True, slots=True)
class ReceiveCall:
    """Have a hook read, after its proof unless it was proven when it came."""

    arguments: ConnectorArguments
    hook: HookRequest
    proven: bool = False

    def make(self, connector_class: ConnectorClass) -> object:
        """Call `Connector.prove` and `Connector.receive`."""
        return read_hook(_instance(connector_class, self.arguments), self.hook, proven=self.proven)


@dataclass(frozen=True, slots=True)
class RowsCall:
    """Have rows of a file read, each as the body of a hook that needs no proof."""

    arguments: ConnectorArguments
    bodies: tuple[bytes, ...]

    def make(self, connector_class: ConnectorClass) -> object:
        """Call `Connector.receive` for each row."""
        return read_rows(_instance(connector_class, self.arguments), self.bodies)


@dataclass(frozen=True, slots=True)
class TeachCall:
    """Ask a connector that is taught by example: `method` is a name in its `Teaching`."""

    method: str
    arguments: tuple[object, ...]

    def make(self, connector_class: ConnectorClass) -> object:
        """Call the method of `Connector.teaching`."""
        # the host sends names of `Teaching` only, and never one that a stranger chose
        method: Callable[..., object] = getattr(connector_class.teaching, self.method)
        return method(*self.arguments)


Call = RouteCall | ReceiveCall | RowsCall | TeachCall


@dataclass(frozen=True, slots=True)
class Returned:
    """The method returned a value."""

    value: object


@dataclass(frozen=True, slots=True)
class RaisedConnectorError:
    """The method raised an error of the SDK, which the host raises in its turn."""

    error: ConnectorError


@dataclass(frozen=True, slots=True)
class Crashed:
    """The method raised anything else: the type's name and the traceback.

    The error's text is left out, for it may hold what somebody bought.
    """

    error: str
    traceback: str


Result = Returned | RaisedConnectorError | Crashed

_instances: OrderedDict[str, AnyConnector] = OrderedDict()


def _instance(connector_class: ConnectorClass, arguments: ConnectorArguments) -> AnyConnector:
    """Return the connection's connector, made once for the same settings."""
    # a connection's key changes with its settings: an instance of former ones is not asked for any more, and falls out
    instance = _instances.get(arguments.key)
    if instance is None:
        instance = connector_class(arguments.settings, app=arguments.app, account=arguments.account)
        instance.hook_key = arguments.hook_key
        _instances[arguments.key] = instance
        if len(_instances) > _MOST_INSTANCES:
            _instances.popitem(last=False)
    return instance


@lru_cache(maxsize=1000)
def load_class(reference: ClassReference) -> ConnectorClass:
    """Import a connector's class. Raises `ImportError`, `KeyError`, or `TypeError` where it is no connector."""
    target: object = importlib.import_module(reference.module)
    try:
        for name in reference.qualname.split("."):
            target = getattr(target, name)
    except AttributeError:
        # made by its plugin's registration: no module holds it under its name, so it is found as the host finds it
        from connectors.plugins import Plugins

        target = Plugins().classes[reference.connector]
    if not (isinstance(target, type) and issubclass(target, Connector)):
        raise TypeError(f"{reference.module}.{reference.qualname} is no connector")
    return target


def make_call(call: Call, connector_class: ConnectorClass) -> Result:
    """Make a call; whatever it raises is a result too."""
    try:
        return Returned(call.make(connector_class))
    except ConnectorError as error:
        return RaisedConnectorError(error)
    except Exception as error:  # noqa: BLE001 - a connector may raise anything
        return Crashed(type(error).__name__, _traceback_of(error))


def pack_result(result: Result) -> bytes:
    """Pickle a result; where that is impossible, for a connector may return anything, the result is that it crashed."""
    try:
        return pickle.dumps(result, pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - whatever a connector returned
        return pickle.dumps(Crashed(type(error).__name__, "its answer cannot be handed on"))


def _traceback_of(error: Exception) -> str:
    return "".join(traceback.format_tb(error.__traceback__))

"""Runs a connector's methods on what strangers send: off the event loop, within limits, suspended after offences.

Owns where a method runs. A connector that ships with the host and promises to be quick on small requests is called
directly; everything else goes to a worker, which costs a request about as much again as its proof.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import cast

from connector_sdk.hooks import Account, Answer, HookRequest, Received
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connector_sdk.teaching import Leaf, Question, Sketch, Teaching, Values
from connectors.isolation.calls import (
    AnyConnector,
    Call,
    ClassReference,
    ConnectorArguments,
    ConnectorClass,
    Crashed,
    RaisedConnectorError,
    ReceiveCall,
    Result,
    RouteCall,
    RowsCall,
    TeachCall,
    UnreadableHook,
    read_hook,
    read_rows,
)
from connectors.isolation.offences import NO_TENANT, Offences
from connectors.isolation.pool import CallFailed, LimitExceeded, Limits, WorkerPool

log = logging.getLogger(__name__)


class ConnectorSuspended(CallFailed):
    """The connector exceeded its limits several times: it is called again after so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"set aside for {seconds:.0f} seconds")
        self.seconds = max(1, round(seconds))


class ConnectorCrashed(CallFailed):
    """The connector raised what is no error of the SDK: `error` is the type's name, `traceback` where it came from."""

    def __init__(self, error: str, traceback: str) -> None:
        super().__init__(error)
        self.error = error
        self.traceback = traceback


class PluginRunner:
    """Calls connectors' methods for the host.

    Every call may raise `LimitExceeded`, `QueueFull`, `ConnectorSuspended` or `ConnectorCrashed`, all of them
    `CallFailed`. `shipped` are the names of connectors that came with the host; `direct` calls everything in this
    process, for tests on a loop of their own.
    """

    def __init__(
        self,
        limits: Limits,
        *,
        shipped: Collection[str] = (),
        direct: bool = False,
        offences: Offences | None = None,
    ) -> None:
        self._pool = WorkerPool(limits)
        self._shipped = shipped
        self._direct = direct
        self.offences = offences or Offences()

    async def route(self, connector_class: ConnectorClass, app: object, hook: HookRequest) -> Account | Answer:
        """Say whose a hook at a connector's one address is. Raises what `Connector.route` does."""
        answer = await self.call(connector_class, NO_TENANT, RouteCall(app, hook), len(hook.body))
        # a plugin's method may return anything
        if not isinstance(answer, Account | Answer):
            raise ConnectorCrashed("TypeError", f"route answered with {type(answer).__name__}")
        return answer

    async def receive(
        self, till: AnyConnector, key: str, hook: HookRequest, *, tenant: str, proven: bool = False
    ) -> Received | UnreadableHook:
        """Prove a hook (unless it was proven when it came) and read it. Raises what `Connector.prove` does.

        `key` names the connection's settings as they are now, so that a worker makes their connector once.
        """
        # here the connection's own instance is at hand, and need not be made from its settings
        size = len(hook.body)
        if self._runs_here(type(till), size):
            return read_hook(till, hook, proven=proven)
        arguments = ConnectorArguments(key, till.settings, till.app, till._account, till.hook_key)
        received = await self.call(type(till), tenant, ReceiveCall(arguments, hook, proven), size)
        return cast(Received | UnreadableHook, received)

    async def receive_rows(
        self, till: AnyConnector, key: str, bodies: Sequence[bytes], *, tenant: str
    ) -> list[Received | UnreadableHook]:
        """Read rows of a file, each as a hook that nobody has to prove, in their order; all in one call.

        Raises `CallFailed`.
        """
        size = max(map(len, bodies), default=0)
        if self._runs_here(type(till), size):
            return read_rows(till, bodies)
        arguments = ConnectorArguments(key, till.settings, till.app, till._account, till.hook_key)
        received = await self.call(type(till), tenant, RowsCall(arguments, tuple(bodies)), sum(map(len, bodies)))
        return cast(list[Received | UnreadableHook], received)

    def teaching(self, connector_class: ConnectorClass, *, tenant: str) -> RemoteTeaching | None:
        """Return what a connector can be taught, asked for a tenant; `None` where it cannot be taught."""
        if connector_class.teaching is None:
            return None
        return RemoteTeaching(self, connector_class, connector_class.teaching, tenant)

    def suspended_for(self, connector: str) -> float:
        """Return for how many seconds a connector is suspended for everybody; 0 where it is not.

        Never one that came with the host: its cost is bounded by its own code, and a few cafes with strange mappings
        must not stop all others.
        """
        return 0.0 if connector in self._shipped else self.offences.pause_for_all(connector)

    async def call(self, connector_class: ConnectorClass, tenant: str, call: Call, size: int) -> object:
        """Make a call on `size` bytes that a stranger sent, here or in a worker, and return what the method did.

        Raises what the method raises of the SDK's errors, and `CallFailed`.
        """
        if self._runs_here(connector_class, size):
            return call.make(connector_class)
        # looked at before anything is queued: a connector that is left alone costs nothing
        name = connector_class.info.name
        if pause := max(self.offences.pause(name, tenant), self.suspended_for(name)):
            raise ConnectorSuspended(pause)
        try:
            result = await self._pool.call(_queue(name, tenant), ClassReference.of(connector_class), call)
        except LimitExceeded as error:
            self._count_offence(name, tenant, error, size)
            raise
        return _value_of(result)

    def _runs_here(self, connector_class: ConnectorClass, size: int) -> bool:
        """Tell whether a call is made in this process: it is surely quick, or everything is."""
        quick = connector_class.info.name in self._shipped and size <= connector_class.quick_up_to
        return self._direct or quick

    def _count_offence(self, connector: str, tenant: str, error: LimitExceeded, size: int) -> None:
        """Count an exceeded limit; where that begins a pause, let what else waits of the tenant be sent again later."""
        begins = self.offences.add(connector, tenant)
        if begins:
            self._pool.refuse_queued(_queue(connector, tenant))
        log.error(
            "connector %s was cut off: %s while reading %d bytes%s",
            connector,
            error.why,
            size,
            "; it has happened several times, so it is left alone for a while" if begins else "",
        )

    async def aclose(self) -> None:
        """End all workers."""
        await self._pool.aclose()


def _queue(connector: str, tenant: str) -> str:
    """Name the queue of a tenant's calls to a connector: a business with two connectors has two."""
    return f"{connector} {tenant}"


def _value_of(result: Result) -> object:
    """Return what a worker's call returned, or raise what it raised."""
    match result:
        case RaisedConnectorError(error=error):
            raise error
        case Crashed(error=name, traceback=traceback):
            raise ConnectorCrashed(name, traceback)
    return result.value


class RemoteTeaching:
    """A connector's `Teaching`, each question of it asked through the runner."""

    def __init__(self, runner: PluginRunner, connector_class: ConnectorClass, teaching: Teaching, tenant: str) -> None:
        self._runner = runner
        self._class = connector_class
        self._tenant = tenant
        self.secret = teaching.secret
        self.named = teaching.named

    async def questions(self, values: Values, body: bytes) -> tuple[Question, ...]:
        """Return the questions that a request makes sense of, in their order."""
        return cast(tuple[Question, ...], await self._ask("questions", len(body), values, body))

    async def leaves(self, values: Values, body: bytes, field: str) -> tuple[Leaf, ...]:
        """Return the values of a request that can be chosen for a setting."""
        return cast(tuple[Leaf, ...], await self._ask("leaves", len(body), values, body, field))

    async def taken(self, values: Values, body: bytes, field: str, path: str) -> dict[str, str]:
        """Return the settings with an answer, and with what can be seen from it."""
        return dict(cast(Values, await self._ask("taken", len(body), values, body, field, path)))

    async def sketch(self, values: Values, body: bytes) -> Sketch:
        """Return what settings make of a request."""
        return cast(Sketch, await self._ask("sketch", len(body), values, body))

    async def sales(self, values: Values, body: bytes) -> list[Sale]:
        """Return the sales that settings make of a request."""
        return list((await self.sketch(values, body)).sales)

    async def proof(self, hook: HookRequest) -> dict[str, str]:
        """Return settings that fit how a request seems to prove itself."""
        return dict(cast(Values, await self._ask("proof", len(hook.body), hook)))

    async def unproven(self, values: Values, hook: HookRequest) -> Message | None:
        """Return what stands against a request's proof by these settings, if anything does."""
        return cast(Message | None, await self._ask("unproven", len(hook.body), values, hook))

    async def _ask(self, method: str, size: int, *arguments: object) -> object:
        # a mapping may be any view of settings, which pickle does not take
        plain = tuple(dict(value) if isinstance(value, Mapping) else value for value in arguments)
        return await self._runner.call(self._class, self._tenant, TeachCall(method, plain), size)

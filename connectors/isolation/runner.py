"""Runs a connector's methods on what strangers send: off the event loop, within limits, set aside after offences.

Owns where a method runs. A connector that ships with the host and promises to be quick on small requests is called
directly; everything else goes to a worker, which costs a request about as much again as its proof.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

from connector_sdk.connector import Connector
from connector_sdk.hooks import Account, Answer, HookRequest, Received
from connector_sdk.messages import Message
from connector_sdk.sale import Sale
from connector_sdk.teaching import Leaf, Question, Sketch, Teaching, Values
from connectors.isolation.offences import NOBODY, Offences
from connectors.isolation.pool import Limits, NoAnswer, TooSlow, WorkerPool
from connectors.isolation.work import (
    ClassName,
    Raised,
    Receive,
    Refused,
    Route,
    Teach,
    TillState,
    Unread,
    Work,
    read_hook,
)

log = logging.getLogger(__name__)

R = TypeVar("R")


class SetAside(NoAnswer):
    """The connector exceeded its limits several times: it is asked again after so many `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"set aside for {seconds:.0f} seconds")
        self.seconds = max(1, round(seconds))


class Stumbled(NoAnswer):
    """The connector raised what is no error of the SDK: `error` is the type's name, `where` the lines it came by."""

    def __init__(self, error: str, where: str) -> None:
        super().__init__(error)
        self.error = error
        self.where = where


class PluginRunner:
    """Calls connectors' methods for the host. Every call may raise `TooSlow`, `SetAside`, `Busy` or `Stumbled`.

    `shipped` are the names of connectors that came with the host; `direct` calls everything in this process, for tests
    on a loop of their own.
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
        self._limits = limits
        self._shipped = shipped
        self._direct = direct
        self.offences = offences or Offences()

    async def route(self, connector_class: type[Connector[Any]], app: object, hook: HookRequest) -> Account | Answer:
        """Say whose a hook at a connector's one address is. Raises what `Connector.route` does."""
        answer = await self._do(connector_class, NOBODY, Route(app, hook), len(hook.body))
        if not isinstance(answer, Account | Answer):
            raise Stumbled("TypeError", f"route answered with {type(answer).__name__}")
        return answer

    async def receive(
        self, till: Connector[Any], key: str, hook: HookRequest, *, tenant: str, proven: bool = False
    ) -> Received | Unread:
        """Prove a hook (unless it was proven when it came) and read it. Raises what `Connector.prove` does.

        `key` names the connection's settings as they are now, so that a worker makes their connector once.
        """
        state = TillState(key, till.settings, till.app, till._account)
        answer = await self._do(type(till), tenant, Receive(state, hook, proven), len(hook.body), till=till)
        return cast(Received | Unread, answer)

    def teaching(self, connector_class: type[Connector[Any]], *, tenant: str) -> RemoteTeaching | None:
        """What a connector can be taught, asked for a tenant; `None` where it cannot."""
        if connector_class.teaching is None:
            return None
        return RemoteTeaching(self, connector_class, connector_class.teaching, tenant)

    def set_aside(self, connector: str) -> float:
        """For how many seconds a connector is set aside for everybody; 0 where it is not.

        Never one that came with the host: its cost is bounded by its own code, and a few cafes with strange mappings
        must not stop all others.
        """
        return 0.0 if connector in self._shipped else self.offences.pause_for_all(connector)

    async def _do(
        self,
        connector_class: type[Connector[Any]],
        tenant: str,
        work: Work,
        size: int,
        *,
        till: Connector[Any] | None = None,
    ) -> object:
        name = connector_class.info.name
        quick = name in self._shipped and size <= connector_class.quick_up_to
        if self._direct or quick:
            if isinstance(work, Receive) and till is not None:
                return read_hook(till, work.hook, proven=work.proven)
            return work.perform(connector_class)
        if pause := max(self.offences.pause(name, tenant), self.set_aside(name)):
            raise SetAside(pause)
        try:
            answer = await self._pool.call(f"{name} {tenant}", ClassName.of(connector_class), work)
        except TooSlow as error:
            begins = self.offences.add(name, tenant)
            if begins:
                self._pool.refuse_waiting(f"{name} {tenant}")
            log.error(
                "connector %s was cut off: %s while reading %d bytes%s",
                name,
                error.why,
                size,
                "; it has happened several times, so it is left alone for a while" if begins else "",
            )
            raise
        match answer:
            case Refused(error=refusal):
                raise refusal
            case Raised(error=raised, where=where):
                raise Stumbled(raised, where)
        return answer.result

    async def aclose(self) -> None:
        await self._pool.aclose()


class RemoteTeaching:
    """A connector's `Teaching`, each question of it asked through the runner."""

    def __init__(
        self, runner: PluginRunner, connector_class: type[Connector[Any]], teaching: Teaching, tenant: str
    ) -> None:
        self._runner = runner
        self._class = connector_class
        self._tenant = tenant
        self.secret = teaching.secret
        self.named = teaching.named

    async def questions(self, values: Values, body: bytes) -> tuple[Question, ...]:
        return await self._ask("questions", tuple[Question, ...], len(body), values, body)

    async def leaves(self, values: Values, body: bytes, field: str) -> tuple[Leaf, ...]:
        return await self._ask("leaves", tuple[Leaf, ...], len(body), values, body, field)

    async def taken(self, values: Values, body: bytes, field: str, path: str) -> dict[str, str]:
        return dict(await self._ask("taken", dict[str, str], len(body), values, body, field, path))

    async def sketch(self, values: Values, body: bytes) -> Sketch:
        return await self._ask("sketch", Sketch, len(body), values, body)

    async def sales(self, values: Values, body: bytes) -> list[Sale]:
        """The sales that settings make of a request."""
        return list((await self.sketch(values, body)).sales)

    async def proof(self, hook: HookRequest) -> dict[str, str]:
        return dict(await self._ask("proof", dict[str, str], len(hook.body), hook))

    async def unproven(self, values: Values, hook: HookRequest) -> Message | None:
        return cast(Message | None, await self._ask("unproven", object, len(hook.body), values, hook))

    async def _ask(self, method: str, _of: Callable[..., R] | type[R], size: int, *arguments: Any) -> R:
        work = Teach(method, tuple(dict(one) if hasattr(one, "items") else one for one in arguments))
        return cast(R, await self._runner._do(self._class, self._tenant, work, size))

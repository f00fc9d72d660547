"""Commands from the asking side: done here, or left to the host that runs on the same database.

Owns the choice between both and the waiting; what a command does is `connectors.services.commands`'.
"""

from __future__ import annotations

import asyncio
from typing import TypeVar

from connectors.runtime.cluster_jobs import JobKind, job
from connectors.runtime.lock import InstallationLock, Role
from connectors.runtime.membership import Membership
from connectors.runtime.recovery import recover_unfinished
from connectors.services import Command, CommandKind, Progress, ProgressReport, Refusal, Services
from connectors.services.results import Result
from connectors.store import host_commands, job_queue, members
from connectors.store.engine import Store
from connectors.store.host_commands import CommandState, HostCommand
from connectors.store.members import MemberRole

_POLL_SECONDS = 0.1
_WORKING_COMMAND_WAIT = 30.0

ResultT = TypeVar("ResultT", bound=Result)


class CommandClient:
    """Has commands done by whoever may write to the database."""

    def __init__(self, store: Store, lock: InstallationLock, services: Services, membership: Membership | None) -> None:
        self._store = store
        self._lock = lock
        self._services = services
        self._membership = membership

    async def run(self, command: Command[ResultT], progress: Progress) -> ResultT:
        """Do a command here, or have the running host do it, and return its result.

        Raises `NotFound` for an unknown connection, `Refusal` for what cannot be done, `StoreError`.
        """
        if command.connection_id:
            await self._services.connections.get(command.connection_id)
        if self._membership is not None:
            return await self._run_in_cluster(self._membership, command, progress)
        # Whoever has the lock: a host does commands of others, so it is asked at once. Another command does not; it
        # ends soon, and so it is waited for.
        waited = 0.0
        while not self._lock.acquire(command.kind):
            if self._lock.holder().role == Role.host:
                return await self._ask_host(command, progress)
            if waited >= _WORKING_COMMAND_WAIT:
                raise Refusal("another command works on this database: try again when it is done")
            await asyncio.sleep(_POLL_SECONDS)
            waited += _POLL_SECONDS
        await recover_unfinished(self._store)
        return await self._services.commands.perform(command, progress)

    async def _run_in_cluster(self, membership: Membership, command: Command[ResultT], progress: Progress) -> ResultT:
        """Leave a command to a worker; do it here where there is none, or where it is about a file of this machine."""
        if command.kind is not CommandKind.import_file and await self._workers(membership):
            return await self._ask_host(command, progress)
        if self._store.member is None:
            await membership.join(MemberRole.command, works=False)
        return await self._services.commands.perform(command, progress)

    async def _workers(self, membership: Membership) -> int:
        return await self._store.read(lambda tx: members.count_workers(tx, membership.silent_for))

    async def _is_abandoned(self) -> bool:
        """Return whether nobody is left who would do what was asked for."""
        if self._membership is not None:
            return not await self._workers(self._membership)
        return self._lock.is_free()

    async def _ask_host(self, command: Command[ResultT], progress: Progress) -> ResultT:
        """Leave a command to the running host and wait for its result. Raises `Refusal`."""
        # Through the database, because that is what both processes share: no port, no socket, no rights to manage.
        params = command.params.as_json()
        command_id = await self._store.write(
            lambda tx: host_commands.ask(tx, command.connection_id, command.kind, params)
        )
        if self._membership is not None:  # without waiting for a host's tick
            await self._store.write(lambda tx: job_queue.put(tx, [job(JobKind.command, command_id)]))
        while True:
            await asyncio.sleep(_POLL_SECONDS)
            asked = await self._store.read(lambda tx: host_commands.get(tx, command_id))
            if asked.progress:
                await progress(ProgressReport.model_validate(asked.progress))
            if asked.state is CommandState.failed:
                raise _refusal_of(asked)
            if asked.state is CommandState.done:
                return command.parse_result(asked.result or {})
            if await self._is_abandoned():  # the host has ended, or was killed: nobody is left to do it
                raise Refusal("the host was stopped meanwhile: run the command again")


def _refusal_of(command: HostCommand) -> Refusal:
    """Return the refusal that says why the host could not do a command."""
    return Refusal(str((command.result or {}).get("error", "the host could not do it")))

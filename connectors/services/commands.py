"""Commands: work that a command does here, or leaves to the host that runs on the same database.

Owns which work there is by name; the rows in which it is handed over are `connectors.store.host_commands`'.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from connector_sdk.redaction import redact
from connectors.services.context import ServiceContext
from connectors.services.refusal import Refusal
from connectors.services.review import ReviewService
from connectors.services.sync import Progress, SyncService
from connectors.store import host_commands, rotation
from connectors.store.host_commands import HostCommand


class CommandService:
    """TODO."""

    def __init__(self, context: ServiceContext, sync: SyncService, review: ReviewService) -> None:
        self._context = context
        self._sync = sync
        self._review = review

    async def rotate_keys(self, progress: Progress) -> dict[str, Any]:
        """Encrypt everything with a newer key, or go on; who asks meanwhile shares it. Raises `StoreError`."""
        shown = -1.0

        async def tell(done: int, total: int) -> None:
            nonlocal shown
            share = done / total if total else 1.0
            if share >= shown + 0.01:  # where a host does it, each is written down
                shown = share
                await progress({"done": share, "encrypted": done})

        shares = self._context.rotation.lock.locked()
        async with self._context.rotation.lock:
            if not shares or self._context.rotation.result is None:
                self._context.rotation.result = None
                rotated = await rotation.rotate(self._context.store, tell)
                self._context.rotation.result = {
                    "key": rotated.key_id,
                    "encrypted": rotated.encrypted,
                    "unreadable": rotated.unreadable,
                    "former_keys": "yours to remove" if rotated.by_hand else "removed",
                }
            return self._context.rotation.result

    async def perform(
        self, kind: str, connection_id: str, params: Mapping[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """One of the works that a command may leave to a running host."""
        match kind:
            case "sync":
                return await self._sync.run(connection_id)
            case "backfill":
                return await self._sync.backfill(connection_id, str(params["since"]), progress)
            case "try_again":
                return await self._review.retry_unread(connection_id, params.get("ids"))
            case "replan":
                return await self._sync.replan(connection_id, str(params["since"]), progress)
            case "rotate":
                return await self.rotate_keys(progress)
        raise Refusal(f"there is no command {kind!r}")

    async def claim(self) -> list[HostCommand]:
        """Take what commands asked for."""
        if not await self._context.store.read(host_commands.is_any_asked):
            return []
        return await self._context.store.write(host_commands.claim)

    async def execute(self, command: HostCommand) -> None:
        """Do one command and leave its result for whoever waits."""

        async def progress(now: Mapping[str, Any]) -> None:
            await self._context.store.write(lambda tx: host_commands.report_progress(tx, command.id, now))

        try:
            result = await self.perform(command.kind, command.connection_id, command.params, progress)
            state = "done"
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            result, state = {"error": redact(str(error) or type(error).__name__)}, "failed"
        await self._context.store.write(lambda tx: host_commands.finish(tx, command.id, state, result))

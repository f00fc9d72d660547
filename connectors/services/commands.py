"""Commands: work that a command does here, or leaves to the host that runs on the same database.

Owns which kinds there are, with their parameters and results; the rows in which a command is handed over are written by
`connectors.store.host_commands`, and asking and waiting are `connectors.runtime.command_client`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import JsonValue

from connector_sdk.messages import Message
from connector_sdk.redaction import redact
from connectors.services.agreement import AgreementService
from connectors.services.context import ServiceContext
from connectors.services.imports import ImportService, ImportWish
from connectors.services.refusal import Refusal
from connectors.services.results import (
    ImportResult,
    JsonModel,
    JsonObject,
    Progress,
    ProgressReport,
    ReconcileResult,
    ReplanResult,
    Result,
    RetryResult,
    RotationResult,
    SyncResult,
)
from connectors.services.review import ReviewService
from connectors.services.sync import SyncService, start_of_day
from connectors.store import host_commands, ledger, rotation
from connectors.store.engine import Transaction
from connectors.store.host_commands import CommandState, HostCommand

ResultT = TypeVar("ResultT", bound=Result)


class CommandKind(StrEnum):
    """The work that a command may leave to a running host; the values stand in the database."""

    sync = "sync"
    """Poll, look-back, hints and delivery once, now."""
    backfill = "backfill"
    """Take in a till's history since a day."""
    try_again = "try_again"
    """Read once more what could not be read."""
    replan = "replan"
    """Plan receipts since a day by the rule as it is now."""
    import_file = "import"
    """Take the receipts of a file in."""
    reconcile = "reconcile"
    """Compare till, ledger and cards."""
    rotate = "rotate"
    """Encrypt everything with a newer key."""


class CommandParams(JsonModel):
    """The parameters of all kinds of command; each kind has its own of them, or none."""

    since: str | None = None
    """The first day (`2026-11-23`) in the till's time zone: of `backfill`, `replan` and, if it is said, `reconcile`."""
    ids: tuple[str, ...] | None = None
    """Which requests `try_again` reads: all that wait, where there are none."""
    file: str | None = None
    """The file that `import` reads, by its whole path."""
    encoding: str | None = None
    delimiter: str | None = None
    format: str | None = None
    columns: dict[str, str] | None = None
    """The column of each value that `import` reads from another place than the connection's mapping says."""
    settings: dict[str, str] | None = None
    """Settings of the connection that are others for the file."""

    def first_day(self) -> str:
        """Return the first day. Raises `Refusal` where there is none."""
        if self.since is None:
            raise Refusal("this command needs a first day")
        return self.since

    def import_wish(self) -> ImportWish:
        """Return the file to import. Raises `Refusal` where there is none."""
        if self.file is None:
            raise Refusal("this command needs a file")
        return ImportWish(
            Path(self.file), self.encoding, self.delimiter, self.format, self.columns or {}, self.settings or {}
        )


_NO_PARAMS = CommandParams()


@dataclass(frozen=True, slots=True)
class Command(Generic[ResultT]):
    """Work to do, and the type of its result."""

    kind: CommandKind
    result_type: type[ResultT]
    connection_id: str = ""
    """The connection it is about; empty for one that concerns the whole installation."""
    params: CommandParams = _NO_PARAMS

    def parse_result(self, stored: Mapping[str, JsonValue]) -> ResultT:
        """Return the result that another process stored."""
        return self.result_type.model_validate(stored)


def sync_command(connection_id: str) -> Command[SyncResult]:
    """Return the command to read and send for a connection once, now."""
    return Command(CommandKind.sync, SyncResult, connection_id)


def backfill_command(connection_id: str, since: str) -> Command[SyncResult]:
    """Return the command to take in a till's history since a day. Raises `Refusal` for what is no day."""
    day = start_of_day(since, "UTC").date().isoformat()  # a person may have written 2026-1-5
    return Command(CommandKind.backfill, SyncResult, connection_id, CommandParams(since=day))


def replan_command(connection_id: str, since: str) -> Command[ReplanResult]:
    """Return the command to plan receipts since a day by the rule as it is now."""
    return Command(CommandKind.replan, ReplanResult, connection_id, CommandParams(since=since))


def retry_command(connection_id: str) -> Command[RetryResult]:
    """Return the command to read once more all that could not be read."""
    return Command(CommandKind.try_again, RetryResult, connection_id)


def import_command(connection_id: str, wish: ImportWish) -> Command[ImportResult]:
    """Return the command to take the receipts of a file in."""
    params = CommandParams(
        file=str(wish.file.resolve()),
        encoding=wish.encoding,
        delimiter=wish.delimiter,
        format=wish.format,
        columns=dict(wish.columns) or None,
        settings=dict(wish.settings) or None,
    )
    return Command(CommandKind.import_file, ImportResult, connection_id, params)


def reconcile_command(connection_id: str, since: str | None) -> Command[ReconcileResult]:
    """Return the command to compare till, ledger and cards, of the last ended business days or since a day."""
    return Command(CommandKind.reconcile, ReconcileResult, connection_id, CommandParams(since=since))


def rotate_command() -> Command[RotationResult]:
    """Return the command to encrypt everything with a newer key."""
    return Command(CommandKind.rotate, RotationResult)


class CommandService:
    """Does commands, those of this process and those that other processes leave to it."""

    def __init__(
        self,
        context: ServiceContext,
        sync: SyncService,
        review: ReviewService,
        agreement: AgreementService,
        imports: ImportService,
    ) -> None:
        self._context = context
        self._sync = sync
        self._review = review
        self._agreement = agreement
        self._imports = imports

    async def perform(self, command: Command[ResultT], progress: Progress) -> ResultT:
        """Do a command and return its result. Raises `Refusal`, `StoreError`."""
        result = await self._perform(command.kind, command.connection_id, command.params, progress)
        if not isinstance(result, command.result_type):
            raise TypeError(f"{command.kind} has a {type(result).__name__} as its result")
        return result

    async def _perform(
        self, kind: CommandKind, connection_id: str, params: CommandParams, progress: Progress
    ) -> Result:
        match kind:
            case CommandKind.sync:
                return await self._sync.run(connection_id)
            case CommandKind.backfill:
                return await self._sync.backfill(connection_id, params.first_day(), progress)
            case CommandKind.try_again:
                return await self._review.retry_unread(connection_id, params.ids)
            case CommandKind.replan:
                return await self._sync.replan(connection_id, params.first_day(), progress)
            case CommandKind.import_file:
                return await self._imports.run(connection_id, params.import_wish(), progress)
            case CommandKind.reconcile:
                return await self._agreement.reconcile(connection_id, params.since, progress)
            case CommandKind.rotate:
                return await self.rotate_keys(progress)

    async def rotate_keys(self, progress: Progress) -> RotationResult:
        """Encrypt everything with a newer key, or go on with it. Raises `StoreError`.

        Who asks while a rotation goes on waits for it and gets its result: a second one right after it would make
        another key for nothing.
        """
        state = self._context.rotation
        joins = state.lock.locked()
        async with state.lock:
            # one that was joined and failed left no result: whoever joined it tries
            if not joins or state.result is None:
                state.result = None
                state.result = await self._rotate(progress)
            return state.result

    async def _rotate(self, progress: Progress) -> RotationResult:
        reported = -1.0

        async def report(encrypted: int, total: int) -> None:
            nonlocal reported
            share = encrypted / total if total else 1.0
            if share >= reported + 0.01:  # a host writes each report to the database: a hundred are enough
                reported = share
                await progress(ProgressReport(done=share, encrypted=encrypted))

        rotated = await rotation.rotate(self._context.store, report)
        return RotationResult(
            key=rotated.key_id,
            encrypted=rotated.encrypted,
            unreadable=rotated.unreadable,
            former_keys="yours to remove" if rotated.by_hand else "removed",
        )

    async def ask_for_history(self, connection_id: str, since: str) -> host_commands.Asked:
        """Ask a host to take in a till's history since a day, or return the command that is under way.

        Raises `Refusal` where the connection does not work.
        """
        connection = await self._sync.require_working(connection_id)
        params = CommandParams(since=since).as_json()

        def work(tx: Transaction) -> host_commands.Asked:
            asked = host_commands.ask_alone(tx, connection.id, CommandKind.backfill, params)
            if asked.is_new:
                ledger.journal.write(
                    tx, connection.id, Message("journal.history_asked", {"since": date.fromisoformat(since)})
                )
            return asked

        return await self._context.write(work)

    # --- commands of other processes --------------------------------------------------------------------------

    async def claim(self) -> list[HostCommand]:
        """Claim the commands that other processes ask for."""
        if not await self._context.store.read(host_commands.is_any_asked):
            return []
        return await self._context.store.write(host_commands.claim)

    async def execute(self, command: HostCommand) -> None:
        """Do a claimed command and store its result, or why it failed, for the process that waits."""

        async def progress(report: ProgressReport) -> None:
            shown = report.as_json()
            await self._context.store.write(lambda tx: host_commands.report_progress(tx, command.id, shown))

        result: JsonObject
        # A failure is an answer, too: without it the process that waits would wait until this host ends.
        try:
            performed = await self._perform(
                _kind_of(command.kind), command.connection_id, CommandParams.model_validate(command.params), progress
            )
            result, state = performed.as_json(), CommandState.done
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it was
            result, state = {"error": redact(str(error) or type(error).__name__)}, CommandState.failed
        await self._context.store.write(lambda tx: host_commands.finish(tx, command.id, state, result))


def _kind_of(name: str) -> CommandKind:
    """Return the kind of a stored command. Raises `Refusal` for one of a newer version."""
    try:
        return CommandKind(name)
    except ValueError:
        raise Refusal(f"there is no command {name!r}") from None

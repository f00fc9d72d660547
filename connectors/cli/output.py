"""How commands speak: tables for people, JSON for scripts, one plain sentence and a non-zero exit for what went wrong.

Owns the way from a command to an event loop and back, and that nothing a cafe or a till wrote steers the terminal:
every text goes through here. What commands do is elsewhere.

Every command imports this module, `--help` too: what only some commands need is imported in its functions.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.markup import escape as escape_markup
from rich.table import Table

from connector_sdk.redaction import RedactingFormatter, printable, printable_json, redact

if TYPE_CHECKING:
    import asyncio

    from connectors.runtime.host import Host

Result = TypeVar("Result")

console = Console()
_errors = Console(stderr=True)
_NOISY_LOGGERS = ("apscheduler", "alembic", "httpx", "httpcore", "asyncio", "aiosqlite", "procrastinate", "psycopg")
_INTERRUPTED = 130
"""The exit code of a process that Ctrl-C ended: 128 and the signal's number."""


def log_to_stderr(level: str = "WARNING", *, as_json: bool = False) -> None:
    """Write every log line of this process to stderr, redacted; libraries only from WARNING up."""
    # stderr, because stdout belongs to what a script parses
    handler = logging.StreamHandler()
    if as_json:
        from connectors.log_lines import JsonFormatter

        handler.setFormatter(JsonFormatter())
    else:
        handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    # `force`, because `serve` calls this a second time, with a level of its own
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    # below WARNING these libraries log each request and statement, which drowns the lines about sales
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


class LogFormat(StrEnum):
    """How log lines are written."""

    text = "text"
    """A line for people."""
    json = "json"
    """An object for machines, with the connection and the receipt that the line is about."""


@dataclass(frozen=True, slots=True)
class Logging:
    """How the command line says that this process logs; `level` is `None` where it says nothing."""

    level: str | None
    as_json: bool

    def begin(self, usual: str) -> None:
        """Log from here on, with the `usual` level of the command where no other was named."""
        log_to_stderr(self.level or usual, as_json=self.as_json)


def run(work: Callable[[], Coroutine[object, object, Result]], *, interrupted: int = _INTERRUPTED) -> Result:
    """Run a command's coroutine to its end; what went wrong becomes a sentence and exit code 1.

    `interrupted` is the exit code of Ctrl-C: 0 where that is how the command is meant to end.
    """
    import asyncio  # `--help` and `--version` come past this module, and run nothing

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work())
    except KeyboardInterrupt:
        # whoever pressed Ctrl-C knows why it ended: no traceback, and the code that a shell expects
        raise typer.Exit(interrupted) from None
    except (typer.Exit, typer.Abort):
        raise  # the command has said what it had to, and chosen its exit code
    except Exception as error:  # noqa: BLE001 - services and plugins may raise anything: all of it becomes a sentence
        _fail_with(error)


def run_with_host(work: Callable[[Host], Coroutine[object, object, Result]], *, upgrading: bool = False) -> Result:
    """Run a command's coroutine with a host that is open as long as it runs; what goes wrong ends as in `run`."""
    return run(partial(_work_with_host, work, upgrading))


async def _work_with_host(work: Callable[[Host], Coroutine[object, object, Result]], upgrading: bool) -> Result:
    # opened within `run`: that the database or the settings are wrong is to become a sentence too
    async with the_host(upgrading=upgrading) as host:
        return await work(host)


def _fail_with(error: Exception) -> NoReturn:
    """End the command with a sentence about an error; an unexpected one is logged with its traceback before."""
    sentence = _expected_error(error)
    if sentence is not None:
        fail(sentence)
    name = type(error).__name__
    logging.getLogger(__name__).error("a command ended with %s", name, exc_info=error)
    fail(f"something unexpected happened ({name}: {error}); the log above says where")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a fast event loop, or `None` for Python's own where uvloop does not run."""
    if sys.platform == "win32":
        return None
    import uvloop  # not at the top: it does not exist on Windows, and the help needs no loop

    return uvloop.new_event_loop


def _expected_error(error: Exception) -> str | None:
    """Word an error that says itself what to do; `None` for one that nobody expected."""
    # imported only once something went wrong: the help imports this module, and needs neither services nor pydantic
    from pydantic import ValidationError

    from connector_sdk.errors import ConnectorError
    from connectors.services import Refusal
    from connectors.sevenstamp.client import SevenStampError
    from connectors.store.errors import StoreError
    from connectors.sync.field_errors import describe_field_errors

    if isinstance(error, Refusal | StoreError | SevenStampError | ConnectorError):
        return str(error)
    if isinstance(error, ValidationError):
        # whatever a person typed is validated where it is read, so the only model left is the host's own settings
        return f"the environment is not understood: {describe_field_errors(error, prefix='CONNECTORS_')}"
    return None


def fail(sentence: str) -> NoReturn:
    """Print what is wrong, redacted and on one line, and end with exit code 1."""
    # on one line, so that a script that keeps stderr's last line has the whole sentence
    line = " ".join(sentence.split("\n"))
    _errors.print(f"[red]✗[/red] {escape(redact(line))}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def escape(text: str) -> str:
    """Return a text as rich may print it: no markup, and nothing that steers a terminal."""
    # the name of a product or a cafe is a stranger's text: it must not recolour, clear or retitle a terminal
    return escape_markup(printable(text))


@asynccontextmanager
async def the_host(*, upgrading: bool = False) -> AsyncIterator[Host]:
    """Open a host as the environment says, for the length of the block; `upgrading` a database server is asked for."""
    # the host imports the store and every connector: the help, which imports this module, must not wait for them
    from connectors.runtime.host import Host
    from connectors.settings import Settings

    host = Host(Settings())
    host.may_upgrade = upgrading
    async with host:
        yield host


def say(text: str) -> None:
    """Print one line for people."""
    console.print(escape(text), highlight=False, soft_wrap=True)


def show_json(value: object, *, indent: int | None = 2) -> None:
    """Print a value for scripts, without `indent` on one line; what steers a terminal stands as JSON's own escapes."""
    # not through rich, which folds lines at the terminal's width: a folded string is no JSON
    sys.stdout.write(printable_json(value, indent=indent) + "\n")


def show_bytes(body: bytes) -> None:
    """Print what a till sent: byte for byte for a script, and as text on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(printable(body.decode("utf-8", "replace"), lines=True) + "\n")
    else:
        # a script compares or replays the body: decoded and encoded again it might be another one
        sys.stdout.buffer.write(body)


def show_table(columns: list[str], rows: list[list[str]], empty: str) -> None:
    """Print rows as a table, or the sentence `empty` where there are none."""
    if not rows:
        say(empty)
        return
    console.print(_table(columns, rows))


def _table(columns: list[str], rows: list[list[str]]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        # folded, not cut with an ellipsis: people copy ids out of tables
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    return table


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone, unless `--yes` has answered; without a terminal, end with exit code 1."""
    if yes:
        return
    # nobody sits at a pipe: waiting for an answer would hang a script, and silence is no yes
    if not sys.stdin.isatty():
        fail(f"{question} Say --yes to go on.")
    typer.confirm(printable(question), abort=True)

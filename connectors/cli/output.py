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
_NOISY_LOGGERS = ("apscheduler", "alembic", "httpx", "httpcore", "asyncio", "aiosqlite")
_INTERRUPTED = 130
"""The exit code of a process that Ctrl-C ended: 128 and the signal's number."""


def log_to_stderr(level: str = "WARNING") -> None:
    """Write every log line of this process to stderr, redacted; libraries only from WARNING up."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for name in _NOISY_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)


def run(work: Callable[[], Coroutine[object, object, Result]], *, interrupted: int = _INTERRUPTED) -> Result:
    """Run a command's coroutine to its end; what went wrong becomes a sentence and exit code 1.

    `interrupted` is the exit code of Ctrl-C: 0 where that is how the command is meant to end.
    """
    import asyncio

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work())
    except KeyboardInterrupt:
        raise typer.Exit(interrupted) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        sentence = _expected_error(error)
        if sentence is None:
            logging.getLogger(__name__).exception("a command ended with %s", type(error).__name__)
            fail(f"something unexpected happened ({type(error).__name__}: {error}); the log above says where")
        fail(sentence)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes a fast event loop, or `None` for Python's own where uvloop does not run."""
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def _expected_error(error: Exception) -> str | None:
    """Word an error that says itself what to do; `None` for one that nobody expected."""
    from pydantic import ValidationError

    from connector_sdk.errors import ConnectorError
    from connectors.services import Refusal
    from connectors.sevenstamp.client import SevenStampError
    from connectors.store.errors import StoreError
    from connectors.sync.field_errors import describe_field_errors

    if isinstance(error, Refusal | StoreError | SevenStampError | ConnectorError):
        return str(error)
    if isinstance(error, ValidationError):
        return f"the environment is not understood: {describe_field_errors(error, prefix='CONNECTORS_')}"
    return None


def fail(sentence: str) -> NoReturn:
    """Print what is wrong, redacted and on one line, and end with exit code 1."""
    line = " ".join(sentence.split("\n"))
    _errors.print(f"[red]✗[/red] {escape(redact(line))}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def escape(text: str) -> str:
    """Return a text as rich may print it: no markup, and nothing that steers a terminal."""
    return escape_markup(printable(text))


@asynccontextmanager
async def the_host() -> AsyncIterator[Host]:
    """Open a host as the environment says, for the length of the block."""
    from connectors.runtime.host import Host
    from connectors.settings import Settings

    async with Host(Settings()) as host:
        yield host


def say(text: str) -> None:
    """Print one line for people."""
    console.print(escape(text), highlight=False, soft_wrap=True)


def show_json(value: object, *, indent: int | None = 2) -> None:
    """Print a value for scripts, without `indent` on one line; what steers a terminal stands as JSON's own escapes."""
    sys.stdout.write(printable_json(value, indent=indent) + "\n")


def show_bytes(body: bytes) -> None:
    """Print what a till sent: byte for byte for a script, and as text on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(printable(body.decode("utf-8", "replace"), lines=True) + "\n")
    else:
        sys.stdout.buffer.write(body)


def show_table(columns: list[str], rows: list[list[str]], empty: str) -> None:
    """Print rows as a table, or the sentence `empty` where there are none."""
    if not rows:
        say(empty)
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(escape(column), overflow="fold")
    for row in rows:
        table.add_row(*(escape(cell) for cell in row))
    console.print(table)


def confirm(question: str, yes: bool) -> None:
    """Ask before what cannot be undone, unless `--yes` has answered; without a terminal, end with exit code 1."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Say --yes to go on.")
    typer.confirm(printable(question), abort=True)

"""How commands speak: tables for people, JSON for scripts, one plain sentence and a non-zero exit for what went wrong.

Owns the way from a command to an event loop and back, and that nothing a cafe or a till wrote steers the terminal:
every text goes through here. What commands do is elsewhere.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any, NoReturn, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from connector_sdk.errors import ConnectorError
from connector_sdk.redaction import RedactingFormatter, printable, printable_json, redact
from connectors.runtime.host import Host
from connectors.services import Refusal
from connectors.settings import Settings
from connectors.sevenstamp.client import SevenStampError
from connectors.store.errors import StoreError
from connectors.sync.field_errors import describe_field_errors

T = TypeVar("T")

console = Console()
_errors = Console(stderr=True)


def log_to_stderr(level: str = "WARNING") -> None:
    """Every log line of this process, redacted."""
    handler = logging.StreamHandler()
    handler.setFormatter(RedactingFormatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    for noisy in ("apscheduler", "alembic", "httpx", "httpcore", "asyncio", "aiosqlite"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def run(work: Callable[[], Coroutine[Any, Any, T]], *, interrupted: int = 130) -> T:
    """Run a command's work to its end on a fast loop; what went wrong becomes a sentence and exit code 1.

    `interrupted` is the exit code of Ctrl-C: 0 where that is how the command is meant to end.
    """
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(work())
    except (Refusal, StoreError, SevenStampError, ConnectorError) as error:
        fail(str(error))
    except ValidationError as error:
        fail(f"the environment is not understood: {describe_field_errors(error, prefix='CONNECTORS_')}")
    except KeyboardInterrupt:
        raise typer.Exit(interrupted) from None
    except (typer.Exit, typer.Abort):
        raise
    except Exception as error:
        logging.getLogger(__name__).exception("a command ended with %s", type(error).__name__)
        fail(f"something unexpected happened ({type(error).__name__}: {error}); the log above says where")


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


def fail(sentence: str) -> NoReturn:
    """Say what is wrong and end."""
    _errors.print(f"[red]✗[/red] {escape(redact(' '.join(sentence.split(chr(10)))))}", highlight=False, soft_wrap=True)
    raise typer.Exit(1)


def escape(text: str) -> str:
    """A text as it may stand in what rich prints: no markup, and nothing that steers a terminal."""
    from rich.markup import escape as rich_escape

    return rich_escape(printable(text))


@asynccontextmanager
async def the_host() -> AsyncIterator[Host]:
    """A host as the environment says, open."""
    async with Host(Settings()) as host:
        yield host


def say(text: str) -> None:
    """One line."""
    console.print(escape(text), highlight=False, soft_wrap=True)


def show_json(value: Any, *, indent: int | None = 2) -> None:
    """A value for scripts; without `indent` on one line. What steers a terminal stands as JSON's own escapes."""
    sys.stdout.write(printable_json(value, indent=indent) + "\n")


def show_bytes(body: bytes) -> None:
    """What a till sent: as it came for a script, and as text on a terminal."""
    if sys.stdout.isatty():
        sys.stdout.write(printable(body.decode("utf-8", "replace"), lines=True) + "\n")
    else:
        sys.stdout.buffer.write(body)


def show_table(columns: list[str], rows: list[list[str]], empty: str) -> None:
    """Rows as a table, or a sentence where there are none."""
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
    """Ask before what cannot be undone; `--yes` answers."""
    if yes:
        return
    if not sys.stdin.isatty():
        fail(f"{question} Say --yes to go on.")
    typer.confirm(printable(question), abort=True)

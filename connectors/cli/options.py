"""The options that several commands share, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

AsJson = Annotated[bool, typer.Option("--json", help="For scripts.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")]
Since = Annotated[str, typer.Option("--since", metavar="YYYY-MM-DD", help="The first day, in the till's time zone.")]
ListenHost = Annotated[str, typer.Option("--host", help="The address to listen on.")]
ListenPort = Annotated[int, typer.Option("--port", min=0, max=65535, help="0 takes a free one.")]

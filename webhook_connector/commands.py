"""`connectors mapping`: the names, arguments and helps of the commands that this connector brings.

`connectors --help` imports this module for them, so what a command does is imported when it runs: see `mapping_trial`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

mapping = typer.Typer(no_args_is_help=True, help="Mappings of the any-till connector.")


@mapping.command("try")
def try_(
    file: Annotated[Path, typer.Argument(help="What the till sent: one request's body, as JSON.")],
    map_: Annotated[Path | None, typer.Option("--map", help="The mapping, as TOML.")] = None,
    ready: Annotated[str | None, typer.Option(help="A ready-made mapping: woocommerce or shopify.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For scripts.")] = False,
) -> None:
    """Read a sample by a mapping and show the sale, field by field; ends with 1 where something does not fit."""
    from webhook_connector.mapping_trial import try_mapping

    try_mapping(file, map_, ready, as_json=as_json)


@mapping.command("show")
def show(ready: Annotated[str, typer.Argument(help="A ready-made mapping: woocommerce or shopify.")]) -> None:
    """Print a ready-made mapping as TOML, to begin with."""
    from webhook_connector.mapping_trial import print_ready

    print_ready(ready)

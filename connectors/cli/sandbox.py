"""`connectors sandbox`: a stand-in for 7stamp or for a till, with faults, served until it is interrupted.

Owns finding the stand-in and saying how to point a host at it; how a stand-in behaves is with its package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from starlette.types import ASGIApp

from connector_sdk.sandbox import TillSandbox
from connectors.cli.options import ListenHost, ListenPort
from connectors.cli.output import run, say
from connectors.cli.secrets import SPELLING, secret_given
from connectors.cli.servers import listening
from connectors.cli.servers import serve as serve_application
from connectors.plugins import Plugins
from connectors.services import Refusal, nearest
from connectors.sevenstamp.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class _StandIn:
    """A stand-in to serve: `hints` are the lines that say how to use it at an origin."""

    application: ASGIApp
    hints: Callable[[str], list[str]]


def load_sandbox(loaded: Plugins, name: str) -> TillSandbox:
    """Build a connector's stand-in till. Raises `Refusal` where the connector brings none."""
    locations = {known: str(connector.info.sandbox) for known, connector in loaded.classes.items()
                 if connector.info.sandbox}  # fmt: skip
    if name not in locations:
        raise Refusal(f"there is no sandbox {name!r}; known: {', '.join(nearest(name, ['sevenstamp', *locations]))}")
    module, _, attribute = locations[name].partition(":")
    till: TillSandbox = getattr(importlib.import_module(module), attribute)()
    return till


def sandbox(
    name: Annotated[str, typer.Argument(help="sevenstamp, or a connector that has one.")],
    port: ListenPort = 0,
    host: ListenHost = "127.0.0.1",
    key: Annotated[str | None, typer.Option(help=f"sevenstamp: accept only this key. {SPELLING}")] = None,
    state: Annotated[Path | None, typer.Option(help="sevenstamp: keep its operations in this file.")] = None,
    goal: Annotated[int, typer.Option(min=1, help="sevenstamp: stamps to a reward.")] = 8,
    allowed: Annotated[int | None, typer.Option(min=0, help="sevenstamp: operations a month.")] = None,
) -> None:
    """A stand-in for 7stamp or a till, with faults."""

    async def work() -> None:
        if name == "sevenstamp":
            only_key = secret_given(key, "--key") if key is not None else None
            application = Sandbox(key=only_key, state=state, goal=goal, allowed=allowed)
            stand_in = _StandIn(application, lambda origin: _sevenstamp_hints(origin, key, only_key))
        else:
            till = load_sandbox(Plugins(), name)
            stand_in = _StandIn(till.application(), lambda origin: _till_hints(origin, till))
        sock = listening(host, port)
        origin = f"http://{host}:{sock.getsockname()[1]}"
        say(f"✓ The {name} sandbox listens on {origin} — Ctrl-C ends it.")
        for line in stand_in.hints(origin):
            say(f"  {line}")
        await serve_application(stand_in.application, sock)

    run(work, interrupted=0)


def _sevenstamp_hints(origin: str, option: str | None, only_key: str | None) -> list[str]:
    any_key = "" if option else " (any that begins so; each is a business)"
    if only_key is None:
        shown = "7loc_sc_mycafe"
    else:  # a key from a file or from standard input is not shown again
        shown = only_key if only_key == option else "the one that was given"
    return [
        f"export CONNECTORS_SEVENSTAMP_URL={origin}",
        f"A key to sign in with: {shown}{any_key}",
        f"Faults: POST {origin}/_sandbox/faults, what was applied: GET {origin}/_sandbox/operations",
    ]


def _till_hints(origin: str, till: TillSandbox) -> list[str]:
    return [
        *(f"export {variable}={value}" for variable, value in till.environment(origin).items()),
        *(f"--set {field}={value}" for field, value in till.settings().items()),
        f"Controls: POST {origin}/_sandbox/sell, refund, correct, hooks and more (see docs/operating.md)",
    ]

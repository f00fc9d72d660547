"""`connectors sandbox`: a stand-in for 7stamp or for a till, with faults, served until it is interrupted.

Owns finding the stand-in and saying how to point a host at it; how a stand-in behaves is with its package.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
    locations = _locations(loaded)
    if name not in locations:
        raise Refusal(f"there is no sandbox {name!r}; known: {', '.join(nearest(name, ['sevenstamp', *locations]))}")
    # imported only now: a sandbox may need what a connector in service does not
    module, _, attribute = locations[name].partition(":")
    till: TillSandbox = getattr(importlib.import_module(module), attribute)()
    return till


def _locations(loaded: Plugins) -> dict[str, str]:
    """Map the names of connectors that bring a sandbox to where it is, as `module:Class`."""
    return {name: connector.info.sandbox for name, connector in loaded.classes.items() if connector.info.sandbox}


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

    def build() -> _StandIn:
        if name == "sevenstamp":
            return _sevenstamp(key, state, goal, allowed)
        return _till(name)

    # Ctrl-C is how it is meant to end, so that is success; built within `run`, for an unknown name is to be a sentence
    run(partial(_serve, name, build, host, port), interrupted=0)


def _sevenstamp(key: str | None, state: Path | None, goal: int, allowed: int | None) -> _StandIn:
    only_key = secret_given(key, "--key") if key is not None else None
    application = Sandbox(key=only_key, state=state, goal=goal, allowed=allowed)
    return _StandIn(application, lambda origin: _sevenstamp_hints(origin, key, only_key))


def _till(name: str) -> _StandIn:
    till = load_sandbox(Plugins(), name)
    return _StandIn(till.application(), lambda origin: _till_hints(origin, till))


async def _serve(name: str, build: Callable[[], _StandIn], host: str, port: int) -> None:
    stand_in = build()
    # bound before it is announced: the port may be taken, and with 0 nobody knows it earlier
    sock = listening(host, port)
    origin = f"http://{host}:{sock.getsockname()[1]}"
    say(f"✓ The {name} sandbox listens on {origin} — Ctrl-C ends it.")
    for line in stand_in.hints(origin):
        say(f"  {line}")
    await serve_application(stand_in.application, sock)


def _sevenstamp_hints(origin: str, option: str | None, only_key: str | None) -> list[str]:
    any_key = "" if option else " (any that begins so; each is a business)"
    return [
        f"export CONNECTORS_SEVENSTAMP_URL={origin}",
        f"A key to sign in with: {_shown_key(option, only_key)}{any_key}",
        f"Faults: POST {origin}/_sandbox/faults, what was applied: GET {origin}/_sandbox/operations",
    ]


def _shown_key(option: str | None, only_key: str | None) -> str:
    if only_key is None:
        return "7loc_sc_mycafe"
    # a key from a file or from standard input is not shown again: that is why it was not typed
    return only_key if only_key == option else "the one that was given"


def _till_hints(origin: str, till: TillSandbox) -> list[str]:
    return [
        *(f"export {variable}={value}" for variable, value in till.environment(origin).items()),
        *(f"--set {field}={value}" for field, value in till.settings().items()),
        f"Controls: POST {origin}/_sandbox/sell, refund, correct, hooks and more (see docs/reference/sandboxes.md)",
    ]

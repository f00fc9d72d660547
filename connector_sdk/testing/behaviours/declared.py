"""The list of behaviours, and the decorator that puts one into it.

Owns the list and its order, which is that of the modules beside and of their functions. A behaviour's function name is
its name in reports.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from connector_sdk.testing.behaviour_trial import Behaviour, Level, Trial

BEHAVIOURS: list[Behaviour] = []


def behaviour(
    title: str, *, guards: str, fix: str, level: Level = Level.required
) -> Callable[[Callable[[Trial], Awaitable[None]]], None]:
    """Declare the decorated function a behaviour."""

    def declare(run: Callable[[Trial], Awaitable[None]]) -> None:
        BEHAVIOURS.append(Behaviour(run.__name__, title, level, guards, fix, run))

    return declare

"""What a stand-in till offers: an HTTP application that behaves as the till does, and a cafe that uses it.

Owns the shape that `connectors sandbox NAME` and `connectors demo` rely on; each connector owns its own sandbox.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

Post = Callable[[bytes, Mapping[str, str]], Awaitable[None]]
"""Delivers one hook of the till: a body and its headers."""


class TillSandbox(ABC):
    """A till that runs here."""

    @abstractmethod
    def application(self) -> Any:
        """The ASGI application of the till's API."""

    @abstractmethod
    def environment(self, origin: str) -> Mapping[str, str]:
        """The environment variables that point the connector at this sandbox."""

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """The connection settings that open the sandbox's account."""

    def two_weeks(self, customers: list[str]) -> None:  # noqa: B027 - a till may have no past to show
        """Fill the fourteen days before today with receipts of these customers (phones in E.164), where it can."""

    @abstractmethod
    async def busy_morning(self, customers: list[str], post: Post, pause: Callable[[], Awaitable[None]]) -> None:
        """Play a cafe's morning: sell to the customers (phones in E.164), correct, refund and remove.

        Hooks go out through `post`; `pause` is awaited between two customers. Ends when cancelled.
        """

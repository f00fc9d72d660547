"""The interface of a stand-in till: an HTTP application that behaves as the till does, and a cafe that uses it.

Owns the methods that `connectors sandbox NAME` and `connectors demo` call; each connector owns its own sandbox.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping

Post = Callable[[bytes, Mapping[str, str]], Awaitable[None]]
"""Deliver one hook of the till, given as a body and its headers."""

# `...` stands for ASGI's scope, receive and send: every framework types these three in its own way
AsgiApplication = Callable[..., Awaitable[None]]


class TillSandbox(ABC):
    """A stand-in till with one account, which runs in this process."""

    @abstractmethod
    def application(self) -> AsgiApplication:
        """Return the ASGI application of the till's API."""

    @abstractmethod
    def environment(self, origin: str) -> Mapping[str, str]:
        """Return the environment variables that point the connector at this sandbox, which is served at `origin`."""

    @abstractmethod
    def settings(self) -> Mapping[str, str]:
        """Return the connection settings that open the sandbox's account."""

    def post_to(self, address: str) -> None:  # noqa: B027 - a till may sign without the address
        """Have hooks signed for this address, for a till that signs it; does nothing by default."""

    def two_weeks(self, customers: list[str]) -> None:  # noqa: B027 - a till may have no past to show
        """Fill the fourteen days before today with receipts of these customers (phones in E.164).

        Does nothing by default.
        """

    @abstractmethod
    async def busy_morning(self, customers: list[str], post: Post, pause: Callable[[], Awaitable[None]]) -> None:
        """Play a cafe's morning: sell to the customers (phones in E.164), correct, refund and remove.

        Hooks go out through `post`; `pause` is awaited between two customers. Ends when cancelled.
        """

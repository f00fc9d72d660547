"""The errors a connector raises, each of which tells the host what to do next.

Owns the one exception tree of the SDK; how the host reacts is the host's. No error text may hold a token,
a phone number or an email.
"""

from __future__ import annotations

from connector_sdk.messages import Message


class ConnectorError(Exception):
    """Base of everything a connector raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # raised in a worker, handled in the host: an error crosses with its attributes, whatever its own __init__ asks
        return _restored, (type(self), self.args, self.__dict__)


def _restored(kind: type[ConnectorError], arguments: tuple[object, ...], facts: dict[str, object]) -> ConnectorError:
    error = kind.__new__(kind, *arguments)
    error.args = arguments
    error.__dict__.update(facts)
    return error


class NotAuthorised(ConnectorError):
    """The till refuses our token: the connection must be authorised again."""


class MissingRight(NotAuthorised):
    """The token works but lacks a right; `right` names it as the till's own admin does."""

    def __init__(self, right: str) -> None:
        super().__init__(f"the token lacks the right to {right}")
        self.right = right


class RateLimited(ConnectorError):
    """The till asks us to slow down; try again after `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the till asked us to wait {retry_after:g} seconds")
        self.retry_after = retry_after


class TillUnavailable(ConnectorError):
    """The till did not answer usefully and nothing was changed there: try again later."""


class NotFound(ConnectorError):
    """The till has nothing under that address (HTTP 404)."""


class Ambiguous(ConnectorError):
    """A write may or may not have taken effect; look before repeating it."""


class BadPayload(ConnectorError):
    """What the till sent cannot be understood: kept for a person, the rest goes on.

    `where` is the path of the field on the wire, `why` a short sentence; neither holds the value itself.
    `body` is what was received, where the connector has it at hand; `said` is `why` for a reader's language.
    """

    def __init__(self, where: str, why: str, body: bytes = b"", *, said: Message | None = None) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why
        self.body = body
        self.said = said or Message(why)


class Forged(ConnectorError):
    """A hook's proof does not hold: answered with 401 and not kept."""


class NotConfigured(ConnectorError):
    """What the operator sets once is missing; `setting` is the environment variable's name."""

    def __init__(self, setting: str) -> None:
        super().__init__(f"{setting} is not set")
        self.setting = setting


class NotSupported(ConnectorError):
    """This till cannot do that; the host adapts."""

"""The errors that a connector raises, each of which tells the host what to do next.

Owns the one exception tree of the SDK; how the host reacts is the host's concern. No error text may hold a token, a
phone number or an email.
"""

from __future__ import annotations

from connector_sdk.messages import Message


class ConnectorError(Exception):
    """The base of every error that a connector raises on purpose."""

    def __reduce__(self) -> tuple[object, ...]:
        # A worker process raises an error and the host handles it, so it is pickled. By default pickle would call the
        # class with `args`, which holds the finished text and not what a subclass' `__init__` asks for.
        return _unpickle_error, (type(self), self.args, self.__dict__)


def _unpickle_error(
    error_class: type[ConnectorError], arguments: tuple[object, ...], attributes: dict[str, object]
) -> ConnectorError:
    """Rebuild a pickled error without calling its `__init__`."""
    error = error_class.__new__(error_class, *arguments)
    error.args = arguments
    error.__dict__.update(attributes)
    return error


class NotAuthorised(ConnectorError):
    """The till refuses our token: the connection must be authorised again."""


class MissingRight(NotAuthorised):
    """The token works but lacks a right; `right` names it as the till's own admin does."""

    def __init__(self, right: str) -> None:
        super().__init__(f"the token lacks the right to {right}")
        self.right = right


class RateLimited(ConnectorError):
    """The till asks us to slow down: try again after `retry_after` seconds."""

    def __init__(self, retry_after: float) -> None:
        super().__init__(f"the till asked us to wait {retry_after:g} seconds")
        self.retry_after = retry_after


class TillUnavailable(ConnectorError):
    """The till did not answer usefully and nothing was changed there: try again later."""


class NotFound(ConnectorError):
    """The till has nothing under that address (HTTP 404)."""


class Ambiguous(ConnectorError):
    """A write may or may not have taken effect: look before repeating it."""


class BadPayload(ConnectorError):
    """The till sent something that cannot be understood: the host stores it for a person and goes on with the rest.

    `where` is the path of the field on the wire, `why` a short sentence; neither holds the value itself. `body` holds
    the bytes received, where the connector has them at hand; `said` is `why` as a message, for a reader's language.
    """

    def __init__(self, where: str, why: str, body: bytes = b"", *, said: Message | None = None) -> None:
        super().__init__(f"{where}: {why}")
        self.where = where
        self.why = why
        self.body = body
        self.said = said or Message(why)


class Forged(ConnectorError):
    """A hook's signature or secret is wrong: the host answers with 401 and stores nothing."""


class NotConfigured(ConnectorError):
    """A setting of the operator is missing; `setting` is the environment variable's name."""

    def __init__(self, setting: str) -> None:
        super().__init__(f"{setting} is not set")
        self.setting = setting


class NotSupported(ConnectorError):
    """This till has no such ability: the host does without."""

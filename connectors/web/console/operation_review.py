"""The buttons by which a person decides what becomes of an operation that is held or was rejected.

Owns which buttons there are and what they say; what each decision does is `connectors.services.review`'s.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from starlette.responses import Response

from connector_sdk.messages import Message
from connectors.domain.holds import choices_for
from connectors.services import Refusal
from connectors.services.review import ReviewService
from connectors.store.ledger.operations import Operation
from connectors.web.console.routing import Role, Router
from connectors.web.console.visit import PageNotFound, Visit

router = Router()

Decide: TypeAlias = Callable[[ReviewService, str, str], Awaitable[None]]
"""A decision of the review, of a connection's id and an operation's."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One button: the decision it makes, its words, and whether it is the one to press first."""

    decision: str
    words: Message
    first: bool = False


@dataclass(frozen=True, slots=True)
class StoppedOperation:
    """An operation that needs a person, with the buttons that resolve it."""

    operation: Operation
    choices: tuple[Choice, ...]


_DECISIONS: Mapping[str, tuple[Decide, Message]] = {
    "retry": (ReviewService.retry, Message("It goes out again now.")),
    "dismiss": (ReviewService.dismiss, Message("It is left as it is.")),
    "acknowledge": (ReviewService.acknowledge, Message("Seen, and left as it is.")),
}
"""The service method behind each button, and the notice once it is done."""


def with_choices(operations: Sequence[Operation]) -> list[StoppedOperation]:
    """Add to each operation the buttons that resolve it."""
    return [StoppedOperation(operation, choices_of(operation)) for operation in operations]


def choices_of(operation: Operation) -> tuple[Choice, ...]:
    """Return the buttons that resolve a held or rejected operation, by the table of holds."""
    choices = choices_for(operation.state, operation.hold)
    return tuple(Choice(choice.action, choice.label, first=choice is choices[0]) for choice in choices)


@router.post("/connections/{connection}/operations/{operation}/{act}", Role.manager, page="/connections/{connection}")
async def resolve(visit: Visit) -> Response:
    """Do what a button says, and go back to the page it was on: the connection's, or a receipt's."""
    connection = (await visit.load_overview()).connection
    if visit.path_params["act"] not in _DECISIONS:
        raise PageNotFound
    decide, done = _DECISIONS[visit.path_params["act"]]
    page = f"/connections/{connection.id}"
    receipt = visit.form.get("receipt")
    if receipt.isalnum():  # it becomes a part of the address
        page = f"{page}/receipts/{receipt}"
    # two people may press at once: the second is refused, in words
    try:
        await decide(visit.services.review, connection.id, visit.path_params["operation"])
    except Refusal as error:
        return visit.redirect(page, error.message, "bad")
    return visit.redirect(page, done)

"""Teaching a connector by example: one request of the till, and questions of what in it is what.

Owns the values that pass between a connector that is taught and the host that shows it; what a path looks like, and how
texts become money and times, is the connector's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.sale import Sale

Values = Mapping[str, str]
"""Settings as a form has them, however unfinished."""


def as_texts(values: Mapping[str, Any]) -> dict[str, str]:
    """Settings, however they are kept, as a form has them."""
    return {name: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of whoever teaches: `field` is the setting that the answer goes into, `text` the question.

    `skip` are the words for "none of these", where an answer is not needed.
    """

    field: str
    text: str
    needed: bool = False
    skip: str = "My till does not send this"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value in a request.

    `place` are the names and positions that lead to it, `path` is what the setting would say, `likely` whether it
    looks like the answer.
    """

    place: tuple[str | int, ...]
    path: str
    value: str = field(repr=False)
    likely: bool = False


@dataclass(frozen=True, slots=True)
class Sketch:
    """What settings make of a request: `sales`, what each setting `found`, and what is `wrong`, by setting."""

    sales: tuple[Sale, ...] = ()
    found: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, Message] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Teaching:
    """What a connector can be taught. None of it raises: settings and bodies may be anything.

    `questions(values, body)` are those that this request makes sense of, in their order; `leaves(values, body, field)`
    what can be chosen; `taken(values, body, field, path)` the settings with an answer, and with what can be seen from
    it; `sketch(values, body)` what they make of the request; `proof(request)` settings that fit how it seems to prove
    itself, and none where nothing is seen; `unproven(values, request)` what stands against its proof by these settings,
    its age aside, in the field that is named `secret`; `named(where)` the setting that a `BadPayload` is about.
    """

    questions: Callable[[Values, bytes], tuple[Question, ...]]
    leaves: Callable[[Values, bytes, str], tuple[Leaf, ...]]
    taken: Callable[[Values, bytes, str, str], Values]
    sketch: Callable[[Values, bytes], Sketch]
    proof: Callable[[HookRequest], Values]
    unproven: Callable[[Values, HookRequest], Message | None]
    secret: str
    named: Callable[[str], str]

"""Teach a connector by example: show one request of the till, and ask which of its values is which.

Owns the values that pass between a connector that is taught and the host that shows it; what a path looks like, and how
texts become money and times, is the connector's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from connector_sdk.hooks import HookRequest
from connector_sdk.messages import Message
from connector_sdk.sale import Sale

Values = Mapping[str, str]
"""Settings as a form holds them: text by field name, possibly incomplete."""


def as_texts(values: Mapping[str, object]) -> dict[str, str]:
    """Convert stored settings to the texts of a form; those that are `None` are left out."""
    return {name: str(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ReadyMade:
    """Ready-made settings for one kind of till, with a sample of what it sends.

    `source` names the documentation from which the settings were taken.
    """

    name: str
    title: str
    settings: Mapping[str, str]
    sample: bytes = field(repr=False)
    source: str
    steps: tuple[str, ...] = ()
    """The steps that a cafe takes in that till's admin, a sentence each."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question to the person who teaches: `text` is the question, `field` the setting that the answer fills.

    `skip` words the answer "none of these", where an answer is not `needed`.
    """

    field: str
    text: str
    needed: bool = False
    skip: str = "My till does not send this"


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value in a request.

    `place` holds the names and positions that lead to it, `path` is the text that the setting would hold, `likely`
    tells whether it looks like the answer.
    """

    place: tuple[str | int, ...]
    path: str
    value: str = field(repr=False)
    likely: bool = False


@dataclass(frozen=True, slots=True)
class Sketch:
    """A preview of a request read with unfinished settings.

    `sales` are the sales read; `found` maps a setting to the value that it finds, `wrong` to what is wrong with it.
    """

    sales: tuple[Sale, ...] = ()
    found: Mapping[str, str] = field(default_factory=dict)
    wrong: Mapping[str, Message] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Teaching:
    """The functions by which a connector is taught. None of them raises: settings and bodies may be anything.

    - `questions(values, body)` returns the questions that this request can answer, in order.
    - `leaves(values, body, field)` returns the values from which the answer is chosen.
    - `taken(values, body, field, path)` returns the settings with that answer, and with what follows from it.
    - `sketch(values, body)` previews the sales that the settings read from the request.
    - `proof(request)` returns settings that fit how the request seems to be signed; none where it is not.
    - `unproven(values, request)` says why the request fails verification by these settings, its age aside; the secret
      is in the field that `secret` names.
    - `named(where)` returns the setting that a `BadPayload` at `where` is about.
    """

    questions: Callable[[Values, bytes], tuple[Question, ...]]
    leaves: Callable[[Values, bytes, str], tuple[Leaf, ...]]
    taken: Callable[[Values, bytes, str, str], Values]
    sketch: Callable[[Values, bytes], Sketch]
    proof: Callable[[HookRequest], Values]
    unproven: Callable[[Values, HookRequest], Message | None]
    secret: str
    named: Callable[[str], str]

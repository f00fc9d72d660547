"""Field errors: what pydantic finds wrong with settings, in words for whoever typed them.

Owns the wording of pydantic's errors; none of it repeats a value, for values may be secrets. Where an error is shown is
left to the caller.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from pydantic import ValidationError
from pydantic_core import ErrorDetails

NEEDED = "this is needed"
STRANGE = "this is not written as it should be: see the example"

_OWN_CHECK = re.compile(r"([a-z_]+): (.+)")


class FieldError(NamedTuple):
    """One error: the field it is about (empty for the settings as a whole), and why."""

    field: str
    reason: str


def reason_of(error: ErrorDetails) -> str:
    """Return why one of pydantic's errors is one, as a sentence for whoever typed the value."""
    if error["type"] == "missing":
        return NEEDED
    if error["type"] == "string_pattern_mismatch":  # a regular expression says nothing to whoever types
        return STRANGE
    return str(error["msg"]).removeprefix("Value error, ").removesuffix(".")


def field_errors(error: ValidationError) -> list[FieldError]:
    """List everything that a validation found, in the order of the fields."""
    return [found for details in error.errors(include_input=False) for found in _errors_in(details)]


def _errors_in(error: ErrorDetails) -> Iterator[FieldError]:
    """Yield one of pydantic's errors as the field that it is about, and why.

    A check of the whole model has no field in pydantic's view, and names it itself: "field: why", a line for each.
    """
    reason, field = reason_of(error), ".".join(str(part) for part in error["loc"])
    for line in [reason] if field else reason.split("\n"):
        match = None if field else _OWN_CHECK.fullmatch(line)
        yield FieldError(match[1], match[2]) if match else FieldError(field, line)


def describe_field_errors(error: ValidationError, *, prefix: str = "") -> str:
    """Say in one line what is wrong with settings; with a `prefix` fields are named as environment variables."""
    return "; ".join(_describe(field_error, prefix) for field_error in field_errors(error))


def _describe(error: FieldError, prefix: str) -> str:
    field = error.field or "settings"
    name = (prefix + field).upper() if prefix else repr(field)
    if error.reason == NEEDED:
        return f"{name} is missing"
    return f"{name} is not right ({error.reason[:1].lower()}{error.reason[1:]})"

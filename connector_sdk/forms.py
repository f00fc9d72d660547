"""Marks of settings fields, by which a connector says how the host's form treats them.

Owns the marks; a field carries one as `Field(json_schema_extra=dict(FIRST))`, where pydantic keeps it.
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic.fields import FieldInfo

FIRST: Mapping[str, bool] = {"first": True}
"""Mark an optional settings field that most cafes need: the form does not fold it away."""

TAUGHT: Mapping[str, bool] = {"taught": True}
"""Mark a settings field that says where a value is in what the till sends: taught by a request, seldom typed."""

CURRENCY: Mapping[str, str] = {"list": "currency"}
"""Mark a field that holds a currency (ISO 4217): it is chosen by its name."""

COUNTRY: Mapping[str, str] = {"list": "country"}
"""Mark a field that holds a country (ISO 3166, two letters): it is chosen by its name."""

ZONE: Mapping[str, str] = {"list": "zone"}
"""Mark a field that holds a time zone, as IANA has it: it is chosen from all of them."""

_NEEDED_WITH = "needed_with"

CHOSEN: Mapping[str, bool] = {"chosen": True}
"""Mark a secret that the cafe makes up: the host refuses one that is easily guessed."""


def needed_with(field: str, *values: str) -> dict[str, dict[str, object]]:
    """Mark a settings field that only some values of another one need: the form shows it where one of them is chosen.

    `json_schema_extra={**FIRST, **needed_with("proof", "basic")}` shows a user where a proof by password is chosen.
    """
    return {_NEEDED_WITH: {"field": field, "values": list(values)}}


def choice_needed_for(info: FieldInfo) -> tuple[str, tuple[str, ...]] | None:
    """Return the field and its values that a settings field is needed with; `None` where it always is."""
    extra = info.json_schema_extra
    need = extra.get(_NEEDED_WITH) if isinstance(extra, dict) else None
    if not isinstance(need, dict):
        return None
    values = need["values"]
    return str(need["field"]), tuple(str(value) for value in values) if isinstance(values, list) else ()


def marked(info: FieldInfo, mark: Mapping[str, object]) -> bool:
    """Tell whether a settings field carries one of the marks of this module."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and mark.items() <= extra.items()

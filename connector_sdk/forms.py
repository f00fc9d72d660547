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

CHOSEN: Mapping[str, bool] = {"chosen": True}
"""Mark a secret that the cafe makes up: the host refuses one that is easily guessed."""


def marked(info: FieldInfo, mark: Mapping[str, bool]) -> bool:
    """Tell whether a settings field carries a mark: `FIRST`, `TAUGHT` or `CHOSEN`."""
    extra = info.json_schema_extra
    return isinstance(extra, dict) and mark.items() <= extra.items()

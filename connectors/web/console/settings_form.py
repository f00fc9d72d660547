"""A connector's settings as a form: which input each setting is, what was typed into it, and what is missing.

Owns the way from a settings model to inputs and back to values; what a setting means, and whether it is right, is the
connector's model's.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Literal, TypeAlias, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from connector_sdk.connector import FIRST, TAUGHT, Connector, Token, marked
from connector_sdk.messages import Message
from connectors.sync.tills import located
from connectors.web.console.posted_form import PostedForm

ConnectorClass: TypeAlias = type[Connector[BaseModel]]
"""A connector of any settings model."""
SettingValues: TypeAlias = Mapping[str, object]
"""Settings by name, as they are stored or as they were typed."""

_ENDING_SHOWN = 4
_SECRET_LONGER_THAN = 8
"""Of a secret no longer than this even the ending is not shown: it would be half of it."""


class InputKind(StrEnum):
    """How a setting is asked for."""

    secret = "secret"  # noqa: S105 - a kind of input, not a secret
    """A password input, whose value never comes back to the browser."""
    flag = "flag"
    """A check box."""
    choice = "choice"
    """A list to choose from."""
    line = "line"
    """A line of text: everything else, numbers among it."""


@dataclass(frozen=True, slots=True)
class Field:
    """One input; a secret's value is never in it, only its last four characters."""

    name: str
    title: str
    help: str
    kind: InputKind
    value: str
    needed: bool
    first: bool
    """Whether it is among what lets us in at all; the others are for later."""
    taught: bool = False
    """Whether it says where something is in what the till sends."""
    choices: tuple[tuple[str, str], ...] = ()
    """What can be chosen: values, each with its words."""
    kept: str = ""
    """The ending of the secret that stays if nothing is typed; empty where there is none."""


def build_fields(connector_class: ConnectorClass, values: SettingValues) -> list[Field]:
    """Build the inputs of a connector's settings, filled with `values` and with defaults for the rest."""
    where_to_find = {
        token.field: token.where_to_find for token in connector_class.authorisation if isinstance(token, Token)
    }
    return [
        _build_field(name, info, values, where_to_find)
        for name, info in connector_class.settings_model.model_fields.items()
    ]


def _build_field(name: str, info: FieldInfo, values: SettingValues, where_to_find: Mapping[str, str]) -> Field:
    kind, needed = _input_kind(info), info.is_required()
    value = values.get(name, _default(info))
    text = "" if value is None else str(value)
    secret = kind is InputKind.secret
    return Field(
        name=name,
        title=info.title or name.replace("_", " ").capitalize(),
        help=where_to_find.get(name) or info.description or "",
        kind=kind,
        value="" if secret else text,
        needed=needed,
        first=needed or name in where_to_find or marked(info, FIRST),
        taught=marked(info, TAUGHT),
        # a needed choice that nothing was chosen of begins empty, so that nobody sends the first one unseen
        choices=((("", "–"),) if needed and not text and kind is InputKind.choice else ()) + _choices(info),
        kept=text[-_ENDING_SHOWN:] if secret and len(text) > _SECRET_LONGER_THAN else "",
    )


def _default(info: FieldInfo) -> object:
    """Return a setting's default; empty where it is needed, or made up anew for each connection."""
    if info.is_required() or info.default_factory is not None:
        return ""
    default: object = info.get_default()
    return default


def _annotation(info: FieldInfo) -> object:
    """Return what a setting may be, leaving out that it may be `None`."""
    if get_origin(info.annotation) in (Union, types.UnionType):
        return next((part for part in get_args(info.annotation) if part is not type(None)), str)
    return info.annotation


def _input_kind(info: FieldInfo) -> InputKind:
    annotation = _annotation(info)
    if annotation is bool:
        return InputKind.flag
    if annotation is SecretStr:
        return InputKind.secret
    return InputKind.choice if _options(annotation) is not None else InputKind.line


def _options(annotation: object) -> tuple[str, ...] | None:
    """Return the values of a literal or an enum; `None` where it is neither."""
    if get_origin(annotation) is Literal:
        return tuple(str(option) for option in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(member.value) for member in annotation)
    return None


def _choices(info: FieldInfo) -> tuple[tuple[str, str], ...]:
    words = _choice_words(info)
    return tuple((option, words.get(option, option)) for option in _options(_annotation(info)) or ())


def _choice_words(info: FieldInfo) -> Mapping[str, str]:
    """Return the words of a setting's choices, which a connector gives as `json_schema_extra={"words": {…}}`."""
    words = info.json_schema_extra.get("words") if isinstance(info.json_schema_extra, dict) else None
    return {str(option): str(text) for option, text in words.items()} if isinstance(words, dict) else {}


def secret_fields(connector_class: ConnectorClass) -> set[str]:
    """Return the names of the settings that are stored encrypted and never shown again."""
    return {name for name in connector_class.settings_model.model_fields if is_secret(connector_class, name)}


def is_secret(connector_class: ConnectorClass, name: str) -> bool:
    """Return whether a name is that of a secret setting."""
    info = connector_class.settings_model.model_fields.get(name)
    return info is not None and _input_kind(info) is InputKind.secret


def without_secrets(connector_class: ConnectorClass, values: SettingValues) -> dict[str, object]:
    """Return the settings that may be shown."""
    return {name: value for name, value in values.items() if not is_secret(connector_class, name)}


def settings_from(form: PostedForm, connector_class: ConnectorClass, previous: SettingValues) -> dict[str, object]:
    """Read the settings that a form holds.

    A secret left empty is the previous one, an optional setting that was emptied takes its default again, and one that
    is not in the form is left out.
    """
    values: dict[str, object] = {}
    for field in build_fields(connector_class, {}):
        if field.kind is InputKind.flag:
            # a browser sends nothing for an empty check box: the hidden input beside it tells that it was shown
            if f"has.{field.name}" in form:
                values[field.name] = "true" if form.get(f"set.{field.name}").strip() else "false"
        elif typed := form.get(f"set.{field.name}").strip():
            values[field.name] = typed
        elif field.kind is InputKind.secret and field.name in previous:
            values[field.name] = previous[field.name]
        elif previous.get(field.name) and f"set.{field.name}" in form:
            info = connector_class.settings_model.model_fields[field.name]
            if not field.needed and info.default_factory is None:
                values[field.name] = _default(info)
    return values


def same_setting(stored: object, typed: object) -> bool:
    """Return whether a setting as typed is the one that is stored; nothing typed is the same as none stored."""
    if isinstance(stored, bool):
        return str(stored).lower() == str(typed).lower()
    return (stored or None) == (typed or None)


def find_wrong_settings(model: type[BaseModel], values: SettingValues) -> dict[str, Message]:
    """Tell which stored settings a model finds missing or wrong, as it may after it has changed."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        reasons = (located(detail) for detail in error.errors())
        return {name: Message(reason) for name, reason in reasons}
    return {}

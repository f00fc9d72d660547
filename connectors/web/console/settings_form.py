"""A connector's settings as a form: which input each setting is, what was typed into it, and what is missing.

Owns the way from a settings model to inputs and back to values; what a setting means, and whether it is right, is the
connector's model's.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, StrEnum
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr, ValidationError
from pydantic.fields import FieldInfo

from connector_sdk.authorisation import Token
from connector_sdk.forms import COUNTRY, CURRENCY, FIRST, TAUGHT, ZONE, choice_needed_for, marked
from connector_sdk.messages import Message
from connectors.services import ConnectorClass, SettingValues
from connectors.sync.field_errors import field_errors
from connectors.web.console.code_lists import choices_of
from connectors.web.console.posted_form import PostedForm

_ENDING_SHOWN = 4
_SECRET_LONGER_THAN = 8
"""A secret no longer than this shows not even its ending: that would be half of it."""


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
    """`True` for what lets us in at all; the other settings are for later."""
    taught: bool = False
    """`True` for a path to something in what the till sends."""
    choices: tuple[tuple[str, str], ...] = ()
    """The values that can be chosen, each with its words."""
    needed_with: tuple[str, tuple[str, ...]] | None = None
    """Another field and its values with which this one is needed; `None` where it always is."""
    ending: str = ""
    """How the secret ends that stays if nothing is typed; empty where there is none."""


def build_fields(connector_class: ConnectorClass, values: SettingValues, language: str) -> list[Field]:
    """Build the inputs of a connector's settings, filled with `values` and with defaults for the rest.

    What is chosen from a list of all currencies, countries or zones is named in a language such as `ms_MY`.
    """
    where_to_find = {
        token.field: token.where_to_find for token in connector_class.authorisation if isinstance(token, Token)
    }
    return [
        _build_field(name, info, values, where_to_find, language)
        for name, info in connector_class.settings_model.model_fields.items()
    ]


def _build_field(
    name: str, info: FieldInfo, values: SettingValues, where_to_find: Mapping[str, str], language: str
) -> Field:
    value = values.get(name, _default(info))
    text = "" if value is None else str(value)
    secret = _input_kind(info) is InputKind.secret
    return Field(
        name=name,
        title=info.title or name.replace("_", " ").capitalize(),
        help=where_to_find.get(name) or info.description or "",
        kind=_input_kind(info),
        # a secret never goes back to the browser: nobody reads it off a page that was left open
        value="" if secret else text,
        needed=info.is_required(),
        first=info.is_required() or name in where_to_find or marked(info, FIRST),
        taught=marked(info, TAUGHT),
        choices=_choices(info, text, language),
        needed_with=choice_needed_for(info),
        ending=_shown_ending(text) if secret else "",
    )


def _shown_ending(secret: str) -> str:
    return secret[-_ENDING_SHOWN:] if len(secret) > _SECRET_LONGER_THAN else ""


def _default(info: FieldInfo) -> object:
    """Return a setting's default; empty where it is needed, or made up anew for each connection."""
    if info.is_required() or info.default_factory is not None:
        return ""
    default: object = info.get_default()
    return default


def _annotation(info: FieldInfo) -> object:
    """Return what a setting may be, leaving out that it may be `None`."""
    # `X | None` and `Optional[X]` have different origins
    if get_origin(info.annotation) in (Union, types.UnionType):
        return next((part for part in get_args(info.annotation) if part is not type(None)), str)
    return info.annotation


def _input_kind(info: FieldInfo) -> InputKind:
    annotation = _annotation(info)
    if annotation is bool:
        return InputKind.flag
    if annotation is SecretStr:
        return InputKind.secret
    has_list = _options(annotation) is not None or _list_of(info) is not None
    return InputKind.choice if has_list else InputKind.line


def _options(annotation: object) -> tuple[str, ...] | None:
    """Return the values of a literal or an enum; `None` where it is neither."""
    if get_origin(annotation) is Literal:
        return tuple(str(option) for option in get_args(annotation))
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return tuple(str(member.value) for member in annotation)
    return None


def _list_of(info: FieldInfo) -> str | None:
    """Return the list that a setting is chosen from: `currency`, `country` or `zone`; `None` where there is none."""
    marks = (CURRENCY, COUNTRY, ZONE)
    return next((mark["list"] for mark in marks if marked(info, mark)), None)


def _choices(info: FieldInfo, chosen: str, language: str) -> tuple[tuple[str, str], ...]:
    options, listed = _options(_annotation(info)), _list_of(info)
    if listed is not None:
        choices = choices_of(listed, language)
        # what was stored before there was a list, or typed elsewhere, stays as it is
        if chosen and chosen not in dict(choices):
            choices = ((chosen, chosen), *choices)
        return choices if chosen and info.is_required() else (("", "–"), *choices)
    if options is None:
        return ()
    words = _choice_words(info)
    choices = tuple((option, words.get(option, option)) for option in options)
    # a needed choice that nothing was chosen of begins empty, so that nobody sends the first one unseen
    return choices if chosen or not info.is_required() else (("", "–"), *choices)


def _choice_words(info: FieldInfo) -> Mapping[str, str]:
    """Return the words of a setting's choices, which a connector gives as `json_schema_extra={"words": {…}}`."""
    # pydantic lets this be a function as well: only a dict can hold words
    words = info.json_schema_extra.get("words") if isinstance(info.json_schema_extra, dict) else None
    return {str(option): str(text) for option, text in words.items()} if isinstance(words, dict) else {}


def is_secret(connector_class: ConnectorClass, name: str) -> bool:
    """Return whether a name is that of a secret setting."""
    info = connector_class.settings_model.model_fields.get(name)
    return info is not None and _input_kind(info) is InputKind.secret


def without_secrets(connector_class: ConnectorClass, values: SettingValues) -> dict[str, object]:
    """Return the settings that may be shown."""
    return {name: value for name, value in values.items() if not is_secret(connector_class, name)}


def settings_typed(form: PostedForm, name: str) -> bool:
    """Tell whether something was typed into a setting's input."""
    return bool(form.get(f"set.{name}").strip())


def settings_from(form: PostedForm, connector_class: ConnectorClass, previous: SettingValues) -> dict[str, object]:
    """Read the settings that a form holds.

    A secret left empty is the previous one, an optional setting that was emptied takes its default again, and one that
    is not in the form is left out.
    """
    values: dict[str, object] = {}
    for name, info in connector_class.settings_model.model_fields.items():
        if _input_kind(info) is InputKind.flag:
            values |= _flag_from(form, name)
        elif typed := form.get(f"set.{name}").strip():
            values[name] = typed
        elif name in previous:
            values |= _emptied(form, name, info, previous[name])
    return values


def _flag_from(form: PostedForm, name: str) -> dict[str, object]:
    # a browser sends nothing for an empty check box: the hidden input beside it tells that it was shown
    if f"has.{name}" not in form:
        return {}
    return {name: "true" if form.get(f"set.{name}").strip() else "false"}


def _emptied(form: PostedForm, name: str, info: FieldInfo, previous: object) -> dict[str, object]:
    """Return what becomes of a setting whose input is empty; nothing where its model has to say that it is missing."""
    # a secret's input is always empty: that means to keep it
    if _input_kind(info) is InputKind.secret:
        return {name: previous}
    made_up_or_needed = info.is_required() or info.default_factory is not None
    if not previous or f"set.{name}" not in form or made_up_or_needed:
        return {}
    return {name: _default(info)}


def same_setting(stored: object, typed: object) -> bool:
    """Return whether a setting as typed is the one that is stored; nothing typed is the same as none stored."""
    # a form says "true", the settings may have kept `True`
    if isinstance(stored, bool):
        return str(stored).lower() == str(typed).lower()
    return (stored or None) == (typed or None)


def find_wrong_settings(model: type[BaseModel], values: SettingValues) -> dict[str, Message]:
    """Tell which stored settings a model finds missing or wrong, as it may after it has changed."""
    try:
        model.model_validate(dict(values))
    except ValidationError as error:
        return {name: Message(reason) for name, reason in field_errors(error)}
    return {}

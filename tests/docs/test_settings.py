"""The configuration page has every setting, with the default and the limits that the code has."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import annotated_types
import pytest
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings

from connectors.plugins import Plugins
from connectors.settings import Settings
from tests.docs.tables import rows_of
from tests.docs.test_site import PAGES, ROOT
from tools.command_reference import load_root, parameters_of, walk_commands

CONFIGURATION = ROOT / "docs" / "operating" / "configuration.md"
_SETTING = re.compile(r"\b(?:CONNECTORS|POSTER|SERVE|WEBHOOK|SQUARE)_[A-Z][A-Z_]*[A-Z]\b")


def _fields_of(model: type[BaseSettings]) -> Iterator[tuple[str, FieldInfo]]:
    for name, field in model.model_fields.items():
        yield f"{model.model_config.get('env_prefix', '')}{name}".upper(), field


def settings_in_code() -> Mapping[str, FieldInfo]:
    """Every setting of the host and of the installed connectors, by its environment variable."""
    models = [Settings, *(connector.app_model for connector in Plugins().classes.values())]
    return {name: field for model in models if model is not None for name, field in _fields_of(model)}


def variables_of_commands() -> set[str]:
    """Every environment variable that takes the place of a command's option."""
    root = load_root()
    inner = (parameter for entry in walk_commands(root) for parameter in entry.parameters)
    parameters = [*parameters_of(root), *inner]
    variables: set[str] = set()
    for parameter in parameters:
        names = parameter.envvar or ()
        variables |= {names} if isinstance(names, str) else set(names)
    return variables


def settings_on_page() -> Mapping[str, Mapping[str, str]]:
    """The cells of each setting's row."""
    rows = [row.cells for row in rows_of(CONFIGURATION.read_text(encoding="utf-8"))]
    return {cells["setting"].strip("`"): cells for cells in rows if "setting" in cells}


def described_default(field: FieldInfo) -> str:
    """Say a default as the page does: `–` where there is none."""
    if field.default in (None, ""):
        return "–"
    return f"`{field.default:g}`" if isinstance(field.default, float) else f"`{_plain(field.default)}`"


def _plain(default: object) -> object:
    return int(default) if isinstance(default, bool) else default


def described_limits(field: FieldInfo) -> str | None:
    """Say the limits of a number as the page does; `None` for what is no number with limits."""
    least = most = above = None
    for limit in field.metadata:
        match limit:
            case annotated_types.Ge(ge=value):
                least = value
            case annotated_types.Gt(gt=value):
                above = value
            case annotated_types.Le(le=value):
                most = value
    if most is None:
        return None
    return f"{least:,} to {most:,}" if least is not None else f"above {above}, to {most:,}"


def test_the_page_has_exactly_the_settings_of_the_code() -> None:
    assert set(settings_on_page()) == set(settings_in_code())


@pytest.mark.parametrize("name", sorted(settings_in_code()))
def test_default_and_limits_on_the_page_are_those_of_the_code(name: str) -> None:
    field, cells = settings_in_code()[name], settings_on_page()[name]
    # a default that is made up at the first start is said in words
    if not (field.default in (None, "") and not cells["default"].startswith(("–", "`"))):
        assert cells["default"] == described_default(field)
    limits = described_limits(field)
    if limits is not None:
        assert cells["allowed"] == limits


def test_a_wrong_default_and_wrong_limits_would_be_found() -> None:
    field = settings_in_code()["CONNECTORS_CALL_DEADLINE_SECONDS"]
    assert described_default(field) == "`15`"
    assert described_limits(field) == "above 0, to 300"
    assert described_limits(settings_in_code()["CONNECTORS_PLUGIN_WORKERS"]) == "0 to 64"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_setting_that_a_page_names_exists(page: Path) -> None:
    named = set(_SETTING.findall(page.read_text(encoding="utf-8")))
    assert sorted(named - set(settings_in_code()) - variables_of_commands()) == []

"""The page on security claims nothing that is not there: each file, test and setting that it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main
from pydantic_settings import BaseSettings

from connectors.cli.main import app
from connectors.plugins import Plugins
from connectors.settings import Settings
from tests.docs.test_site import PAGES, ROOT

SECURITY = ROOT / "docs" / "security.md"
OPERATING = ROOT / "docs" / "operating.md"
VERDICTS = {"met", "partly", "not met", "not applicable"}
NO_TEST = {"no test", "–"}
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
_FILE = re.compile(r"`((?:connectors|connector_sdk|poster_connector|serve_connector|webhook_connector)/[\w/.]+)`")
_SETTING = re.compile(r"\b(?:CONNECTORS|POSTER|SERVE|WEBHOOK)_[A-Z][A-Z_]*[A-Z]\b")


@dataclass(frozen=True)
class Row:
    """A row of a table: its cells by the names of their columns, and the heading it stands under."""

    under: str
    cells: dict[str, str]


def rows(text: str) -> Iterator[Row]:
    under, names = "", list[str]()
    for line in text.splitlines():
        if line.startswith("#"):
            under = line.lstrip("# ")
        if not line.startswith("|"):
            names = []
            continue
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not names:
            names = cells
        elif set(line) - set("|-: "):
            yield Row(under, dict(zip(names, cells, strict=True)))


def missing_tests(text: str) -> list[str]:
    return [f"{file}::{name}" for file, name in _TEST.findall(text) if name not in _functions(ROOT / "tests" / file)]


def _functions(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    tree = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in tree if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows_without_a_test(text: str) -> list[dict[str, str]]:
    """Rows of tables with a column for tests that neither name one nor say that there is none."""
    tested = (row.cells for row in rows(text) if "test" in row.cells)
    return [cells for cells in tested if cells["test"] not in NO_TEST and not _TEST.fullmatch(cells["test"])]


def settings_of(model: type[BaseSettings]) -> set[str]:
    return {f"{model.model_config.get('env_prefix', '')}{field}".upper() for field in model.model_fields}


def known_settings() -> set[str]:
    """Every environment variable that a setting of the host, of a shipped connector or of a command reads."""
    apps = (connector.app_model for connector in Plugins().classes.values())
    found = {name for model in (Settings, *apps) if model is not None for name in settings_of(model)}
    return found | set(_of_commands(typer.main.get_command(app)))


def _of_commands(command: Any) -> Iterator[str]:
    for parameter in command.params:
        names = parameter.envvar or ()
        yield from [names] if isinstance(names, str) else names
    for inner in getattr(command, "commands", {}).values():
        yield from _of_commands(inner)


def test_every_test_named_on_the_page_exists() -> None:
    text = SECURITY.read_text(encoding="utf-8")
    assert len(_TEST.findall(text)) > 100
    assert missing_tests(text) == []
    assert missing_tests("`web/test_hooks.py::test_nobody_wrote`") == ["web/test_hooks.py::test_nobody_wrote"]
    assert missing_tests("`web/nowhere.py::test_x`") == ["web/nowhere.py::test_x"]


def test_every_claim_names_its_test_or_says_that_there_is_none() -> None:
    text = SECURITY.read_text(encoding="utf-8")
    assert rows_without_a_test(text) == []
    assert rows_without_a_test("| fact | test |\n|---|---|\n| all is well | surely |") == [
        {"fact": "all is well", "test": "surely"}
    ]
    # what is not applicable needs none, and nothing else may do without saying so
    unsaid = [row for row in rows(text) if row.cells.get("test") == "–"]
    assert {row.cells.get("verdict") for row in unsaid} == {"not applicable"}


def test_every_file_named_on_the_page_exists() -> None:
    files = _FILE.findall(SECURITY.read_text(encoding="utf-8"))
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_every_section_has_a_verdict_and_a_chapter_is_met_only_where_all_of_them_are() -> None:
    found = [row for row in rows(SECURITY.read_text(encoding="utf-8")) if "verdict" in row.cells]
    assert {row.cells["verdict"] for row in found} == VERDICTS
    chapters = {row.cells["chapter"]: row.cells["verdict"] for row in found if "chapter" in row.cells}
    assert [name.split()[0] for name in chapters] == [f"V{number}" for number in range(1, 15)]
    for chapter, verdict in chapters.items():
        number = chapter.split()[0]
        sections = [row for row in found if row.under.split()[0] == number and "section" in row.cells]
        assert sections, chapter
        assert all(row.cells["section"].startswith(f"{number[1:]}.") for row in sections), chapter
        gaps = {row.cells["verdict"] for row in sections} - {"met", "not applicable"}
        assert (verdict == "met") == (not gaps), chapter


def test_every_setting_that_a_page_names_is_one() -> None:
    known = known_settings()
    unknown = {
        page.name: sorted(lost)
        for page in PAGES
        if (lost := set(_SETTING.findall(page.read_text(encoding="utf-8"))) - known)
    }
    assert unknown == {}
    assert "CONNECTORS_NO_SUCH_THING" not in known


def test_the_page_for_operators_names_every_setting() -> None:
    named = set(_SETTING.findall(OPERATING.read_text(encoding="utf-8")))
    apps = (connector.app_model for connector in Plugins().classes.values())
    wanted = {name for model in (Settings, *apps) if model is not None for name in settings_of(model)}
    assert sorted(wanted - named) == []

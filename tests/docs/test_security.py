"""The security page claims nothing that is not there: each file, test and setting that it names exists."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.docs.tables import Row, rows_of
from tests.docs.test_site import ROOT

SECURITY = ROOT / "docs" / "security.md"
VERDICTS = {"met", "partly", "not met", "not applicable"}
NO_TEST = {"no test", "–"}
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")
_FILE = re.compile(
    r"`((?:connectors|connector_sdk|poster_connector|serve_connector|square_connector|webhook_connector)/[\w/.]+)`"
)


def _page() -> str:
    return SECURITY.read_text(encoding="utf-8")


def missing_tests(text: str) -> list[str]:
    """List the tests that a text names and that do not exist."""
    return [f"{file}::{name}" for file, name in _TEST.findall(text) if name not in _functions(ROOT / "tests" / file)]


def _functions(file: Path) -> set[str]:
    if not file.is_file():
        return set()
    nodes = ast.walk(ast.parse(file.read_text(encoding="utf-8")))
    return {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


def rows_without_a_test(text: str) -> list[dict[str, str]]:
    """List the rows of tables with a column for tests that neither name a test nor say that there is none."""
    tested = (row.cells for row in rows_of(text) if "test" in row.cells)
    return [cells for cells in tested if cells["test"] not in NO_TEST and not _TEST.fullmatch(cells["test"])]


def test_every_test_named_on_the_page_exists() -> None:
    assert len(_TEST.findall(_page())) > 100
    assert missing_tests(_page()) == []
    assert missing_tests("`web/test_hooks.py::test_nobody_wrote`") == ["web/test_hooks.py::test_nobody_wrote"]
    assert missing_tests("`web/nowhere.py::test_x`") == ["web/nowhere.py::test_x"]


def test_every_claim_names_its_test_or_says_that_there_is_none() -> None:
    assert rows_without_a_test(_page()) == []
    assert rows_without_a_test("| fact | test |\n|---|---|\n| all is well | surely |") == [
        {"fact": "all is well", "test": "surely"}
    ]
    # only what is not applicable may do without a test and without saying so
    untested = [row for row in rows_of(_page()) if row.cells.get("test") == "–"]
    assert {row.cells.get("verdict") for row in untested} == {"not applicable"}


def test_every_file_named_on_the_page_exists() -> None:
    files = _FILE.findall(_page())
    assert files
    assert [file for file in files if not (ROOT / file).is_file()] == []


def test_a_chapter_is_met_only_where_all_of_its_sections_are() -> None:
    judged = [row for row in rows_of(_page()) if "verdict" in row.cells]
    assert {row.cells["verdict"] for row in judged} == VERDICTS
    chapters = {row.cells["chapter"]: row.cells["verdict"] for row in judged if "chapter" in row.cells}
    assert [name.split()[0] for name in chapters] == [f"V{number}" for number in range(1, 15)]
    for chapter, verdict in chapters.items():
        sections = list(_sections_of(chapter.split()[0], judged))
        assert sections, chapter
        gaps = {row.cells["verdict"] for row in sections} - {"met", "not applicable"}
        assert (verdict == "met") == (not gaps), chapter


def _sections_of(number: str, judged: list[Row]) -> Iterator[Row]:
    """Yield the rows of a chapter's sections, such as those of V3: each is numbered 3.…"""
    for row in judged:
        if row.heading.split()[0] == number and "section" in row.cells:
            assert row.cells["section"].startswith(f"{number[1:]}."), row
            yield row

"""The reference names what is public, and nothing that is not there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import connector_sdk
from connector_sdk.testing.suite import SUITE
from tests.docs.tables import rows_of

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "reference.md").read_text(encoding="utf-8").partition("# Every class and function")[0]
MOVED = (DOCS / "from-0.1-to-1.md").read_text(encoding="utf-8")
_NAME = re.compile(r"`(\w+)`")


def names_of_the_front_page() -> list[str]:
    rows = [row.cells["name"] for row in rows_of(REFERENCE) if "name" in row.cells]
    return [name.strip("`") for name in rows]


def names_of_modules(text: str, column: str) -> Iterator[tuple[str, str]]:
    """Yield module and name of each row that has a module in its last column, or in its first."""
    for row in rows_of(text):
        cells = list(row.cells.values())
        if column not in row.cells:
            continue
        module, named = (cells[0], cells[1]) if column == "from" else (cells[-1], cells[0])
        yield from ((module.strip("`"), name) for name in _NAME.findall(named))


def test_every_public_name_stands_in_a_table_once_and_every_name_in_it_exists() -> None:
    assert sorted(names_of_the_front_page()) == sorted(connector_sdk.__all__)


def test_names_in_modules_of_their_own_exist() -> None:
    missing = [
        f"{module}.{name}"
        for module, name in names_of_modules(REFERENCE, "from")
        if not hasattr(import_module(module), name)
        and not any(hasattr(value, name) for value in vars(connector_sdk).values())
        and name != "stamps_for_sale"
    ]
    assert missing == []


def test_names_that_moved_are_where_the_page_says_and_not_where_they_were() -> None:
    moved = list(names_of_modules(MOVED, "now, from"))
    assert moved
    assert [f"{module}.{name}" for module, name in moved if not hasattr(import_module(module), name)] == []
    assert [name for _, name in moved if name in connector_sdk.__all__] == []


def test_versions_are_those_of_the_code() -> None:
    assert f'`"{connector_sdk.__version__}"`' in REFERENCE
    assert f"now {SUITE})" in REFERENCE

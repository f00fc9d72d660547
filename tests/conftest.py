"""Fixtures that rooms share."""

from __future__ import annotations

import gc
import os
import ssl
from collections.abc import AsyncIterator, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from sqlalchemy import ClauseElement, Dialect
from sqlalchemy.util import LRUCache

from connectors import plugins
from tests import databases
from tests.installation import Installation, build

settings.register_profile("ordinary", deadline=None, print_blob=True)
settings.load_profile("ordinary")

# reading the machine's certificates takes 50 ms, and every host and every call of httpx does it
ssl.create_default_context = cache(ssl.create_default_context)
# and so does looking into all installed packages for plugins
plugins.entry_points = cache(plugins.entry_points)

_compile = ClauseElement._compile_w_cache


def _compile_once(self: ClauseElement, dialect: Dialect, **more: Any) -> Any:
    """Compile a statement once for all engines of a kind of database; each would do it anew, and most tests make one.

    A dialect says nothing of its database that these statements depend on.
    """
    kind = f"{dialect.name} {dialect.driver}"
    more["compiled_cache"] = _compiled.setdefault(kind, LRUCache(2000))
    return _compile(self, _dialects.setdefault(kind, dialect), **more)


_compiled: dict[str, LRUCache[Any, Any]] = {}
_dialects: dict[str, Dialect] = {}
ClauseElement._compile_w_cache = _compile_once  # type: ignore[method-assign]

# the longest tests: one that begins last keeps its worker busy when the others have nothing left to do
_FIRST = (
    "test_new",
    "test_every_page",
    "test_under_attack",
    "test_routes",
    "test_secrecy",
    "test_a_year_of_renewals",
    "test_schemathesis",
    "test_progress",
    "test_kill",
    "test_delivery_properties",
    "test_ledger_properties",
    "test_regexes",
    "test_console_walks",
)


def pytest_collection() -> None:
    """Look for no garbage among what is imported and collected: it stays, and is most of what there is."""
    gc.disable()


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
    gc.enable()
    gc.set_threshold(10_000, 10, 10)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, all others in their order; skip what needs a file where a server is asked for."""
    if databases.ON_POSTGRESQL:
        for item in items:
            if item.get_closest_marker("embedded"):
                item.add_marker(pytest.mark.skip(reason="about the file of an embedded database"))
    items.sort(key=lambda item: item.path.stem not in _FIRST)


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the machine's own environment reaches a test."""
    for name in list(os.environ):
        if name.startswith(("CONNECTORS_", "POSTER_", "SERVE_", "SQUARE_", "WEBHOOK_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def _databases_end() -> Iterator[None]:
    """Delete the databases that a test made on a server, when it has ended."""
    yield
    databases.drop_all()


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    async with build(tmp_path, monkeypatch) as one:
        yield one

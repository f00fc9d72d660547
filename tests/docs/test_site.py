"""The documentation: it builds without a warning, fetches nothing when it is read, and names only what there is."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

import connector_sdk
from connector_sdk import Customer, Line, Sale
from connector_sdk.testing import BEHAVIOURS
from connectors.cli.main import app
from tests.docs.steps import blocks
from webhook_connector import ready_made

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
INTEGRATORS = [ROOT / "docs" / f"{name}.md" for name in ("writing-a-connector", "tutorial", "sale")]
INTEGRATORS += sorted((ROOT / "docs" / "howto").glob("*.md"))
OF_OTHERS = {*dir(builtins), "SecretStr", "Literal"}
_IN_LINE = re.compile(r"`(connectors [^`]+)`")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
_FETCHED = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["'](?:https?:)?//|<link[^>]+href=["'](?:https?:)?//|@import"""
)


@pytest.fixture(scope="module")
def commands() -> Any:
    """The group of every command there is, those that plugins bring among them."""
    return typer.main.get_command(app)


def _typed(page: Path) -> Iterator[str]:
    """Every command line of a page: in its blocks, where a `\\` goes on in the next line, and within sentences."""
    for one in blocks(page):
        if one.language in ("sh", "console", ""):
            text = one.text.replace("\\\n", " ")
            yield from (line.removeprefix("$ ") for line in text.splitlines() if "connectors " in line)
    yield from (" ".join(found.split()) for found in _IN_LINE.findall(page.read_text(encoding="utf-8")))


def _lies(line: str, commands: Any) -> str | None:
    """What in a command line is no command or option; `None` where all is well."""
    words = line.partition(" #")[0].split()
    if not words or words[0] != "connectors":
        return None
    group, words = commands, words[1:]
    while hasattr(group, "commands"):
        known = {option for each in group.params for option in each.opts}
        while words and words[0] in known:
            words = words[2:]
        if not words or words[0] in ("…", "--help"):
            return None
        if words[0] == "ID" and "list" in group.commands:  # `operations ID` lists, `operations ID retry OP` acts
            words = words[1:] if words[1:2] and words[1] in group.commands else ["list", *words[1:]]
        choices = words[0].split("|")  # `connectors mapping try|show`
        missing = [one for one in choices if one not in group.commands]
        if missing:
            return f"there is no command {missing[0]!r}"
        group, words = group.commands[choices[0]], words[1:]
    known = {option for each in group.params for option in (*each.opts, *each.secondary_opts)}
    wrong = [option for option in re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(words)) if option not in known]
    return f"there is no {wrong[0]}" if wrong else None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_options_of_a_page_exist(page: Path, commands: Any) -> None:
    lies = {line: why for line in _typed(page) if (why := _lies(line, commands))}
    assert not lies


def test_a_command_that_is_not_there_is_found(commands: Any) -> None:
    assert _lies("connectors check . --only place", commands) is None
    assert _lies("connectors mapping show shopify > mapping.toml", commands) is None
    assert _lies("connectors chekc .", commands) == "there is no command 'chekc'"
    assert _lies("connectors check . --olny place", commands) == "there is no --olny"
    assert any("connectors check" in line for line in _typed(ROOT / "docs" / "tutorial.md"))


def _names_of_the_sdk() -> set[str]:
    """Every public name in the SDK's modules, and every name within its public classes."""
    found: set[str] = set()
    for one in pkgutil.walk_packages(connector_sdk.__path__, "connector_sdk."):
        module = importlib.import_module(one.name)
        for name, value in vars(module).items():
            found |= {name, *dir(value), *getattr(value, "model_fields", ())} if inspect.isclass(value) else {name}
    return found | {behaviour.name for behaviour in BEHAVIOURS}


@pytest.mark.parametrize("page", INTEGRATORS, ids=lambda page: page.name)
def test_names_of_the_sdk_that_a_page_uses_exist(page: Path) -> None:
    text, known = page.read_text(encoding="utf-8"), _names_of_the_sdk()
    made = {one.name for block in blocks(page) if block.language == "python" for one in _classes(block.text)}
    # a class in a sentence, or a call: `NotAuthorised`, `Checkpoint(at=…)`, `Connector.customer`
    used = {part for name in re.findall(r"`([A-Z][a-z]+[A-Z]?\w*(?:\.\w+)?)[`(]", text) for part in name.split(".")}
    used |= set(re.findall(r"--only (\w+)", text))
    assert sorted(used - known - made - OF_OTHERS) == []


def test_the_page_of_the_sale_has_every_field_and_the_words_of_the_ready_made_mappings() -> None:
    text = (ROOT / "docs" / "sale.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+)`", text))
    wanted = {*Sale.model_fields} - {"lines"}
    wanted |= {f"customer.{one}" for one in Customer.model_fields} | {f"line.{one}" for one in Line.model_fields}
    assert sorted(wanted - named) == []
    for ready in ready_made.ALL:
        paths = {name: path for name, path in ready.settings.items() if name.startswith("map_")}
        words = {word for path in paths.values() for word in re.findall(r"[a-z_]+", path)} - {
            "kind",
            "success",
            "status",
        }
        assert sorted(word for word in words if word not in text and word not in OF_OTHERS) == []


def _classes(text: str) -> Iterator[ast.ClassDef]:
    return (one for one in ast.walk(ast.parse(textwrap.dedent(text))) if isinstance(one, ast.ClassDef))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_of_a_page_can_be_read_and_its_links_lead_somewhere(page: Path) -> None:
    for one in blocks(page):
        if one.language == "python":
            ast.parse(textwrap.dedent(one.text))
    lost = [to for to in _LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / to).exists()]
    assert not lost


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing_when_it_is_read(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    made = sorted((tmp_path / "site").rglob("*.html"))
    assert {"index.html", "tutorial.html", "oauth.html", "reference.html"} <= {one.name for one in made}
    fetching = [
        one.name
        for one in (*made, *(tmp_path / "site").rglob("*.css"))
        if _FETCHED.search(one.read_text(encoding="utf-8"))
    ]
    assert not fetching
    reference = (tmp_path / "site" / "reference.html").read_text(encoding="utf-8")
    assert "Read the account that the settings open" in reference

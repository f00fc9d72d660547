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
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

import connector_sdk
from connector_sdk import Customer, Line, Sale
from connector_sdk.testing import BEHAVIOURS
from connectors.store.access.security_log import EventKind
from tests.docs.steps import blocks
from tests.docs.tables import rows_of
from tools.command_reference import Command, load_root, parameters_of
from webhook_connector import ready_made

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]
INTEGRATORS = [ROOT / "docs" / f"{name}.md" for name in ("writing-a-connector", "tutorial", "sale")]
INTEGRATORS += sorted((ROOT / "docs" / "howto").glob("*.md"))
NOT_MAKING_FILES = [page for page in PAGES if page.name != "tutorial.md"]
"""Pages whose files are this repository's: the tutorial makes its own."""
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.svg"))
OF_OTHERS = {*dir(builtins), "SecretStr", "Literal", "Poster", "makeRequest"}
_IN_LINE = re.compile(r"`(connectors [^`]+)`")
_FILE = re.compile(
    r"`((?:connectors|connector_sdk|\w+_connector|tests|tools|bench|examples|docs)/[\w/.-]+?)(?:::\w+)?`"
)
_MODULE = re.compile(r"python -m ((?:tests|tools|bench)\.[\w.]+)")
_LINK = re.compile(r"\]\((?!https?:)([^)#\s]+)")
_FETCHED = re.compile(
    r"""<(?:script|img|iframe)[^>]+src=["'](?:https?:)?//|<link[^>]+href=["'](?:https?:)?//|@import"""
)


@pytest.fixture(scope="module")
def commands() -> TyperGroup:
    """The group of every command there is, with those that plugins bring."""
    return load_root()


def command_lines(page: Path) -> Iterator[str]:
    """Yield every command line of a page, from its blocks and from its sentences; a `\\` continues a line."""
    for block in blocks(page):
        if block.language in ("sh", "console", ""):
            text = block.text.replace("\\\n", " ")
            yield from (line.removeprefix("$ ") for line in text.splitlines() if "connectors " in line)
    yield from (" ".join(typed.split()) for typed in _IN_LINE.findall(page.read_text(encoding="utf-8")))


def find_mistake(line: str, commands: TyperGroup) -> str | None:
    """Say which command or option of a command line does not exist; `None` where all of them do."""
    words = line.partition(" #")[0].split()
    if not words or Path(words[0]).name != "connectors" or words[1:2] == ["COMMAND"]:
        return None
    command: Command = commands
    words = words[1:]
    while isinstance(command, TyperGroup):
        group = command
        words = _after_options(words, group)
        if not words or words[0] in ("…", "--help"):
            return None
        names = group.list_commands(typer.Context(group))
        words = _with_the_action_first(words, names)
        choices = words[0].split("|")  # `connectors mapping try|show`
        missing = [choice for choice in choices if choice not in names]
        if missing:
            return f"there is no command {missing[0]!r}"
        chosen = group.get_command(typer.Context(group), choices[0])
        assert isinstance(chosen, Command)
        command, words = chosen, words[1:]
    known = set(_option_names(command))
    options = re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(words))
    unknown = [option for option in options if option not in known]
    return f"there is no {unknown[0]}" if unknown else None


def _after_options(words: list[str], group: TyperGroup) -> list[str]:
    """Leave out a group's own options: a flag alone, any other with its value."""
    flags = {
        name for parameter in parameters_of(group) if getattr(parameter, "is_flag", False) for name in parameter.opts
    }
    while words and words[0] in set(_option_names(group)):
        words = words[1:] if words[0] in flags else words[2:]
    return words


def _with_the_action_first(words: list[str], names: Iterable[str]) -> list[str]:
    """`operations ID` lists, and `operations ID retry OP` acts: put the action before the id."""
    if words[0] != "ID" or "list" not in names:
        return words
    return words[1:] if words[1:2] and words[1] in names else ["list", *words[1:]]


def _option_names(command: Command) -> Iterator[str]:
    for parameter in parameters_of(command):
        yield from (*parameter.opts, *parameter.secondary_opts)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_and_options_of_a_page_exist(page: Path, commands: TyperGroup) -> None:
    mistakes = {line: mistake for line in command_lines(page) if (mistake := find_mistake(line, commands))}
    assert not mistakes


def test_a_command_that_does_not_exist_is_found(commands: TyperGroup) -> None:
    assert find_mistake("connectors check . --only place", commands) is None
    assert find_mistake("connectors mapping show shopify > mapping.toml", commands) is None
    assert find_mistake("connectors operations ID retry OP", commands) is None
    assert find_mistake("connectors chekc .", commands) == "there is no command 'chekc'"
    assert find_mistake("connectors check . --olny place", commands) == "there is no --olny"
    assert any("connectors check" in line for line in command_lines(ROOT / "docs" / "tutorial.md"))


def _names_of_the_sdk() -> set[str]:
    """Return every name in the SDK's modules, every name within its classes, and the names of behaviours."""
    names: set[str] = set()
    for package in pkgutil.walk_packages(connector_sdk.__path__, "connector_sdk."):
        for name, value in vars(importlib.import_module(package.name)).items():
            names |= {name, *dir(value), *getattr(value, "model_fields", ())} if inspect.isclass(value) else {name}
    return names | {behaviour.name for behaviour in BEHAVIOURS}


@pytest.mark.parametrize("page", INTEGRATORS, ids=lambda page: str(page.relative_to(ROOT)))
def test_names_of_the_sdk_that_a_page_uses_exist(page: Path) -> None:
    text, known = page.read_text(encoding="utf-8"), _names_of_the_sdk()
    defined = {node.name for block in blocks(page) if block.language == "python" for node in _classes(block.text)}
    # a class in a sentence, or a call: `NotAuthorised`, `Grant(secrets, expires_at)`, `Connector.customer`
    used = {part for name in re.findall(r"`([A-Z][a-z]+[A-Z]?\w*(?:\.\w+)?)[`(]", text) for part in name.split(".")}
    used |= set(re.findall(r"--only (\w+)", text))
    assert sorted(used - known - defined - OF_OTHERS) == []


def test_the_page_of_the_sale_has_every_field_and_the_words_of_the_ready_made_mappings() -> None:
    text = (ROOT / "docs" / "sale.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`([\w.]+)`", text))
    fields = {*Sale.model_fields} - {"lines"}
    fields |= {f"customer.{name}" for name in Customer.model_fields} | {f"line.{name}" for name in Line.model_fields}
    assert sorted(fields - named) == []
    for ready in ready_made.ALL:
        paths = {name: path for name, path in ready.settings.items() if name.startswith("map_")}
        words = {word for path in paths.values() for word in re.findall(r"[a-z_]+", path)} - {
            "kind",
            "success",
            "status",
        }
        assert sorted(word for word in words if word not in text and word not in OF_OTHERS) == []


def _classes(text: str) -> Iterator[ast.ClassDef]:
    return (node for node in ast.walk(ast.parse(textwrap.dedent(text))) if isinstance(node, ast.ClassDef))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_of_a_page_can_be_read_and_its_links_lead_somewhere(page: Path) -> None:
    for block in blocks(page):
        if block.language == "python":
            ast.parse(textwrap.dedent(block.text))
    targets = _LINK.findall(page.read_text(encoding="utf-8"))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", NOT_MAKING_FILES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_file_of_ours_that_a_page_names_exists(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    modules = [f"{module.replace('.', '/')}.py" for module in _MODULE.findall(text)]
    assert [name for name in (*_FILE.findall(text), *modules) if not (ROOT / name).exists()] == []


def test_the_former_page_for_operators_keeps_its_addresses() -> None:
    text = (ROOT / "docs" / "operating.md").read_text(encoding="utf-8")
    headings = {line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")}
    assert headings == {
        "Install",
        "Settings",
        "Running",
        "What a client may send",
        "Keys",
        "What is kept, and for how long",
        "Forgetting a customer",
        "JSON of commands",
        "Passkeys",
    }


def test_every_kind_of_security_event_is_explained() -> None:
    text = (ROOT / "docs" / "operating" / "console-access.md").read_text(encoding="utf-8")
    kinds = {row.cells["`kind`"].strip("`") for row in rows_of(text) if "`kind`" in row.cells}
    assert kinds == {kind.value for kind in EventKind}


@pytest.mark.parametrize("picture", PICTURES, ids=lambda picture: picture.name)
def test_a_picture_says_in_words_what_it_shows_and_is_readable_light_and_dark(picture: Path) -> None:
    root = ElementTree.parse(picture).getroot()
    title, description = (root.find(f"{{http://www.w3.org/2000/svg}}{name}") for name in ("title", "desc"))
    assert title is not None
    assert title.text
    assert description is not None
    assert description.text
    source = picture.read_text(encoding="utf-8")
    assert "prefers-color-scheme: dark" in source
    assert "<text" in source
    assert not re.search(r"href|url\((?!#)|@import|@font-face|<script|<image", source)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_fetches_nothing_when_it_is_read(tmp_path: Path) -> None:
    site = tmp_path / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(site)]
    build = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert build.returncode == 0, build.stdout + build.stderr
    pages = sorted(site.rglob("*.html"))
    names = {str(page.relative_to(site)) for page in pages}
    assert {"index.html", "tutorial.html", "howto/oauth.html", "reference.html", "operating.html"} <= names
    assert {"reference/commands.html", "operating/install.html", "operating/troubleshooting.html"} <= names
    fetching = [file.name for file in (*pages, *site.rglob("*.css")) if _FETCHED.search(file.read_text("utf-8"))]
    assert not fetching
    reference = (site / "reference.html").read_text(encoding="utf-8")
    assert "Read the account that the settings open" in reference

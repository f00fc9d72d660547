"""`connectors new`: a connector's package that works, and conforms, before a line of it is changed.

Owns which names are refused and where files are written; the templates are the SDK's (`connector_sdk/scaffold`).
"""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer
from jinja2 import Environment, PackageLoader, StrictUndefined

from connectors.cli.options import AsJson
from connectors.cli.output import run, say, show_json
from connectors.plugins import OURS, Plugins
from connectors.services import Refusal

_FILES = {
    "pyproject.toml": "pyproject.toml",
    "README.md": "README.md",
    "init.py": "{package}/__init__.py",
    "connector.py": "{package}/connector.py",
    "mapping.py": "{package}/mapping.py",
    "stub.py": "{package}/stub.py",
    "test_till.py": "tests/test_{package}.py",
}


_TAKEN = frozenset(
    "connectors connector_sdk poster_connector serve_connector square_connector webhook_connector tests test conftest "
    "pip setuptools pytest httpx pydantic pydantic_settings typer rich jinja2 pluggy".split()
)
"""Modules of ours, and those that a connector's own package imports: a package of that name would stand before them."""
_SUFFIX = "-connector"
"""What many call such a project: no part of the connector's own name, which is the till's."""


class Shape(StrEnum):
    """How a till gives its sales; it decides which of the connector's methods are written."""

    poll = "poll"
    """The till is read at intervals: `poll`, `fetch`."""
    push = "push"
    """The till sends each sale by itself: `prove`, `receive`."""
    both = "both"
    """The till sends, and can be read for what a hook missed."""


@dataclass(frozen=True, slots=True)
class _Names:
    """What a new package is called, by where the templates use it."""

    project: str
    package: str
    name: str
    title: str
    class_name: str

    @classmethod
    def of(cls, name: str, package: str | None = None) -> _Names:
        """Derive every name from the one that was typed: `my-till`, or `my-till-connector`."""
        till = name.removesuffix(_SUFFIX) or name
        words = [word.capitalize() for word in till.split("-") if word]
        # the connector's own name is letters and digits only
        plain = re.sub(r"[^a-z0-9]", "", till.lower())
        return cls(f"{till}{_SUFFIX}", package or name.replace("-", "_"), plain, " ".join(words), "".join(words))


def new(
    name: Annotated[str, typer.Argument(help="Of the till, as in my-till.")],
    package: Annotated[
        str | None, typer.Option(help="What Python imports, as in my_connector; by default as the till is named.")
    ] = None,
    shape: Annotated[Shape, typer.Option(help="The till can be read, sends by itself, or both.")] = Shape.both,
    folder: Annotated[
        Path | None, typer.Option(help="Where to make it; a folder of its name here, by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a connector's package: it works, and passes the conformance suite, before a line is changed."""

    files = run(partial(_work, name, package, shape, folder or Path(name)))
    if as_json:
        show_json({"folder": str(files[0].parent), "files": [str(file) for file in files]})
    else:
        _say_files(files)


def _say_files(files: Sequence[Path]) -> None:
    for file in files:
        say(f"  {file}")
    # the first file, pyproject.toml, stands in the package's own folder; the others may stand deeper
    where = files[0].parent
    first = "" if where.resolve() == Path.cwd() else f"cd {where} && "
    say(f"✓ {where.resolve().name} is ready. Next: {first}connectors check .")


async def _work(name: str, package: str | None, shape: Shape, folder: Path) -> list[Path]:
    # waits for nothing: it is a coroutine because `run` turns the errors of coroutines into sentences
    return _scaffold(name, package, shape, folder)


def _scaffold(name: str, package: str | None, shape: Shape, folder: Path) -> list[Path]:
    """Write the files of a new package and return them. Raises `Refusal` before any is written."""
    names = _Names.of(name, package)
    _require_free_names(name, names)
    # an author's work is never written over, nor mixed with a template's files
    if folder.exists() and any(folder.iterdir()):
        raise Refusal(f"{folder} is not empty: nothing is written over")
    values = _template_values(names, shape)
    templates = _templates()
    return [_write_file(templates, template, folder, values) for template in _FILES]


def _template_values(names: _Names, shape: Shape) -> dict[str, object]:
    return asdict(names) | {
        "version": version(OURS),  # the package asks for this version of the SDK or a later one
        "poll": shape is not Shape.push,
        "push": shape is not Shape.poll,
    }


def _templates() -> Environment:
    return Environment(  # noqa: S701 - it writes Python, not pages
        loader=PackageLoader("connector_sdk", "scaffold"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,  # a name that a template misspells must not vanish from somebody's package
    )


def _write_file(templates: Environment, template: str, folder: Path, values: Mapping[str, object]) -> Path:
    file = folder / _FILES[template].format(**values)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(templates.get_template(f"{template}.jinja").render(**values), encoding="utf-8")
    return file


def _require_free_names(typed: str, names: _Names) -> None:
    """Raise `Refusal` for names that are none, or that something else has: Python, a module, a connector."""
    _require_till_name(typed, names.name)
    # a host can have one connector of a name only
    if names.name in Plugins().classes:
        raise Refusal(f"there is a connector named {names.name!r} already: choose another name")
    _require_importable(names)


def _require_till_name(typed: str, name: str) -> None:
    # the connector's own name stands in addresses and codes, and keeps no dashes: it must be a name without them too
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,41}", typed) or not re.fullmatch(r"[a-z][a-z0-9]{1,31}", name):
        raise Refusal(f"{typed!r} is no name: small letters, digits and -, a letter first, as in my-till")


def _require_importable(names: _Names) -> None:
    """Raise `Refusal` for a package that Python could not import, or would take for another."""
    package, way_out = names.package, f"name the package, as in --package {names.name}_connector"
    if not re.fullmatch(r"[a-z][a-z0-9_]{1,63}", package):
        raise Refusal(f"{package!r} is no package: small letters, digits and _, a letter first, as in my_connector")
    if keyword.iskeyword(package) or keyword.issoftkeyword(package):
        raise Refusal(f"{package!r} is a word of Python's own, and no name for a package: {way_out}")
    if package in _TAKEN or package in sys.stdlib_module_names:
        raise Refusal(f"{package!r} is the name of a module that is there already: {way_out}")

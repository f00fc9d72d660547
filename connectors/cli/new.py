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
    "connectors connector_sdk poster_connector serve_connector webhook_connector tests test conftest pip setuptools "
    "pytest httpx pydantic pydantic_settings typer rich jinja2 pluggy".split()
)
"""Modules of ours, and those that a connector's own package imports: a package of that name would stand before them."""


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
    def of(cls, name: str) -> _Names:
        """Derive every name from the one that was typed, such as `my-till`."""
        words = [word.capitalize() for word in name.split("-") if word]
        package = name.replace("-", "_")
        return cls(f"{name}-connector", package, _plain(name), " ".join(words), "".join(words))


def _plain(name: str) -> str:
    """Return the connector's own name, which is letters and digits only."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def new(
    name: Annotated[str, typer.Argument(help="Of the till, as in my-till.")],
    shape: Annotated[Shape, typer.Option(help="The till can be read, sends by itself, or both.")] = Shape.both,
    folder: Annotated[
        Path | None, typer.Option(help="Where to make it; a folder of its name here, by default.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a connector's package: it works, and passes the conformance suite, before a line is changed."""

    files = run(partial(_work, name, shape, folder or Path(name)))
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


async def _work(name: str, shape: Shape, folder: Path) -> list[Path]:
    # waits for nothing: it is a coroutine because `run` turns the errors of coroutines into sentences
    return _scaffold(name, shape, folder)


def _scaffold(name: str, shape: Shape, folder: Path) -> list[Path]:
    """Write the files of a new package and return them. Raises `Refusal` before any is written."""
    _require_free_name(name)
    # an author's work is never written over, nor mixed with a template's files
    if folder.exists() and any(folder.iterdir()):
        raise Refusal(f"{folder} is not empty: nothing is written over")
    values = _template_values(name, shape)
    templates = _templates()
    return [_write_file(templates, template, folder, values) for template in _FILES]


def _template_values(name: str, shape: Shape) -> dict[str, object]:
    return asdict(_Names.of(name)) | {
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


def _require_free_name(name: str) -> None:
    """Raise `Refusal` for a name that is none, or that something else has: Python, a module, a connector."""
    _require_name(name)
    _require_importable(name, name.replace("-", "_"))
    plain = _plain(name)
    # a host can have one connector of a name only
    if plain in Plugins().classes:
        raise Refusal(f"there is a connector named {plain!r} already: choose another name")


def _require_name(name: str) -> None:
    # the connector's own name stands in addresses and codes, and keeps no dashes: it must be a name without them too
    plain = _plain(name)
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,31}", name) or not re.fullmatch(r"[a-z][a-z0-9]{1,31}", plain):
        raise Refusal(f"{name!r} is no name: small letters, digits and -, a letter first, as in my-till")


def _require_importable(name: str, package: str) -> None:
    if keyword.iskeyword(package):
        raise Refusal(f"{name!r} is a word of Python's own, so nothing could import it: add to it, as in {name}-till")
    if package in _TAKEN or package in sys.stdlib_module_names:
        raise Refusal(f"{name!r} is the name of a module that is there already: add to it, as in {name}-till")

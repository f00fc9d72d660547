"""`connectors new`: a connector's package that works, and conforms, before a line of it is changed.

Owns which names are refused and where files are written; the templates are the SDK's (`connector_sdk/scaffold`).
"""

from __future__ import annotations

import keyword
import re
import sys
from dataclasses import asdict, dataclass
from enum import StrEnum
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

    async def work() -> list[Path]:
        return _scaffold(name, shape, folder or Path(name))

    files = run(work)
    if as_json:
        show_json({"folder": str(files[0].parent), "files": [str(file) for file in files]})
        return
    for file in files:
        say(f"  {file}")
    where = files[0].parent
    first = "" if where.resolve() == Path.cwd() else f"cd {where} && "
    say(f"✓ {where.resolve().name} is ready. Next: {first}connectors check .")


def _scaffold(name: str, shape: Shape, folder: Path) -> list[Path]:
    """Write the files of a new package and return them. Raises `Refusal` before any is written."""
    _require_free_name(name)
    if folder.exists() and any(folder.iterdir()):
        raise Refusal(f"{folder} is not empty: nothing is written over")
    values = asdict(_Names.of(name)) | {
        "version": version(OURS),
        "poll": shape is not Shape.push,
        "push": shape is not Shape.poll,
    }
    templates = Environment(  # noqa: S701 - it writes Python, not pages
        loader=PackageLoader("connector_sdk", "scaffold"),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        undefined=StrictUndefined,
    )
    files: list[Path] = []
    for template, target in _FILES.items():
        file = folder / target.format(**values)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(templates.get_template(f"{template}.jinja").render(**values), encoding="utf-8")
        files.append(file)
    return files


def _require_free_name(name: str) -> None:
    """Raise `Refusal` for a name that is none, or that something else has: Python, a module, a connector."""
    plain = _plain(name)
    if not re.fullmatch(r"[a-z][a-z0-9-]{1,31}", name) or not re.fullmatch(r"[a-z][a-z0-9]{1,31}", plain):
        raise Refusal(f"{name!r} is no name: small letters, digits and -, a letter first, as in my-till")
    package = name.replace("-", "_")
    if keyword.iskeyword(package):
        raise Refusal(f"{name!r} is a word of Python's own, so nothing could import it: add to it, as in {name}-till")
    if package in _TAKEN or package in sys.stdlib_module_names:
        raise Refusal(f"{name!r} is the name of a module that is there already: add to it, as in {name}-till")
    if plain in Plugins().classes:
        raise Refusal(f"there is a connector named {plain!r} already: choose another name")

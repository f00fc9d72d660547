"""Every text of ours that a person may read, found where it stands in the code, for the checks of translations.

`python -m tests.texts` prints those that a language lacks: what a translator has still to do.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from jinja2 import Environment, nodes

ROOT = Path(__file__).parents[1]
HOST = ROOT / "connectors"
TILLS = tuple(ROOT / name for name in ("poster_connector", "serve_connector", "square_connector", "webhook_connector"))
_TEXT_CALLS = {"text", "Refusal", "Refused", "KeyRefused", "Message", "_ids_on_menu"}
_ENGLISH_ONLY = {"cli", "store", "sevenstamp", "runtime", "plugins.py"}  # the command line, and what logs say
_FOR_PROGRAMS = ("web/api/", "services/shapes.py", "relay/bodies.py")
_TABLES = {"_SOURCES", "_SIGNS", "CONTENTS", "_PROOF_WORDS", "_ENCODING_WORDS", "UNIT_WORDS", "DATE_WORDS"}
_TABLES |= {"_NOT_ADDED", "_NOT_USED"}
_CONSTANTS = {"text", "NEEDED", "STRANGE", "_IS_BUSY", "COSTLY"}
_FACTS = {"summary", "needs", "needs_without_sign_in", "attach_customer", "title", "description", "caution"}


def of_templates() -> Iterator[str]:
    """Texts in `_("…")` and `ngettext("…", "…", …)`, the singular for the latter."""
    environment = Environment()
    for file in sorted(HOST.rglob("templates/*.html")):
        tree = environment.parse(file.read_text())
        for call in tree.find_all(nodes.Call):
            if isinstance(call.node, nodes.Name) and call.node.name in ("_", "ngettext") and call.args:
                first = call.args[0]
                if isinstance(first, nodes.Const):
                    yield first.value


def of_code(folder: Path) -> Iterator[str]:
    """Texts and message ids given to the calls that word them, and what a connector says of itself."""
    for file in sorted(folder.rglob("*.py")):
        if folder == HOST and file.relative_to(HOST).parts[0] in _ENGLISH_ONLY:
            continue
        if folder == HOST and file.relative_to(HOST).as_posix().startswith(_FOR_PROGRAMS):
            continue
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=func, args=args, keywords=keywords):
                    name = func.attr if isinstance(func, ast.Attribute) else getattr(func, "id", "")
                    if name in _TEXT_CALLS or (name == "count" and len(args) > 2):
                        yield from _strings(args[:1])
                    if name == "_path" and file.name == "settings.py":
                        yield from _strings(args)
                    if name == "bad_payload" and folder in TILLS:
                        yield from _strings(args[1:2])
                    if name == "BadPayload" and folder in TILLS:
                        yield from _strings(args[1:2])
                    if name == "Question":
                        yield from _strings(args[1:2])
                        yield from _strings([keyword.value for keyword in keywords if keyword.arg == "skip"])
                    if name == "Token":
                        yield from _strings(args[1:2])
                    if name in ("ConnectorInfo", "Field", "ReadyMade"):
                        for keyword in keywords:
                            if keyword.arg in _FACTS and not (name != "Field" and keyword.arg == "title"):
                                yield from _strings([keyword.value])
                            if name == "ConnectorInfo" and keyword.arg == "title":
                                # a till's name stays; one of several words says what kind of till it is
                                yield from (title for title in _strings([keyword.value]) if " " in title)
                            if keyword.arg in ("hook_steps", "steps"):
                                yield from _strings(getattr(keyword.value, "elts", []))
                    if name == "ValueError" and file.name == "settings.py" and folder in TILLS:
                        yield from _why(args[:1])
                case ast.Yield(value=ast.expr() as value) if file.name == "settings.py" and folder in TILLS:
                    yield from _why([value])
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if name in _CONSTANTS:
                    yield from _strings([value])
                case (
                    ast.Assign(targets=[ast.Name(id=name)], value=ast.Dict(values=values))
                    | ast.AnnAssign(target=ast.Name(id=name), value=ast.Dict(values=values))
                ) if name in _TABLES:
                    yield from _strings(values)


def _why(said: Sequence[ast.expr]) -> Iterator[str]:
    """Yield the words of "field: why": the field is where it is shown."""
    plain = [one.values[-1] if isinstance(one, ast.JoinedStr) else one for one in said]
    yield from (re.sub(r"^[a-z_]*: ", "", one) for one in _strings(plain))


def of_sdk() -> Iterator[str]:
    """What the SDK itself says of a till's answer, and of a question that cannot be answered; the host words it."""
    for file in sorted((ROOT / "connector_sdk").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            match node:
                case ast.Call(func=ast.Name(id="BadPayload"), args=[_, ast.Constant(value=str(text)), *_]):
                    yield text
                case ast.AnnAssign(target=ast.Name(id="skip"), value=ast.Constant(value=str(text))) if text:
                    yield text


def _strings(values: list[ast.expr]) -> Iterator[str]:
    for value in values:
        match value:
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp(body=body, orelse=orelse):
                yield from _strings([body, orelse])
            case ast.BoolOp(values=either):
                yield from _strings(either)


@cache
def catalogue(folder: Path, language: str) -> Catalog:
    file = folder / "locale" / language / "messages.po"
    with file.open("rb") as source:
        return read_po(source, locale=language)


def of_english(folder: Path) -> Iterator[str]:
    """What the English catalogue words: ids of messages."""
    if not (folder / "locale" / "en" / "messages.po").is_file():
        return
    for message in catalogue(folder, "en"):
        if message.id:
            yield message.id if isinstance(message.id, str) else message.id[0]


@cache
def wanted(folder: Path) -> set[str]:
    """Every id that a language must word in a package; ids put together at run time stand in the English catalogue."""
    return {*of_code(folder), *of_english(folder), *_hosts(folder)} - {""}


def _hosts(folder: Path) -> Iterator[str]:
    if folder == HOST:
        yield from of_templates()
        yield from of_sdk()


def lacking(folder: Path, language: str) -> list[str]:
    """What a language's catalogue of a package has no words for."""
    known = catalogue(folder, language)
    words: dict[str, bool] = {}
    for message in known:
        if message.id:
            name = message.id if isinstance(message.id, str) else message.id[0]
            said = message.string if isinstance(message.string, str) else "".join(message.string)
            words[name] = bool(said.strip()) and not message.fuzzy
    return sorted(one for one in wanted(folder) if not words.get(one))


if __name__ == "__main__":
    for package in (HOST, *TILLS):
        for one in lacking(package, sys.argv[1]):
            sys.stdout.write(f"{package.name}: {one!r}\n")

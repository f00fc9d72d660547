"""What an integrator names on the command line: a connector, its package, or the folder it is being written in.

Owns finding and importing it, with a sentence for each way in which that fails; what is done with it is the commands'.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, TypeAlias

import typer

from connector_sdk.connector import Connector
from connector_sdk.testing import TillStub
from connectors.plugins import Plugins
from connectors.services import Refusal, nearest

Target = Annotated[str, typer.Argument(help="A connector's name, its package, or the folder it is in.")]
ConnectorClass: TypeAlias = type[Connector[Any]]
"""A connector over whatever settings it has."""


def connector_at(target: str) -> ConnectorClass:
    """Find the connector that a name, a package or a folder means. Raises `Refusal`."""
    installed = Plugins().classes
    if target in installed:
        return installed[target]
    registered = _registered_by(_module_at(target, installed))
    if not registered:
        raise Refusal(f"the package {target!r} registers no connector: does it have `register_connectors`?")
    return registered[0]


def _module_at(target: str, installed: Iterable[str]) -> ModuleType:
    """Import a package by its name or its folder. Raises `Refusal`, which tells its own absence from a dependency's."""
    folder = Path(target)
    name = target
    if folder.is_dir():
        name = _package_in(folder.resolve())
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name == name:
            known = ", ".join(nearest(target, installed))
            raise Refusal(f"there is no connector, package or folder {target!r}; known: {known}") from None
        raise Refusal(f"{target} needs the module {error.name!r}: install what it depends on") from None
    except Exception as error:
        raise Refusal(f"{target} cannot be imported: {type(error).__name__}: {error}") from error


def _package_in(folder: Path) -> str:
    """Return the package that a folder is, or the one in it, and let it be imported. Raises `Refusal`."""
    if (folder / "__init__.py").is_file():
        sys.path.insert(0, str(folder.parent))
        return folder.name
    inside = [file.parent for file in sorted(folder.glob("*/__init__.py")) if file.parent.name != "tests"]
    if len(inside) != 1:
        if not inside:
            raise Refusal(f"{folder.name} holds no package: a folder with an __init__.py is meant")
        raise Refusal(f"{folder.name} holds {len(inside)} packages: name the one that is meant")
    sys.path.insert(0, str(folder))
    return inside[0].name


def _registered_by(module: ModuleType) -> list[ConnectorClass]:
    """Return the connectors that a module registers, and none of what else it hands over."""
    registered: list[ConnectorClass] = []
    register = getattr(module, "register_connectors", None)
    if register is not None:
        register(register=registered.append)
    return [each for each in registered if inspect.isclass(each) and issubclass(each, Connector)]


def stub_of(connector_class: ConnectorClass) -> type[TillStub]:
    """Load the stub that a connector names: its stand-in till for the conformance suite. Raises `Refusal`."""
    if not connector_class.info.stub:
        raise Refusal(
            f'{connector_class.info.name} names no stub: add `stub="package.stub:MyStub"` to its ConnectorInfo'
        )
    module, _, attribute = connector_class.info.stub.partition(":")
    try:
        stub = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Refusal(f"the stub {connector_class.info.stub!r} cannot be loaded: {error}") from None
    if not (inspect.isclass(stub) and issubclass(stub, TillStub)):
        raise Refusal(f"{connector_class.info.stub} is no TillStub")
    return stub

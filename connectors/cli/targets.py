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
from typing import Annotated

import typer

from connector_sdk.connector import Connector
from connector_sdk.testing import TillStub
from connectors.plugins import ConnectorClass, Plugins
from connectors.services import Refusal, nearest

Target = Annotated[str, typer.Argument(help="A connector's name, its package, or the folder it is in.")]


def connector_at(target: str) -> ConnectorClass:
    """Find the connector that a name, a package or a folder means. Raises `Refusal`."""
    # an installed name comes first: a folder of that name in the working directory must not change what it means
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
    name = _package_in(folder.resolve()) if folder.is_dir() else target
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise _missing(target, error.name, name, installed) from None
    except Exception as error:  # what is being written may raise anything while it is imported
        raise Refusal(f"{target} cannot be imported: {type(error).__name__}: {error}") from error


def _missing(target: str, missing: str | None, name: str, installed: Iterable[str]) -> Refusal:
    # what is mistyped, and what is there but lacks a dependency, raise the same error and need different advice
    if missing != name:
        return Refusal(f"{target} needs the module {missing!r}: install what it depends on")
    known = ", ".join(nearest(target, installed))
    return Refusal(f"there is no connector, package or folder {target!r}; known: {known}")


def _package_in(folder: Path) -> str:
    """Return the package that a folder is, or the one in it, and let it be imported. Raises `Refusal`."""
    if (folder / "__init__.py").is_file():
        # in front, so that the files of this folder count, and not an installed version of the same package
        sys.path.insert(0, str(folder.parent))
        return folder.name
    package = _only_package(folder)
    sys.path.insert(0, str(folder))
    return package


def _only_package(folder: Path) -> str:
    inside = [file.parent for file in sorted(folder.glob("*/__init__.py")) if file.parent.name != "tests"]
    if len(inside) != 1:
        if not inside:
            raise Refusal(f"{folder.name} holds no package: a folder with an __init__.py is meant")
        raise Refusal(f"{folder.name} holds {len(inside)} packages: name the one that is meant")
    return inside[0].name


def _registered_by(module: ModuleType) -> list[ConnectorClass]:
    """Return the connectors that a module registers, and none of what else it hands over."""
    # the function alone, without pluggy: the package that is being written need not be installed as a plugin
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
    stub = _object_at(connector_class.info.stub)
    if not (inspect.isclass(stub) and issubclass(stub, TillStub)):
        raise Refusal(f"{connector_class.info.stub} is no TillStub")
    return stub


def _object_at(location: str) -> object:
    """Import what a connector's `stub` names as `module:attribute`. Raises `Refusal`."""
    module, _, attribute = location.partition(":")
    try:
        loaded: object = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise Refusal(f"the stub {location!r} cannot be loaded: {error}") from None
    return loaded

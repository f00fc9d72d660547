"""Finding plugins by entry point, through pluggy; one that is not fit is set aside with its reason.

Owns discovery, and calling plugins' hooks so that one that raises harms nobody else.
"""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version
from typing import Any

import pluggy
from packaging.requirements import Requirement
from pydantic import BaseModel

from connector_sdk import hookspecs
from connector_sdk.connector import Connector, ConnectorInfo
from connector_sdk.hookspecs import PROJECT, ConnectionFacts
from connector_sdk.redaction import redact
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale
from connectors.domain.stamps import stamps_for

log = logging.getLogger(__name__)

_NAME = re.compile(r"[a-z][a-z0-9]{1,31}")


@dataclass(frozen=True, slots=True)
class Checked:
    """What a package says of its connector's conformance: required behaviours shown, of those asked for.

    `recordings` is how many readings of a real account it ships, which are read as they were then.
    """

    conforms: bool
    shown: int
    asked: int
    recordings: int = 0


CONFORMANCE = "conformance.json"
OURS = "sevenstamp-connectors"
"""The distribution that brings the SDK: a plugin says which versions it fits as it says of any other dependency."""


@lru_cache(maxsize=1024)  # packages do not change under a process that runs, and the catalogue asks at every view
def checked(found: type[Connector[Any]]) -> Checked | None:
    """The result that the connector's package ships, where it ships one of this suite's."""
    from connector_sdk.testing.suite import SUITE

    package = found.__module__.partition(".")[0]
    try:
        kept = json.loads((resources.files(package) / CONFORMANCE).read_text())[found.info.name]
        if kept["suite"] != SUITE:
            return None
        required = kept["required"]
        recorded = int(kept.get("recordings", 0))
        return Checked(bool(kept["conforms"]), int(required["shown"]), int(required["asked"]), recorded)
    except (OSError, ValueError, KeyError, TypeError, ModuleNotFoundError):
        return None


class Unmet(Exception):
    """What a plugin depends on is not here; the text says what to install."""


@dataclass(slots=True)
class Plugin:
    """What was found under one entry point; `set_aside` is the reason where it is not used."""

    name: str
    package: str
    connectors: list[str] = field(default_factory=list)
    set_aside: str | None = None


class Plugins:
    """The plugins of this installation."""

    def __init__(self, found: Iterable[EntryPoint] | None = None) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        self.classes: dict[str, type[Connector[Any]]] = {}
        self.shipped: set[str] = set()
        """The names of the connectors that came with this host, in its own distribution."""
        points = entry_points(group=PROJECT) if found is None else found
        for point in sorted(points, key=lambda one: one.name):
            self._load(point)

    def _load(self, point: EntryPoint) -> None:
        plugin = Plugin(point.name, point.value.partition(":")[0])
        self.plugins.append(plugin)
        made: list[type[Connector[Any]]] = []
        module: Any = None
        try:
            refuse_unmet(point)
            module = point.load()
            self.manager.register(module, name=point.name)
            self.manager.check_pending()
            register = getattr(module, "register_connectors", None)
            if register is not None:
                register(register=made.append)
            for one in made:
                self._validate(one)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            plugin.set_aside = redact(_reason(error))
            log.warning("plugin %s is set aside: %s", point.name, plugin.set_aside)
            if module is not None and self.manager.is_registered(module):
                self.manager.unregister(module)
            return
        for one in made:
            self.classes[one.info.name] = one
            plugin.connectors.append(one.info.name)
            if point.dist is not None and point.dist.name == OURS:
                self.shipped.add(one.info.name)

    def _validate(self, one: type[Connector[Any]]) -> None:
        if not (inspect.isclass(one) and issubclass(one, Connector)):
            raise TypeError(f"{one!r} is not a Connector: register the class, not an instance")
        if inspect.isabstract(one):
            missing = ", ".join(sorted(one.__abstractmethods__))
            raise TypeError(f"{one.__name__} lacks {missing}")
        info = getattr(one, "info", None)
        if not isinstance(info, ConnectorInfo):
            raise TypeError(f"{one.__name__} has no `info = ConnectorInfo(…)`")
        if not _NAME.fullmatch(info.name):
            raise ValueError(f"the connector name {info.name!r} is not 2 to 32 lower-case letters and digits")
        if info.name in self.classes:
            raise ValueError(f"there is a connector named {info.name!r} already")
        if one.can("receive") and not one.can("prove"):
            raise TypeError(f"{one.__name__} takes hooks (`receive`) and never proves them: add `prove`")
        settings = getattr(one, "settings_model", None)
        if not (inspect.isclass(settings) and issubclass(settings, BaseModel)):
            raise TypeError(f"{one.__name__} names no settings model: subclass Connector[MySettings]")

    @property
    def packages(self) -> list[str]:
        """The packages that may bring catalogues of messages."""
        return ["connectors", *(one.package.partition(".")[0] for one in self.plugins if one.set_aside is None)]

    def stamps_for_sale(self, connection: ConnectionFacts, sale: Sale, rule: StampRule) -> int | None:
        """The first plugin's answer; one that raises, or answers what is no count of stamps, answers nothing."""
        if not self.manager.hook.stamps_for_sale.get_hookimpls():
            return None
        given = stamps_for(sale, rule, connection.zone).stamps
        try:
            answer = self.manager.hook.stamps_for_sale(connection=connection, sale=sale, rule=rule, stamps=given)
        except Exception as error:
            log.exception("stamps_for_sale: a plugin raised %s; the rule decides", type(error).__name__)
            return None
        if answer is None:
            return None
        if type(answer) is not int or not 0 <= answer <= 10_000:
            log.error("stamps_for_sale: a plugin answered what is no count of stamps; the rule decides")
            return None
        return answer

    async def tell(self, hook: str, **arguments: Any) -> None:
        """Tell every plugin of something that was committed, each by itself."""
        for implementation in getattr(self.manager.hook, hook).get_hookimpls():
            wanted = {name: arguments[name] for name in implementation.argnames}
            try:
                result = implementation.function(**wanted)
                if inspect.isawaitable(result):
                    await result
            except Exception as error:
                log.exception("%s: the plugin %s raised %s", hook, implementation.plugin_name, type(error).__name__)


def refuse_unmet(point: EntryPoint) -> None:
    """Raises `Unmet` where what the plugin's distribution asks for is not here, or another version of it."""
    for text in (point.dist.requires or ()) if point.dist is not None else ():
        wanted = Requirement(text)
        if wanted.marker is not None and not wanted.marker.evaluate({"extra": ""}):
            continue
        try:
            here = _installed_version(wanted.name)
        except PackageNotFoundError:
            raise Unmet(f"it needs {wanted.name}, which is not installed: pip install '{wanted}'") from None
        if not wanted.specifier.contains(here, prereleases=True):
            what = f"it needs {wanted.name} {wanted.specifier}, and {here} is here"
            ours = wanted.name.replace("_", "-").lower() == OURS
            how = "install the plugin's version for this host" if ours else f"pip install '{wanted}'"
            raise Unmet(f"{what}: {how}")


_installed_version = lru_cache(maxsize=None)(version)  # reads a file each, and plugins depend on the same packages


def _reason(error: BaseException) -> str:
    """One sentence that says what to do."""
    if isinstance(error, Unmet):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"it needs the module {error.name!r}: install what it depends on"
    if isinstance(error, ImportError):
        return f"it cannot be imported ({error}): it may be made for another version"
    if isinstance(error, pluggy.PluginValidationError):
        return f"a hook of it is not as we call it: {str(error).splitlines()[-1].strip()}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

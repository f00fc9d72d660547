"""Finding plugins by entry point, through pluggy; one that is not fit is set aside with its reason.

Owns discovery, and calling plugins' hooks so that one that raises harms nobody else.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import resources
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

import pluggy
from packaging.requirements import Requirement
from pydantic import BaseModel

from connector_sdk import hookspecs
from connector_sdk.connector import Connector, ConnectorInfo, HookAddress
from connector_sdk.hookspecs import PROJECT, ConnectionFacts
from connector_sdk.redaction import redact
from connector_sdk.rule import StampRule
from connector_sdk.sale import Sale
from connectors.domain.stamps import stamps_for

log = logging.getLogger(__name__)

CONFORMANCE = "conformance.json"
OURS = "sevenstamp-connectors"
"""The distribution that brings the SDK: a plugin says which versions it fits as it says of any other dependency."""
_NAME = re.compile(r"[a-z][a-z0-9]{1,31}")
_STAMPS_AT_MOST = 10_000

ConnectorClass = type[Connector[BaseModel]]


@dataclass(frozen=True, slots=True)
class ConformanceResult:
    """What a package says of its connector's conformance: required behaviours shown, of those asked for."""

    conforms: bool
    shown: int
    asked: int
    recordings: int = 0
    """How many readings of a real account it ships, which are read as they were then."""


@lru_cache(maxsize=1024)  # packages do not change under a process that runs, and the catalogue asks at every view
def checked(connector_class: ConnectorClass) -> ConformanceResult | None:
    """Return the result that a connector's package ships; `None` where it ships none of this version of the suite."""
    from connector_sdk.testing.suite import SUITE

    package = connector_class.__module__.partition(".")[0]
    # whoever wrote the file is a stranger: whatever is not as it should be counts as no result
    try:
        results = json.loads((resources.files(package) / CONFORMANCE).read_text())
        result = results[connector_class.info.name]
        if result["suite"] != SUITE:
            return None
        required = result["required"]
        recordings = int(result.get("recordings", 0))
        return ConformanceResult(bool(result["conforms"]), int(required["shown"]), int(required["asked"]), recordings)
    except (OSError, ValueError, KeyError, TypeError, ModuleNotFoundError):
        return None


class MissingRequirement(Exception):
    """What a plugin depends on is not here; the text says what to install."""


@dataclass(slots=True)
class Plugin:
    """One entry point, and what it brought; `set_aside` is the reason where it is not used."""

    name: str
    package: str
    connectors: list[str] = field(default_factory=list)
    set_aside: str | None = None


class Plugins:
    """The plugins of this installation; `points` are the entry points to load, those of all packages by default."""

    def __init__(self, points: Iterable[EntryPoint] | None = None) -> None:
        self.manager = pluggy.PluginManager(PROJECT)
        self.manager.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        self.classes: dict[str, ConnectorClass] = {}
        """Connector classes by the connectors' names."""
        self.shipped: set[str] = set()
        """The names of the connectors that came with this host, in its own distribution."""
        chosen = entry_points(group=PROJECT) if points is None else points
        for point in sorted(chosen, key=lambda point: point.name):
            self._load(point)

    def _load(self, point: EntryPoint) -> None:
        """Load one plugin, or set it aside with its reason: nothing of it is used then, also not its hooks."""
        plugin = Plugin(point.name, point.value.partition(":")[0])
        self.plugins.append(plugin)
        try:
            refuse_unmet(point)
            classes = self._register(point)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a plugin's import may even call sys.exit
            plugin.set_aside = redact(_reason(error))
            log.warning("plugin %s is set aside: %s", point.name, plugin.set_aside)
            if self.manager.has_plugin(point.name):
                self.manager.unregister(name=point.name)
            return
        # only now, when nothing of it can fail any more: a plugin is used as a whole, or not at all
        for connector_class in classes:
            name = connector_class.info.name
            self.classes[name] = connector_class
            plugin.connectors.append(name)
            if point.dist is not None and point.dist.name == OURS:
                self.shipped.add(name)

    def _register(self, point: EntryPoint) -> list[ConnectorClass]:
        """Import a plugin, register its hooks, and return its connectors. Raises whatever is wrong with it."""
        # Its hooks are checked against ours at once (`check_pending`): a hook with a wrong name or argument would else
        # raise when it is called first, in the middle of a sale.
        module = point.load()
        self.manager.register(module, name=point.name)
        self.manager.check_pending()
        classes: list[ConnectorClass] = []
        register = getattr(module, "register_connectors", None)
        if register is not None:
            register(register=classes.append)
        for connector_class in classes:
            self._validate(connector_class)
        return classes

    def _validate(self, connector_class: ConnectorClass) -> None:
        """Raise `TypeError` or `ValueError`, whose text goes to the author, for a class that is no usable connector."""
        _validate_class(connector_class)
        info = getattr(connector_class, "info", None)
        if not isinstance(info, ConnectorInfo):
            raise TypeError(f"{connector_class.__name__} has no `info = ConnectorInfo(…)`")
        if not _NAME.fullmatch(info.name):
            raise ValueError(f"the connector name {info.name!r} is not 2 to 32 lower-case letters and digits")
        if info.name in self.classes:
            raise ValueError(f"there is a connector named {info.name!r} already")
        proof = "route" if info.hook_address is HookAddress.operator else "prove"
        if connector_class.can("receive") and not connector_class.can(proof):
            raise TypeError(f"{connector_class.__name__} takes hooks (`receive`) and never proves them: add `{proof}`")
        settings = getattr(connector_class, "settings_model", None)
        if not (inspect.isclass(settings) and issubclass(settings, BaseModel)):
            raise TypeError(f"{connector_class.__name__} names no settings model: subclass Connector[MySettings]")

    @property
    def packages(self) -> list[str]:
        """The packages that may bring catalogues of messages."""
        loaded = (plugin for plugin in self.plugins if plugin.set_aside is None)
        return ["connectors", *(plugin.package.partition(".")[0] for plugin in loaded)]

    # --- hooks ------------------------------------------------------------------------------------------------

    def has_hook(self, hook: str) -> bool:
        """Return whether any plugin implements a hook."""
        return bool(getattr(self.manager.hook, hook).get_hookimpls())

    def stamps_for_sale(self, connection: ConnectionFacts, sale: Sale, rule: StampRule) -> int | None:
        """Return the first plugin's answer; `None` where none answers, raises, or answers what is no count of stamps.

        Pure: it is called in a transaction that writes, and what it answers is kept with the sale.
        """
        if not self.has_hook("stamps_for_sale"):
            return None
        by_rule = stamps_for(sale, rule, connection.zone).stamps
        try:
            answer = self.manager.hook.stamps_for_sale(connection=connection, sale=sale, rule=rule, stamps=by_rule)
        except Exception as error:
            log.exception("stamps_for_sale: a plugin raised %s; the rule decides", type(error).__name__)
            return None
        if answer is None:
            return None
        if type(answer) is not int or not 0 <= answer <= _STAMPS_AT_MOST:  # `True` is no count, though it is an int
            log.error("stamps_for_sale: a plugin answered what is no count of stamps; the rule decides")
            return None
        return answer

    async def call(self, hook: str, **arguments: object) -> None:
        """Call every plugin's implementation of a hook, and await what it returns; what one raises is logged."""
        # Not pluggy's own call, which ends at the first that raises and knows no coroutines. So the arguments are
        # chosen here: an implementation takes those that it names.
        for implementation in self._implementations(hook):
            await _call(hook, implementation, arguments)

    async def call_within(
        self, hook: str, seconds: float, skipping: Collection[str], **arguments: object
    ) -> dict[str, bool]:
        """Call the implementations of a hook by plugins that are not skipped; map each one's name to whether it did.

        Each has so many seconds; what one raises is logged.
        """
        return {
            implementation.plugin_name: await _call(hook, implementation, arguments, seconds)
            for implementation in self._implementations(hook)
            if implementation.plugin_name not in skipping
        }

    def _implementations(self, hook: str) -> list[pluggy.HookImpl]:
        implementations: list[pluggy.HookImpl] = getattr(self.manager.hook, hook).get_hookimpls()
        return implementations


async def _call(
    hook: str, implementation: pluggy.HookImpl, arguments: Mapping[str, object], seconds: float | None = None
) -> bool:
    """Call one implementation of a hook and await what it returns; say whether it did, and log what it raised."""
    named = {name: arguments[name] for name in implementation.argnames}
    try:
        async with asyncio.timeout(seconds):
            result = implementation.function(**named)
            if inspect.isawaitable(result):
                await result
    except Exception as error:
        log.exception("%s: the plugin %s raised %s", hook, implementation.plugin_name, type(error).__name__)
        return False
    return True


def _validate_class(connector_class: object) -> None:
    """Raise `TypeError` for what is no class of a connector, or lacks a method that every connector has."""
    if not (inspect.isclass(connector_class) and issubclass(connector_class, Connector)):
        raise TypeError(f"{connector_class!r} is not a Connector: register the class, not an instance")
    if "credentials" not in inspect.signature(connector_class).parameters:
        raise TypeError(
            f"{connector_class.__name__}.__init__ takes no `credentials`: docs/from-0.1-to-1.md says what changes"
        )
    if hasattr(connector_class, "look_back"):
        raise TypeError(
            f"{connector_class.__name__} is written for SDK 0.1 (`look_back`): docs/from-0.1-to-1.md says what changes"
        )
    if inspect.isabstract(connector_class):
        missing = ", ".join(sorted(connector_class.__abstractmethods__))
        raise TypeError(f"{connector_class.__name__} lacks {missing}")


def refuse_unmet(point: EntryPoint) -> None:
    """Raise `MissingRequirement` where what the plugin needs is not here, or is another version of it."""
    for requirement in _requirements_of(point):
        try:
            installed = _installed_version(requirement.name)
        except PackageNotFoundError:
            raise MissingRequirement(
                f"it needs {requirement.name}, which is not installed: pip install '{requirement}'"
            ) from None
        if not requirement.specifier.contains(installed, prereleases=True):
            what = f"it needs {requirement.name} {requirement.specifier}, and {installed} is here"
            ours = requirement.name.replace("_", "-").lower() == OURS
            how = "install the plugin's version for this host" if ours else f"pip install '{requirement}'"
            raise MissingRequirement(f"{what}: {how}")


def _requirements_of(point: EntryPoint) -> Iterator[Requirement]:
    """Yield what the distribution of an entry point needs here: not what is for extras, or for other systems."""
    for text in (point.dist.requires or ()) if point.dist is not None else ():
        requirement = _parsed_requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield requirement


_parsed_requirement = lru_cache(maxsize=None)(Requirement)  # plugins of one distribution depend on the same
_installed_version = lru_cache(maxsize=None)(version)  # reads a file each, and plugins depend on the same packages


def _reason(error: BaseException) -> str:
    """Return one sentence that says why a plugin is not used and what to do."""
    if isinstance(error, MissingRequirement):
        return str(error)
    if isinstance(error, ModuleNotFoundError):
        return f"it needs the module {error.name!r}: install what it depends on"
    if isinstance(error, ImportError):
        return f"it cannot be imported ({error}): it may be made for another version"
    if isinstance(error, pluggy.PluginValidationError):
        return f"a hook of it is not as we call it: {str(error).splitlines()[-1].strip()}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__

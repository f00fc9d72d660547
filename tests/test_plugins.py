"""Plugins: found by entry point, set aside with a reason, called so that none harms another."""

from __future__ import annotations

import sys
import types
from importlib.metadata import EntryPoint, PathDistribution
from pathlib import Path
from typing import Any

import pytest

from connector_sdk import Connector, ConnectorInfo, Sale, TillAccount, hookimpl
from connector_sdk.hookspecs import ConnectionFacts
from connector_sdk.rule import StampRule
from connectors.plugins import Plugins
from poster_connector import PosterConnector
from serve_connector import ServeConnector
from square_connector import SquareConnector
from tests.model import ModelTill, NoSettings, sale
from webhook_connector import WebhookConnector

FACTS = ConnectionFacts("c", "model", "a", "t", "b", "Europe/Kyiv", "UAH")


class Incomplete(Connector[NoSettings]):
    info = ConnectorInfo(name="incomplete", title="x")


class Nameless(Connector[NoSettings]):
    async def check(self) -> TillAccount:
        raise NotImplementedError


class Trusting(ModelTill):
    info = ConnectorInfo(name="trusting", title="x")

    def receive(self, hook: Any) -> Any:
        return None


def installed(folder: Path, name: str, requires: str) -> EntryPoint:
    """The entry point of a distribution that asks for something."""
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\nRequires-Dist: {requires}\n")
    (facts / "entry_points.txt").write_text(f"[sevenstamp_connectors]\n{name} = {name}\n")
    (point,) = PathDistribution(facts).entry_points
    return point


def test_a_plugin_whose_dependencies_are_not_met_is_told_what_to_install(tmp_path: Path, plugin: Any) -> None:
    for name in ("lacks", "older", "newer_sdk", "fits"):
        plugin(name, register_connectors=registering())
    plugins = Plugins(
        [
            installed(tmp_path, "lacks", "no-such-thing>=2"),
            installed(tmp_path, "older", "pluggy<1"),
            installed(tmp_path, "newer_sdk", "sevenstamp-connectors>=99"),
            installed(tmp_path, "fits", 'sevenstamp-connectors>=0.1; python_version > "3"'),
        ]
    )
    reasons = {plugin.name: plugin.set_aside for plugin in plugins.plugins}
    assert reasons["lacks"] == "it needs no-such-thing, which is not installed: pip install 'no-such-thing>=2'"
    assert str(reasons["older"]).startswith("it needs pluggy <1, and ")
    assert "install the plugin's version for this host" in str(reasons["newer_sdk"])
    assert reasons["fits"] is None


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a module and the entry point for it."""

    def make(name: str, **contents: Any) -> EntryPoint:
        module = types.ModuleType(name)
        vars(module).update(contents)
        monkeypatch.setitem(sys.modules, name, module)
        return EntryPoint(name, name, "sevenstamp_connectors")

    return make


def registering(*classes: Any) -> Any:
    @hookimpl
    def register_connectors(register: Any) -> None:
        for connector_class in classes:
            register(connector_class)

    return register_connectors


def test_our_own_are_found_by_their_entry_points() -> None:
    assert Plugins().classes == {
        "poster": PosterConnector,
        "serve": ServeConnector,
        "square": SquareConnector,
        "webhook": WebhookConnector,
    }


def test_plugins_that_are_not_fit_are_set_aside_and_the_others_go_on(plugin: Any) -> None:
    @hookimpl
    def stamps_for_sale(sales: Any) -> int:
        return 1

    plugins = Plugins(
        [
            EntryPoint("a_missing", "no_such_module_anywhere", "sevenstamp_connectors"),
            plugin("b_raises", register_connectors=registering("not a class")),
            plugin("c_incomplete", register_connectors=registering(Incomplete)),
            plugin("d_nameless", register_connectors=registering(Nameless)),
            plugin("e_good", register_connectors=registering(ModelTill)),
            plugin("f_twice", register_connectors=registering(ModelTill)),
            plugin("g_signature", stamps_for_sale=stamps_for_sale),
            plugin("h_trusting", register_connectors=registering(Trusting)),
        ]
    )
    reasons = {plugin.name: plugin.set_aside or "" for plugin in plugins.plugins}
    assert "needs the module 'no_such_module_anywhere'" in reasons["a_missing"]
    assert "is not a Connector" in reasons["b_raises"]
    assert "lacks check" in reasons["c_incomplete"]
    assert "has no `info" in reasons["d_nameless"]
    assert reasons["e_good"] == ""
    assert "a connector named 'model' already" in reasons["f_twice"]
    assert "a hook of it is not as we call it" in reasons["g_signature"]
    assert "never proves them: add `prove`" in reasons["h_trusting"]
    assert plugins.classes == {"model": ModelTill}


def test_the_first_answer_of_stamps_for_sale_wins_and_nonsense_is_no_answer(plugin: Any) -> None:
    answers: list[Any] = []

    @hookimpl
    def stamps_for_sale(sale: Sale, rule: StampRule) -> Any:
        answer = answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    plugins = Plugins([plugin("p", stamps_for_sale=stamps_for_sale)])
    receipt = sale("r", closed=0)
    for answer, expected in ((4, 4), (None, None), (-1, None), (1.0, None), (True, None), (ValueError("x"), None)):
        answers[:] = [answer]
        assert plugins.stamps_for_sale(FACTS, receipt, StampRule()) == expected


async def test_everybody_is_told_though_one_raises(plugin: Any) -> None:
    receipt_ids: list[str] = []

    @hookimpl(tryfirst=True)
    async def bad(sale: Sale) -> None:
        raise RuntimeError("no")

    @hookimpl
    async def good(connection: ConnectionFacts, sale: Sale) -> None:
        receipt_ids.append(sale.receipt_id)

    plugins = Plugins([plugin("x_bad", sale_ingested=bad), plugin("y_good", sale_ingested=good)])
    await plugins.call("sale_ingested", connection=FACTS, sale=sale("r", closed=0))
    assert receipt_ids == ["r"]


async def test_a_plugin_decides_the_stamps_and_hears_what_happened(installation: Any, plugin: Any) -> None:
    from tests.installation import ANNA

    settled: list[str] = []

    @hookimpl
    def stamps_for_sale(sale: Sale) -> int:
        return 7

    @hookimpl
    async def operation_settled(operation: Any) -> None:
        settled.append(f"{operation.receipt_id} {operation.state} {operation.count}")

    module = types.SimpleNamespace(stamps_for_sale=stamps_for_sale, operation_settled=operation_settled)
    installation.host.plugins.manager.register(module)
    await installation.connect()
    installation.cafe.sell(installation.cafe.client(ANNA))
    await installation.sync()
    assert installation.stamps(ANNA) == 7
    await installation.host.plugin_calls.wait()
    assert settled == ["330660 applied 7"]

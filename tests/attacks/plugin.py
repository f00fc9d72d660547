"""A plugin that is as bad as its sender wants: it computes for ever, hangs, or takes all memory there is.

`install` puts it where an interpreter that gets the folder on its PYTHONPATH finds it as an installed package.
"""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from pydantic import BaseModel

from connector_sdk import (
    Connector,
    ConnectorInfo,
    HookAddress,
    HookRequest,
    Ignored,
    Received,
    TillAccount,
    hookimpl,
)
from connector_sdk.errors import Forged
from connector_sdk.signatures import equal

PLUGIN_SECRET = "a long secret of the plugin's till"
MODULE = "attacked_plugin"
KINDS = ("quadratic", "hanging", "growing")


class BadSettings(BaseModel):
    till_id: str


class BadTill(Connector[BadSettings]):
    """What its requests say, it does."""

    info = ConnectorInfo(name="bad", title="A bad till", hook_address=HookAddress.connection)

    async def check(self) -> TillAccount:
        return TillAccount(id=self.settings.till_id, name="Bad", currency="EUR", zone="Europe/Madrid", country="ES")

    def prove(self, hook: HookRequest) -> None:
        if not equal(PLUGIN_SECRET, hook.headers.get("x-secret", "")):
            raise Forged("the secret does not match")

    def receive(self, hook: HookRequest) -> Received:
        kind, _, text = hook.body.partition(b":")
        match kind:
            case b"quadratic":
                re.search(rb"\s+$", text)
            case b"hanging":
                time.sleep(3600)
            case b"growing":
                everything = [text]
                while True:
                    everything.append(bytes(64 * 1024 * 1024))
        return Ignored("a request of a bad till")


@hookimpl
def register_connectors(register: object) -> None:
    register(BadTill)  # type: ignore[operator]


def install(folder: Path) -> None:
    """Make an installed package of this module."""
    folder.mkdir()
    shutil.copy(__file__, folder / f"{MODULE}.py")
    facts = folder / f"{MODULE}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {MODULE}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[sevenstamp_connectors]\nbad = {MODULE}\n")

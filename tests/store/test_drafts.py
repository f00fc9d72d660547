"""What a draft holds is stored under the keys of the version before, and under those of a later one."""

from __future__ import annotations

import json

import pytest

from connectors.store import connections
from connectors.store.connections.drafts import DraftContent, Sample
from tests.installation import Installation

OF_THE_VERSION_BEFORE = {
    "hook_token": "t",
    "values": {"access_token": "861052:ab", "card_numbers": None, "note": "\ud800"},
    "account": {"id": "861052", "name": "api-demo", "currency": "UAH", "zone": "Europe/Kyiv", "country": None,
                "locations": [{"id": "1", "name": "Hall"}], "hook_name": None},
    "expires_at": None,
    "key": "7loc_sc_x",
    "me": {"business": {"id": "b", "name": "Cafe", "country": "UA"}, "operations": {"used": 3, "allowed": None},
           "location_id": None, "staff_login": "till"},
    "scope": [],
    "rule": {"kind": ["per_order"]},
    "sample": {"body": "\u00ff{}", "headers": {"x-key": "k"}, "id": "r"},
    "skipped": ["units"],
}  # fmt: skip


def test_a_draft_of_the_version_before_is_opened_and_loses_nothing() -> None:
    content = DraftContent.model_validate(OF_THE_VERSION_BEFORE)
    assert (content.scope, content.mends, content.skipped) == ((), None, ("units",))
    assert content.sample is not None
    assert content.sample.content == b"\xff{}"
    stored = json.loads(content.as_json())
    before = {name: value for name, value in OF_THE_VERSION_BEFORE.items() if value is not None}
    # this version writes what it knows of a location
    before["account"] = {**OF_THE_VERSION_BEFORE["account"], "locations": [{"id": "1", "name": "Hall", "zone": None}]}
    assert stored == before


def test_what_a_later_version_put_into_a_draft_is_kept_when_it_is_saved() -> None:
    content = DraftContent.model_validate({"scope": ["1"], "later": {"a": None}})
    saved = json.loads(content.model_copy(update={"scope": None}).as_json())
    assert saved["later"] == {"a": None}
    assert "scope" not in saved


def test_nothing_secret_of_a_draft_is_in_its_text() -> None:
    shown = repr(DraftContent.model_validate(OF_THE_VERSION_BEFORE))
    for secret in ("861052:ab", "7loc_sc_x", "hook_token", "x-key"):
        assert secret not in shown


@pytest.mark.parametrize("content", [DraftContent(), DraftContent(sample=Sample.from_request(b"\x00\xff", {}))])
async def test_what_is_saved_is_what_is_read(installation: Installation, content: DraftContent) -> None:
    drafts = installation.host.services.drafts
    draft = await drafts.find("b", await drafts.begin("b", "webhook"))
    assert draft is not None
    assert draft.content.hook_token is not None
    await drafts.save(draft, content)
    saved = await drafts.find("b", draft.id)
    assert saved is not None
    assert saved.content == content
    assert await installation.host.store.read(lambda tx: connections.drafts.get(tx, draft.id, "another")) is None

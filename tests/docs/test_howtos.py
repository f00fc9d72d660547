"""The example of the how-tos works: the pages' own blocks, put together, are a connector that conforms."""

from __future__ import annotations

import httpx
import pytest
from pydantic import SecretStr

from connector_sdk import Grant
from connector_sdk.testing import BEHAVIOURS, Behaviour, Outcome
from connector_sdk.testing.suite import judge, unknown_excuses
from tests.docs.samovar import SAMOVAR, SamovarStub

NOT_CLAIMED = {"unknown_customer"}


@pytest.mark.parametrize("behaviour", BEHAVIOURS, ids=lambda behaviour: behaviour.name)
async def test_the_connector_of_the_pages_shows(behaviour: Behaviour) -> None:
    result = await judge(SamovarStub(), behaviour)
    excused = behaviour.name in {*SamovarStub.till_has_no, *NOT_CLAIMED}
    assert (result.outcome, result.why) == (Outcome.not_asked if excused else Outcome.passed, result.why)


def test_what_its_stub_excuses_is_asked_elsewhere() -> None:
    assert unknown_excuses(SamovarStub) == []


async def test_it_ends_access_with_the_refresh_token() -> None:
    posts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        posts.append(f"{request.url.path} {request.content.decode()}")
        return httpx.Response(200, json={})

    grant = Grant({"refresh_token": SecretStr("refresh-7")})
    await SAMOVAR.revoke(SamovarStub().app(), grant, httpx.MockTransport(answer))
    assert posts == ["/oauth/revoke client_id=app&client_secret=secret-of-the-client&token=refresh-7"]

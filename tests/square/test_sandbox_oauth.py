"""The stand-in Square asks a seller for consent and trades codes and tokens as the wire document says."""

from __future__ import annotations

import base64
import hashlib
import re
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from square_connector.sandbox import APPLICATION_ID, SECRET, SquareSandbox
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_values import JsonObject, SquareError, write_time
from tests.square.stand_in import NOON, StandIn

BACK = "https://connectors.example/oauth/square"
VERIFIER = "a-verifier-of-this-test-that-is-long-enough-to-be-one"
CHALLENGE = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).decode().rstrip("=")
ASKED = {"client_id": APPLICATION_ID, "scope": "ORDERS_READ PAYMENTS_READ", "session": "false", "state": "s-1"}
WITH_SECRET = {"client_id": APPLICATION_ID, "client_secret": SECRET}


@pytest.fixture
def till() -> StandIn:
    """A Square where the application's redirect URL is registered."""
    return StandIn(redirect_uri=BACK)


async def consent(till: StandIn, answer: str = "allow", **asked: str) -> dict[str, str]:
    """Answer the consent page as its form does; return the query that the browser comes back with."""
    async with till.client() as client:
        response = await client.get("/oauth2/authorize/answer", params={**ASKED, **asked, "answer": answer})
    assert response.status_code == 302, response.text
    address = urlsplit(response.headers["location"])
    assert f"{address.scheme}://{address.netloc}{address.path}" == BACK
    return {name: values[0] for name, values in parse_qs(address.query).items()}


async def code_of(till: StandIn, **asked: str) -> str:
    """Return a code that a seller allowed."""
    return (await consent(till, **asked))["code"]


async def trade(till: StandIn, **form: object) -> JsonObject:
    """Trade a code or a refresh token; the call must go well."""
    return await till.post("/oauth2/token", {"client_id": APPLICATION_ID, **form})


async def traded(till: StandIn, **asked: str) -> JsonObject:
    """Return the tokens of a new consent in the code flow."""
    code = await code_of(till, **asked)
    return await trade(till, grant_type="authorization_code", code=code, client_secret=SECRET)


async def refused(till: StandIn, **form: object) -> tuple[int, str]:
    """Return how a trade is refused."""
    return await till.refusal("POST", "/oauth2/token", {"client_id": APPLICATION_ID, **form})


# --- consent --------------------------------------------------------------------------------------------------------


async def test_the_page_shows_the_scopes_and_two_buttons_and_a_choice_of_sellers() -> None:
    sandbox = SquareSandbox(Seller("MLONE", "Corner & Sons"), Seller("MLTWO", "Harbour"))
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=sandbox.application()), base_url="http://square.test"
    ) as client:
        page = await client.get("/oauth2/authorize", params={**ASKED, "redirect_uri": BACK})
        assert re.findall(r"<li>(\w+)</li>", page.text) == ["ORDERS_READ", "PAYMENTS_READ"]
        assert re.findall(r"<button[^>]*>(\w+)</button>", page.text) == ["Allow", "Deny"]
        assert re.findall(r"<option[^>]*>([^<]+)</option>", page.text) == ["Corner &amp; Sons", "Harbour"]
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
        query = {**fields, "answer": "allow", "seller": "MLTWO"}
        allowed = await client.get("/oauth2/authorize/answer", params=query)
        (code,) = parse_qs(urlsplit(allowed.headers["location"]).query)["code"]
        form = {**WITH_SECRET, "grant_type": "authorization_code", "code": code, "redirect_uri": BACK}
        tokens = (await client.post("/oauth2/token", json=form)).json()
    assert tokens["merchant_id"] == "MLTWO"


async def test_allowing_returns_a_code_with_the_state_and_denying_an_error_with_it(till: StandIn) -> None:
    allowed = await consent(till)
    assert (allowed["response_type"], allowed["state"], bool(allowed["code"])) == ("code", "s-1", True)
    denied = await consent(till, "deny")
    assert (denied["error"], denied["state"], "code" in denied) == ("access_denied", "s-1", False)


@pytest.mark.parametrize(
    "changed",
    [
        {"client_id": "another"},
        {"redirect_uri": f"{BACK}/"},
        {"redirect_uri": "https://elsewhere.example/oauth/square"},
    ],
)
async def test_another_application_or_address_gets_no_page_and_no_code(till: StandIn, changed: JsonObject) -> None:
    async with till.client() as client:
        for path in ("/oauth2/authorize", "/oauth2/authorize/answer"):
            response = await client.get(path, params={**ASKED, "answer": "allow", **changed})
            assert (response.status_code, "location" in response.headers) == (400, False)


async def test_the_answer_is_added_to_an_address_that_has_a_query() -> None:
    till = StandIn(redirect_uri=f"{BACK}?till=square")
    returned = await consent(till)
    assert (returned["till"], bool(returned["code"])) == ("square", True)


async def test_a_seller_that_there_is_not_allows_nothing(till: StandIn) -> None:
    async with till.client() as client:
        query = {**ASKED, "answer": "allow", "seller": "MLNONE"}
        assert (await client.get("/oauth2/authorize/answer", params=query)).status_code == 400


async def test_without_a_state_none_is_returned() -> None:
    till = StandIn()
    async with till.client() as client:
        query = {"client_id": APPLICATION_ID, "scope": "ORDERS_READ", "redirect_uri": BACK, "answer": "allow"}
        response = await client.get("/oauth2/authorize/answer", params=query)
    assert set(parse_qs(urlsplit(response.headers["location"]).query)) == {"code", "response_type"}


async def test_without_any_address_there_is_nowhere_to_go_back_to() -> None:
    async with StandIn().client() as client:
        assert (await client.get("/oauth2/authorize", params=ASKED)).status_code == 400


# --- the code flow --------------------------------------------------------------------------------------------------


async def test_a_code_is_traded_for_tokens_that_read_what_was_allowed(till: StandIn) -> None:
    tokens = await traded(till)
    access, refresh = tokens.pop("access_token"), tokens.pop("refresh_token")
    assert tokens == {
        "token_type": "bearer",
        "expires_at": "2026-12-20T12:00:00Z",
        "merchant_id": till.seller.merchant_id,
        "short_lived": False,
    }
    assert access != refresh
    async with till.client(access) as client:
        assert (await client.get("/v2/refunds")).status_code == 200
        assert (await client.get("/v2/locations")).status_code == 403
        status = (await client.post("/oauth2/token/status")).json()
    assert status == {
        "scopes": ["ORDERS_READ", "PAYMENTS_READ"],
        "expires_at": "2026-12-20T12:00:00Z",
        "client_id": APPLICATION_ID,
        "merchant_id": till.seller.merchant_id,
    }


async def test_a_code_is_good_once(till: StandIn) -> None:
    form = {"grant_type": "authorization_code", "code": await code_of(till), "client_secret": SECRET}
    assert await trade(till, **form)
    assert await refused(till, **form) == (401, "UNAUTHORIZED")


@pytest.mark.parametrize(("seconds", "status"), [(300, 200), (301, 401)])
async def test_a_code_lives_five_minutes(till: StandIn, seconds: int, status: int) -> None:
    form = {"grant_type": "authorization_code", "code": await code_of(till), **WITH_SECRET}
    till.clock.move(seconds=seconds)
    async with till.client() as client:
        assert (await client.post("/oauth2/token", json=form)).status_code == status


async def test_an_address_that_was_named_must_be_named_again(till: StandIn) -> None:
    form = {"grant_type": "authorization_code", "client_secret": SECRET}
    for address in ({}, {"redirect_uri": "https://elsewhere.example"}):
        code = await code_of(till, redirect_uri=BACK)
        assert await refused(till, **form, code=code, **address) == (401, "UNAUTHORIZED")
    assert await trade(till, **form, code=await code_of(till, redirect_uri=BACK), redirect_uri=BACK)


@pytest.mark.parametrize(
    ("form", "refusal"),
    [
        ({"client_id": "another"}, (401, "UNAUTHORIZED")),
        ({"client_secret": "guessed"}, (401, "UNAUTHORIZED")),
        ({"client_secret": None}, (401, "UNAUTHORIZED")),
        ({"grant_type": "password"}, (400, "BAD_REQUEST")),
        ({"code": ""}, (400, "MISSING_REQUIRED_PARAMETER")),
        ({"code": "another"}, (401, "UNAUTHORIZED")),
    ],
)
async def test_a_wrong_trade_is_refused(till: StandIn, form: JsonObject, refusal: tuple[int, str]) -> None:
    good = {"grant_type": "authorization_code", "client_secret": SECRET, "code": await code_of(till)}
    assert await refused(till, **{**good, **form}) == refusal


async def test_a_form_that_is_no_json_is_refused(till: StandIn) -> None:
    async with till.client() as client:
        response = await client.post("/oauth2/token", data={"grant_type": "authorization_code"})
    assert response.status_code == 400


async def test_the_code_flow_renews_with_the_same_refresh_token_for_ever(till: StandIn) -> None:
    first = await traded(till)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_secret": SECRET}
    till.clock.move(days=400)
    renewed = [await trade(till, **form) for _ in range(2)]
    assert {tokens["refresh_token"] for tokens in renewed} == {first["refresh_token"]}
    assert len({tokens["access_token"] for tokens in (first, *renewed)}) == 3
    assert renewed[1]["expires_at"] == write_time(till.clock.move(days=30), 0)
    assert "refresh_token_expires_at" not in renewed[0]
    assert await refused(till, **{**form, "client_secret": "guessed"}) == (401, "UNAUTHORIZED")


async def test_a_short_lived_token_ends_after_a_day(till: StandIn) -> None:
    first = await traded(till)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_secret": SECRET}
    tokens = await trade(till, **form, short_lived=True)
    assert (tokens["short_lived"], tokens["expires_at"]) == (True, "2026-11-21T12:00:00Z")


# --- PKCE -----------------------------------------------------------------------------------------------------------


async def test_pkce_trades_with_the_verifier_and_without_the_secret(till: StandIn) -> None:
    form = {"grant_type": "authorization_code", "code": await code_of(till, code_challenge=CHALLENGE)}
    tokens = await trade(till, **form, code_verifier=VERIFIER)
    assert tokens["refresh_token_expires_at"] == "2027-02-18T12:00:00Z"


@pytest.mark.parametrize(
    ("proof", "refusal"),
    [
        ({"code_verifier": "another"}, (401, "UNAUTHORIZED")),
        ({"code_verifier": CHALLENGE}, (401, "UNAUTHORIZED")),
        ({"client_secret": SECRET}, (400, "MISSING_REQUIRED_PARAMETER")),
        ({"client_secret": "guessed", "code_verifier": VERIFIER}, (401, "UNAUTHORIZED")),
    ],
)
async def test_pkce_needs_the_right_verifier(till: StandIn, proof: JsonObject, refusal: tuple[int, str]) -> None:
    form = {"grant_type": "authorization_code", "code": await code_of(till, code_challenge=CHALLENGE)}
    assert await refused(till, **form, **proof) == refusal


async def test_pkce_renews_with_a_new_refresh_token_each_of_which_is_good_once_and_for_ninety_days(
    till: StandIn,
) -> None:
    code = await code_of(till, code_challenge=CHALLENGE)
    first = await trade(till, grant_type="authorization_code", code=code, code_verifier=VERIFIER)
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = await trade(till, **form)
    assert second["refresh_token"] != first["refresh_token"]
    assert await refused(till, **form) == (401, "UNAUTHORIZED")
    till.clock.move(days=90, seconds=1)
    assert await refused(till, **{**form, "refresh_token": second["refresh_token"]}) == (401, "UNAUTHORIZED")


# --- revocation -----------------------------------------------------------------------------------------------------


async def revoke(till: StandIn, secret: str = SECRET, **form: object) -> httpx.Response:
    """Revoke as the application does."""
    async with till.client() as client:
        headers = {"authorization": f"Client {secret}"}
        return await client.post("/oauth2/revoke", json={"client_id": APPLICATION_ID, **form}, headers=headers)


async def test_revoking_one_token_ends_all_of_the_seller(till: StandIn) -> None:
    first, second = await traded(till), await traded(till)
    assert (await revoke(till, access_token=first["access_token"])).json() == {"success": True}
    for tokens in (first, second):
        assert await till.refusal("GET", "/v2/refunds", token=tokens["access_token"]) == (401, "ACCESS_TOKEN_REVOKED")
        form = {"grant_type": "refresh_token", "refresh_token": tokens["refresh_token"], "client_secret": SECRET}
        assert await refused(till, **form) == (401, "UNAUTHORIZED")


async def test_revoking_an_access_token_only_leaves_the_others(till: StandIn) -> None:
    first, second = await traded(till), await traded(till)
    await revoke(till, access_token=first["access_token"], revoke_only_access_token=True)
    assert await till.refusal("GET", "/v2/refunds", token=first["access_token"]) == (401, "ACCESS_TOKEN_REVOKED")
    async with till.client(second["access_token"]) as client:
        assert (await client.get("/v2/refunds")).status_code == 200
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"], "client_secret": SECRET}
    assert await trade(till, **form)


async def test_revoking_a_merchant_leaves_another_seller_alone() -> None:
    sandbox = SquareSandbox(Seller("MLONE", "Corner"), Seller("MLTWO", "Harbour"))
    application = sandbox.square_application
    other = application.grant("MLTWO")["access_token"]
    application.revoke(f"Client {SECRET}", {"client_id": APPLICATION_ID, "merchant_id": "MLONE"})
    assert application.authenticate(f"Bearer {other}").grant.seller.merchant_id == "MLTWO"
    application.revoke(f"Client {SECRET}", {"client_id": APPLICATION_ID, "merchant_id": "MLTWO"})
    with pytest.raises(SquareError, match="revoked"):
        application.authenticate(f"Bearer {other}")


async def test_only_the_application_with_its_secret_revokes(till: StandIn) -> None:
    tokens = await traded(till)
    for response in (
        await revoke(till, "guessed", access_token=tokens["access_token"]),
        await revoke(till, access_token="another"),
        await revoke(till, access_token=tokens["access_token"], client_id="another"),
    ):
        assert response.status_code == 401
    assert (await revoke(till)).status_code == 400
    async with till.client(tokens["access_token"]) as client:
        assert (await client.get("/v2/refunds")).status_code == 200


async def test_a_seller_may_consent_again_after_a_revocation(till: StandIn) -> None:
    till.sandbox.square_application.revoke_seller(till.seller.merchant_id)
    tokens = await traded(till)
    async with till.client(tokens["access_token"]) as client:
        assert (await client.get("/v2/refunds")).status_code == 200
    assert till.clock() == NOON

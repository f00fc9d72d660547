"""Passkeys over HTTP, with an authenticator of our own: what is taken, and everything that is not."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cbor2
import httpx
import pytest
import sqlalchemy
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256

from connectors.cli.support import operator_at
from connectors.domain.clock import DAY, MINUTE, SECOND
from connectors.sevenstamp.sandbox import Faults
from connectors.store import access
from connectors.web.console import key_rechecks
from connectors.web.console.relying_party import Site, site_of
from tests.installation import KEY, Installation, build
from tests.served_installation import PASSWORD
from tests.web.browser import Browser, Browsers, open_browsers
from tests.web.clock import MovableClock

ORIGIN, RP_ID = "https://console.example", "console.example"
ANNA, BORYS = f"{KEY}--anna", f"{KEY}--borys"


def text_of(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def bytes_of(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One security key with one passkey: ES256, no attestation, and a count of its uses."""

    credential_id: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    count: int = 0
    handle: str = ""

    def _client_data(self, kind: str, options: dict[str, Any], **claims: Any) -> bytes:
        values = {"type": kind, "challenge": options["challenge"], "origin": ORIGIN, "crossOrigin": False}
        return json.dumps(values | claims).encode()

    def _data(self, flags: int, rp_id: str) -> bytes:
        return hashlib.sha256(rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")

    def create(
        self, options: dict[str, Any], *, rp_id: str = RP_ID, verified: bool = True, **claims: Any
    ) -> dict[str, Any]:
        self.handle = options["user"]["id"]
        numbers = self.key.public_key().public_numbers()
        public = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
        length = len(self.credential_id).to_bytes(2, "big")
        attested = secrets.token_bytes(16) + length + self.credential_id + cbor2.dumps(public)
        data = self._data(0x45 if verified else 0x41, rp_id) + attested
        statement = cbor2.dumps({"fmt": "none", "attStmt": {}, "authData": data})
        response = {
            "clientDataJSON": text_of(self._client_data("webauthn.create", options, **claims)),
            "attestationObject": text_of(statement),
            "transports": ["usb", "internal", "of the future"],
        }
        return self._credential(response)

    def get(
        self, options: dict[str, Any], *, rp_id: str = RP_ID, verified: bool = True, handle: str = "", **claims: Any
    ) -> dict[str, Any]:
        self.count += 1
        client_data = self._client_data("webauthn.get", options, **claims)
        data = self._data(0x05 if verified else 0x01, rp_id)
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(SHA256()))
        response = {
            "clientDataJSON": text_of(client_data),
            "authenticatorData": text_of(data),
            "signature": text_of(signature),
            "userHandle": handle or self.handle,
        }
        return self._credential(response)

    def _credential(self, response: dict[str, Any]) -> dict[str, Any]:
        name = text_of(self.credential_id)
        return {"id": name, "rawId": name, "type": "public-key", "response": response}


@pytest.fixture
async def installation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    monkeypatch.setattr(key_rechecks, "ANSWER_LIFETIME", 0.0)
    async with build(tmp_path, monkeypatch, public_url=ORIGIN) as installation:
        installation.host.store.clock = MovableClock()
        yield installation


@pytest.fixture
async def browsers(installation: Installation) -> AsyncIterator[Browsers]:
    async with open_browsers(installation) as browsers:
        yield browsers


def new_browser(browsers: Browsers, address: str = "198.51.100.7") -> Browser:
    return browsers.new(address=address, base=ORIGIN)


async def creation_options(browser: Browser) -> dict[str, Any]:
    answer = await browser.post("/passkeys/challenge")
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


async def request_options(browser: Browser) -> dict[str, Any]:
    return dict((await browser.post("/sign-in/passkey/challenge")).json())


async def add(browser: Browser, authenticator: Authenticator, label: str = "") -> httpx.Response:
    made = authenticator.create(await creation_options(browser))
    return await browser.post("/passkeys/add", label=label, credential=json.dumps(made))


async def added(browser: Browser, label: str = "") -> Authenticator:
    authenticator = Authenticator()
    answer = await add(browser, authenticator, label)
    assert answer.status_code == 303, answer.text
    return authenticator


async def sign_in(browser: Browser, authenticator: Authenticator, **values: str) -> httpx.Response:
    signed = authenticator.get(await request_options(browser))
    return await browser.post("/sign-in/passkey", credential=json.dumps(signed), **{"next": "/", **values})


async def rows(installation: Installation, table: str) -> list[Any]:
    return list(await installation.host.store.read(lambda tx: tx.run(sqlalchemy.text(f"SELECT * FROM {table}")).all()))


async def command_line_link(installation: Installation, connection: str | None = None) -> str:
    """Return the link that `connectors console link` prints, as a path."""
    return "/link/" + await installation.host.store.write(
        lambda tx: access.sessions.make_link(tx, operator_at(tx, connection))
    )


def advance(installation: Installation, by: int) -> None:
    assert isinstance(installation.host.store.clock, MovableClock)
    installation.host.store.clock.ahead += by


async def remove(browser: Browser, name: str) -> httpx.Response:
    """Remove the passkey of that name, as the page of devices leads to it."""
    page = (await browser.get("/devices")).text
    match = re.search(rf'<b>{name}</b>.*?href="(/passkeys/\w+/remove)"', page, re.DOTALL)
    assert match, page
    return await browser.post(match[1])


# --- what works -----------------------------------------------------------------------------------------------------


async def test_the_operator_adds_a_passkey_and_signs_in_with_it(installation: Installation, browsers: Browsers) -> None:
    operator = await new_browser(browsers).as_operator()
    authenticator = await added(operator, "My phone")
    assert "My phone" in (await operator.get("/devices")).text
    assert 'href="/devices#passkeys"' in (await operator.get("/operator")).text
    fresh = new_browser(browsers)
    answer = await sign_in(fresh, authenticator)
    assert answer.headers["location"] == "/operator"
    assert (await fresh.get("/operator")).status_code == 200
    assert (await sign_in(new_browser(browsers), authenticator, next="/devices")).headers["location"] == "/devices"
    assert "Not used yet" not in (await fresh.get("/devices")).text


async def test_a_cafes_passkey_signs_in_as_whoever_added_it_and_remembers_the_device(
    installation: Installation, browsers: Browsers
) -> None:
    authenticator = await added(await new_browser(browsers).sign_in(ANNA))
    fresh = new_browser(browsers)
    answer = await sign_in(fresh, authenticator, remember="1", next="/operator")
    assert answer.headers["location"] == "/"
    page = (await fresh.get("/devices")).text
    assert "Signed in as anna." in page
    assert "Remembered until" in page
    assert (await fresh.get("/operator")).status_code == 404
    stored = repr(await rows(installation, "passkey"))
    assert KEY not in stored


async def test_a_browser_is_asked_for_a_verified_person_and_an_account_of_its_own(
    installation: Installation, browsers: Browsers
) -> None:
    anna, borys = await new_browser(browsers).sign_in(ANNA), await new_browser(browsers).sign_in(BORYS)
    first = await creation_options(anna)
    assert first["rp"]["id"] == RP_ID
    assert first["attestation"] == "none"
    assert first["authenticatorSelection"]["userVerification"] == "required"
    assert first["authenticatorSelection"]["residentKey"] == "required"
    authenticator = await added(anna)
    second = await creation_options(anna)
    assert [credential["id"] for credential in second["excludeCredentials"]] == [text_of(authenticator.credential_id)]
    assert second["user"]["id"] == first["user"]["id"]
    other = await creation_options(borys)
    assert other["user"]["id"] != first["user"]["id"]
    assert other["excludeCredentials"] == []
    asked = await request_options(new_browser(browsers))
    assert asked["userVerification"] == "required"
    assert asked["rpId"] == RP_ID
    assert asked["allowCredentials"] == []  # a stranger learns of nobody's passkeys


@pytest.mark.parametrize(
    ("address", "site"),
    [
        ("https://console.example", Site("console.example", "https://console.example")),
        ("https://console.example:443/x", Site("console.example", "https://console.example")),
        ("https://console.example:8443", Site("console.example", "https://console.example:8443")),
        ("https://kafé.example", Site("xn--kaf-dma.example", "https://xn--kaf-dma.example")),
        ("http://127.0.0.1:8700", Site("localhost", "http://localhost:8700")),
        ("http://[::1]:8700", Site("localhost", "http://localhost:8700")),
        ("http://localhost:8700", Site("localhost", "http://localhost:8700")),
        ("http://console.example", None),
        ("https://192.0.2.1", None),
        ("https://", None),
        ("https://console.example:port", None),
    ],
)
def test_passkeys_are_for_the_address_the_operator_set(address: str, site: Site | None) -> None:
    assert site_of(address) == site


async def test_no_header_changes_whom_passkeys_are_for(installation: Installation, browsers: Browsers) -> None:
    stranger = new_browser(browsers)
    stranger.client.headers.update(
        {"x-forwarded-host": "evil.example", "x-forwarded-proto": "http", "forwarded": "host=e"}
    )
    assert (await request_options(stranger))["rpId"] == RP_ID
    assert f'data-origin="{ORIGIN}"' in (await stranger.get("/sign-in")).text


async def test_without_https_or_a_name_nothing_is_offered(installation: Installation, browsers: Browsers) -> None:
    operator = await new_browser(browsers).as_operator()
    installation.host.public_url = "https://192.0.2.1"
    assert "CONNECTORS_PUBLIC_URL says it" in (await operator.get("/devices")).text
    assert "CONNECTORS_PUBLIC_URL says it" in (await operator.get("/passkeys/add")).text
    assert "data-passkey=" not in (await operator.get("/sign-in/operator")).text
    assert (await operator.post("/passkeys/challenge")).status_code == 422
    assert (await operator.post("/sign-in/passkey/challenge")).status_code == 422


# --- what is not taken ----------------------------------------------------------------------------------------------

Answer = Callable[[Authenticator, dict[str, Any]], Any]


def _with(answer: dict[str, Any], **response: str) -> dict[str, Any]:
    return {**answer, "response": {**answer["response"], **response}}


def _tampered(authenticator: Authenticator, options: dict[str, Any]) -> dict[str, Any]:
    other = Authenticator(credential_id=authenticator.credential_id, handle=authenticator.handle)
    return other.get(options)


WRONG: dict[str, Answer] = {
    "another origin": lambda a, o: a.get(o, origin="https://console.example.evil.example"),
    "plain http": lambda a, o: a.get(o, origin="http://console.example"),
    "another relying party": lambda a, o: a.get(o, rp_id="evil.example"),
    "a page in a frame": lambda a, o: a.get(o, crossOrigin=True),
    "a person who was not verified": lambda a, o: a.get(o, verified=False),
    "another account": lambda a, o: a.get(o, handle=text_of(b"somebody else")),
    "another key's signature": _tampered,
    "a credential that nobody added": lambda a, o: Authenticator(handle=a.handle).get(o),
    "a registration": lambda a, o: a.create({**o, "user": {"id": a.handle}}),
    "a challenge of one's own": lambda a, o: a.get({"challenge": text_of(b"mine")}),
    "a challenge made to live longer": lambda a, o: a.get(
        {"challenge": text_of(re.sub(rb"\.\d+\.", b".9999999999999999.", bytes_of(o["challenge"])))}
    ),
    "no JSON": lambda a, o: "x",
    "no object": lambda a, o: [],
    "nothing": lambda a, o: {},
    "deep JSON": lambda a, o: "[" * 4500,
    "no text": lambda a, o: _with(a.get(o), clientDataJSON=text_of(b"\xff\xfe")),
    "a deep authenticator": lambda a, o: _with(a.get(o), authenticatorData=text_of(bytes(37) + b"\x81" * 5000)),
}


@pytest.mark.parametrize("make_answer", WRONG.values(), ids=WRONG.keys())
async def test_a_wrong_answer_opens_nothing(
    installation: Installation, browsers: Browsers, make_answer: Answer
) -> None:
    authenticator = await added(await new_browser(browsers).as_operator())
    stranger = new_browser(browsers)
    credential = make_answer(authenticator, await request_options(stranger))
    answer = await stranger.post(
        "/sign-in/passkey", credential=credential if isinstance(credential, str) else json.dumps(credential), next="/"
    )
    assert answer.status_code == 422, answer.text
    assert 'id="wrong-passkey"' in answer.text
    assert not await stranger.is_signed_in()
    assert (await sign_in(new_browser(browsers, "203.0.113.9"), authenticator)).status_code == 303


async def test_an_answer_is_used_once_in_the_browser_that_asked_and_within_five_minutes(
    installation: Installation, browsers: Browsers
) -> None:
    authenticator = await added(await new_browser(browsers).as_operator())
    mine, thief = new_browser(browsers), new_browser(browsers, "203.0.113.9")
    signed = json.dumps(authenticator.get(await request_options(mine)))
    assert (await thief.post("/sign-in/passkey", credential=signed, next="/")).status_code == 422
    assert (await mine.post("/sign-in/passkey", credential=signed, next="/")).status_code == 303
    await mine.post("/sign-out")
    replayed = await mine.post("/sign-in/passkey", credential=signed, next="/")
    assert replayed.status_code == 422
    assert "used already" in replayed.text
    signed = json.dumps(authenticator.get(await request_options(mine)))
    advance(installation, 5 * MINUTE)
    answer = await mine.post("/sign-in/passkey", credential=signed, next="/")
    assert answer.status_code == 422
    assert "longer than five minutes" in answer.text
    assert not await mine.is_signed_in()
    assert (await sign_in(mine, authenticator)).status_code == 303  # and a late answer spoils nothing


async def test_a_count_that_goes_back_is_refused_and_explained(installation: Installation, browsers: Browsers) -> None:
    operator = await new_browser(browsers).as_operator()
    authenticator = await added(operator, "My key")
    copy = Authenticator(authenticator.credential_id, authenticator.key, 0, authenticator.handle)
    thief, mine = new_browser(browsers, "203.0.113.9"), new_browser(browsers)
    assert (await sign_in(mine, authenticator)).status_code == 303
    assert (await sign_in(mine, authenticator)).status_code == 303
    answer = await sign_in(thief, copy)
    assert answer.status_code == 422
    assert "may have been copied" in answer.text
    # nobody can tell which is the copy: neither opens anything, nor do sessions that either opened
    assert not await mine.is_signed_in()
    repeated = await sign_in(new_browser(browsers), authenticator)
    assert repeated.status_code == 422
    assert "may have been copied" in repeated.text
    assert "It may have been copied" in (await operator.get("/devices")).text
    assert (await remove(operator, "My key")).status_code == 303
    assert (await sign_in(new_browser(browsers), await added(operator))).status_code == 303


async def test_authenticators_that_do_not_count_are_taken(installation: Installation, browsers: Browsers) -> None:
    authenticator = await added(await new_browser(browsers).as_operator())
    for _ in range(3):
        authenticator.count = -1  # says 0, as passkeys kept in a password manager do
        assert (await sign_in(new_browser(browsers), authenticator)).status_code == 303


async def test_a_removed_passkey_opens_nothing_and_takes_its_sessions_along(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await new_browser(browsers).sign_in()
    lost, other_passkey = await added(mine, "Lost"), await added(mine, "Kept")
    thief, other = new_browser(browsers), new_browser(browsers)
    assert (await sign_in(thief, lost, remember="1")).status_code == 303
    assert (await sign_in(other, other_passkey)).status_code == 303
    link = await thief.make_link()
    assert (await remove(other, "Lost")).status_code == 303
    assert not await thief.is_signed_in()
    assert (await new_browser(browsers).post(link)).status_code == 410
    assert await other.is_signed_in()
    refused = await sign_in(new_browser(browsers), lost)
    assert refused.status_code == 422
    assert "was removed" in refused.text
    # whoever removes the passkey they came by is signed out
    assert (await remove(other, "Kept")).status_code == 303
    assert not await other.is_signed_in()
    assert await mine.is_signed_in()


async def test_a_passkey_opens_its_own_business_only(installation: Installation, browsers: Browsers) -> None:
    mine, theirs = (
        await new_browser(browsers).sign_in(),
        await new_browser(browsers).sign_in("7loc_sc_another_business_77aa"),
    )
    authenticator = await added(mine, "Mine")
    assert "Mine" not in (await theirs.get("/devices")).text
    assert "Mine" not in (await (await new_browser(browsers).as_operator()).get("/devices")).text
    # the same credential cannot be taken over by adding it elsewhere
    repeated = await add(theirs, Authenticator(authenticator.credential_id))
    assert repeated.status_code == 422
    assert "is here already" in repeated.text
    fresh = new_browser(browsers)
    await sign_in(fresh, authenticator)
    assert "Mine" in (await fresh.get("/devices")).text


BAD_REGISTRATIONS: dict[str, Answer] = {
    "another origin": lambda a, o: a.create(o, origin="https://evil.example"),
    "another relying party": lambda a, o: a.create(o, rp_id="evil.example"),
    "a person who was not verified": lambda a, o: a.create(o, verified=False),
    "a page in a frame": lambda a, o: a.create(o, crossOrigin=True),
    "a challenge of one's own": lambda a, o: a.create({**o, "challenge": text_of(b"mine")}),
    "an assertion": lambda a, o: a.get(o),
    "nothing": lambda a, o: {},
    "a deep statement": lambda a, o: _with(a.create(o), attestationObject=text_of(b"\x81" * 8000)),
    "an unknown statement": lambda a, o: _with(a.create(o), attestationObject=text_of(cbor2.dumps({"fmt": "x"}))),
}


@pytest.mark.parametrize("make_answer", BAD_REGISTRATIONS.values(), ids=BAD_REGISTRATIONS.keys())
async def test_a_wrong_registration_adds_nothing(
    installation: Installation, browsers: Browsers, make_answer: Answer
) -> None:
    operator = await new_browser(browsers).as_operator()
    credential = make_answer(Authenticator(), await creation_options(operator))
    answer = await operator.post("/passkeys/add", credential=json.dumps(credential))
    assert answer.status_code == 422, answer.text
    assert 'id="wrong-passkey"' in answer.text
    assert await rows(installation, "passkey") == []


async def test_a_registration_is_used_once_in_the_session_that_asked(
    installation: Installation, browsers: Browsers
) -> None:
    operator = await new_browser(browsers).as_operator()
    made = json.dumps(Authenticator().create(await creation_options(operator)))
    await operator.as_operator()  # another session in the same browser
    assert (await operator.post("/passkeys/add", credential=made)).status_code == 422
    made = json.dumps(Authenticator().create(await creation_options(operator)))
    assert (await operator.post("/passkeys/add", credential=made)).status_code == 303
    assert (await operator.post("/passkeys/add", credential=made)).status_code == 422
    # a challenge for signing in adds nothing, and one for adding signs nobody in
    options = await creation_options(operator)
    authenticator = Authenticator()
    made = json.dumps(authenticator.create({**options, **await request_options(operator)}))
    assert (await operator.post("/passkeys/add", credential=made)).status_code == 422
    authenticator = await added(operator)
    signed = json.dumps(authenticator.get(await creation_options(operator)))
    assert (await operator.post("/sign-in/passkey", credential=signed)).status_code == 422
    assert (await operator.post("/passkeys/add", credential="x" * 20_000)).status_code == 413


async def test_challenges_of_strangers_cost_no_rows_and_used_ones_go(
    installation: Installation, browsers: Browsers
) -> None:
    authenticator = await added(await new_browser(browsers).as_operator())
    stranger = new_browser(browsers, "203.0.113.9")
    token = await stranger.csrf_token()
    for _ in range(50):
        await stranger.post("/sign-in/passkey/challenge", csrf_token=token)
    for _ in range(3):
        signed = _tampered(authenticator, await request_options(stranger))
        await stranger.post("/sign-in/passkey", credential=json.dumps(signed))
    assert len(await rows(installation, "passkey_challenge")) == 1  # the one by which it was added
    for _ in range(3):
        await sign_in(new_browser(browsers), authenticator)
    assert len(await rows(installation, "passkey_challenge")) == 4
    advance(installation, 6 * MINUTE)
    await sign_in(new_browser(browsers), authenticator)
    assert len(await rows(installation, "passkey_challenge")) == 1


async def test_wrong_answers_get_slower_for_an_address_and_stay_fast_for_others(
    installation: Installation, browsers: Browsers
) -> None:
    authenticator = await added(await new_browser(browsers).as_operator())
    stranger = new_browser(browsers, "203.0.113.9")
    token = await stranger.csrf_token()
    statuses = [
        (await stranger.post("/sign-in/passkey", csrf_token=token, credential="x")).status_code for _ in range(8)
    ]
    assert statuses[:4] == [422] * 4
    assert set(statuses[4:]) == {429}
    assert (await sign_in(new_browser(browsers), authenticator)).status_code == 303


# --- what a passkey stands on ---------------------------------------------------------------------------------------


async def test_a_refused_key_closes_its_passkeys_until_its_owner_has_another(
    installation: Installation, browsers: Browsers
) -> None:
    authenticator = await added(await new_browser(browsers).sign_in(ANNA), "Anna's phone")
    installation.sevenstamp.revoked.add(ANNA)
    fresh = new_browser(browsers)
    answer = await sign_in(fresh, authenticator)
    assert answer.status_code == 422
    assert "7stamp refuses the key of this passkey" in answer.text
    assert not await fresh.is_signed_in()
    # a colleague's key lets nobody else in: Anna may have left
    borys = await new_browser(browsers).sign_in(BORYS)
    assert "until anna signs in" in (await borys.get("/devices")).text
    installation.sevenstamp.revoked.discard(ANNA)
    assert (await sign_in(new_browser(browsers), authenticator)).status_code == 422
    # hers does
    await new_browser(browsers).sign_in(ANNA)
    assert (await sign_in(new_browser(browsers), authenticator)).status_code == 303
    assert "until anna signs in" not in (await borys.get("/devices")).text


async def test_where_7stamp_cannot_be_asked_a_passkey_waits(installation: Installation, browsers: Browsers) -> None:
    authenticator = await added(await new_browser(browsers).sign_in())
    installation.sevenstamp.faults = Faults(status_500=1.0)
    fresh = new_browser(browsers)
    answer = await sign_in(fresh, authenticator)
    assert answer.status_code == 422
    assert "cannot be asked" in answer.text
    installation.sevenstamp.faults = Faults()
    assert (await sign_in(fresh, authenticator)).status_code == 303


async def test_a_new_password_removes_the_operators_passkeys_and_nobody_elses(
    installation: Installation, browsers: Browsers
) -> None:
    mine = await added(await new_browser(browsers).as_operator())
    theirs = await added(await new_browser(browsers).sign_in())
    signed_in = new_browser(browsers)
    await sign_in(signed_in, mine)
    await installation.host.store.write(lambda tx: access.operator_password.set_password_hash(tx, "another"))
    assert not await signed_in.is_signed_in()
    assert (await sign_in(new_browser(browsers), mine)).status_code == 422
    assert (await sign_in(new_browser(browsers), theirs)).status_code == 303


# --- who may add and remove -----------------------------------------------------------------------------------------


async def asks_once_more(browser: Browser) -> bool:
    """Tell whether the page for adding asks for a key or password first."""
    return 'action="/passkeys/confirm"' in (await browser.get("/passkeys/add")).text


@pytest.mark.parametrize("who", ["operator", "cafe"])
async def test_some_time_after_signing_in_passkeys_are_changed_only_by_who_proves_it_is_them(
    installation: Installation, browsers: Browsers, who: str
) -> None:
    browser = new_browser(browsers)
    await (browser.as_operator() if who == "operator" else browser.sign_in(remember="1"))
    await added(browser, "Old")
    advance(installation, 10 * MINUTE)
    assert await asks_once_more(browser)
    assert (await browser.post("/passkeys/challenge")).status_code == 403
    assert (await remove(browser, "Old")).status_code == 403
    assert len(await rows(installation, "passkey")) == 1
    for wrong in ("", "7loc_sc_somebody_elses_key"):
        answer = await browser.post("/passkeys/confirm", secret=wrong, next="/passkeys/add")
        assert answer.status_code == 422
    right = PASSWORD if who == "operator" else KEY
    answer = await browser.post("/passkeys/confirm", secret=right, next="/passkeys/add")
    assert answer.headers["location"] == "/passkeys/add"
    assert not await asks_once_more(browser)
    assert (await remove(browser, "Old")).status_code == 303
    await added(browser)
    page = (await browser.get("/devices")).text
    assert ("Remembered until" in page) == (who == "cafe")  # it is remembered as it was
    assert page.count("This device</h2>") == 1


async def test_an_answer_that_was_asked_for_in_time_is_taken_a_little_later(
    installation: Installation, browsers: Browsers
) -> None:
    browser = await new_browser(browsers).as_operator()
    advance(installation, 10 * MINUTE - 30 * SECOND)
    options = await creation_options(browser)
    advance(installation, MINUTE)
    made = json.dumps(Authenticator().create(options))
    assert (await browser.post("/passkeys/add", credential=made)).status_code == 303


async def test_a_link_that_a_signed_in_device_made_proves_nobody(
    installation: Installation, browsers: Browsers
) -> None:
    for maker in (await new_browser(browsers).sign_in(), await new_browser(browsers).as_operator()):
        await added(maker, "There")
        link = await maker.make_link()
        other = new_browser(browsers)
        await other.post(link)
        assert await other.is_signed_in()
        assert await asks_once_more(other)
        assert (await other.post("/passkeys/challenge")).status_code == 403
        assert (await remove(other, "There")).status_code == 403


async def test_somebody_who_came_by_a_passkey_may_change_them(installation: Installation, browsers: Browsers) -> None:
    authenticator = await added(await new_browser(browsers).sign_in())
    fresh = new_browser(browsers)
    await sign_in(fresh, authenticator)
    assert not await asks_once_more(fresh)
    await added(fresh, "Second")


async def test_an_operator_who_lost_everything_comes_back_by_the_command_line(
    installation: Installation, browsers: Browsers
) -> None:
    lost = await added(await new_browser(browsers).as_operator(), "Lost")
    back = new_browser(browsers)
    assert (await back.post(await command_line_link(installation))).headers["location"] == "/operator"
    assert (await remove(back, "Lost")).status_code == 303
    new = await added(back, "New")
    assert (await sign_in(new_browser(browsers), lost)).status_code == 422
    assert (await sign_in(new_browser(browsers, "203.0.113.9"), new)).status_code == 303


async def test_a_cafe_comes_back_by_the_command_line_and_adds_one_with_a_key(
    installation: Installation, browsers: Browsers
) -> None:
    await installation.connect()
    lost = await added(await new_browser(browsers).sign_in(ANNA), "Lost")
    back = new_browser(browsers)
    await back.post(await command_line_link(installation, installation.connection.id))
    assert (await remove(back, "Lost")).status_code == 303
    assert (await sign_in(new_browser(browsers), lost)).status_code == 422
    # what the operator opened stands on no key, and a passkey would outlive it
    assert await asks_once_more(back)
    assert (await back.post("/passkeys/challenge")).status_code == 403
    await back.post("/passkeys/confirm", secret=ANNA, next="/passkeys/add")
    new = await added(back, "New")
    fresh = new_browser(browsers, "203.0.113.9")
    assert (await sign_in(fresh, new)).status_code == 303
    assert "Signed in as anna." in (await fresh.get("/devices")).text


async def test_ten_passkeys_are_enough(installation: Installation, browsers: Browsers) -> None:
    operator, mine = await new_browser(browsers).as_operator(), await new_browser(browsers).sign_in()
    options = await creation_options(operator)
    for number in range(access.passkeys.MOST):
        await added(operator, f"Number {number}")
    assert "Remove one first" in (await operator.get("/passkeys/add")).text
    assert (await operator.post("/passkeys/challenge")).status_code == 422
    answer = await operator.post("/passkeys/add", credential=json.dumps(Authenticator().create(options)))
    assert answer.status_code == 422
    assert len(await rows(installation, "passkey")) == access.passkeys.MOST
    await added(mine)


async def test_a_name_is_shown_as_text(installation: Installation, browsers: Browsers) -> None:
    mine = await new_browser(browsers).sign_in()
    await added(mine, "<script>alert(1)</script>\u202e\x1b" + "x" * 200)
    page = (await mine.get("/devices")).text
    assert "&lt;script&gt;" in page
    assert "<script>alert" not in page
    assert "\u202e" not in page
    assert "\x1b" not in page
    assert "x" * 60 not in page


async def test_a_passkey_outlives_the_sessions_it_opens(installation: Installation, browsers: Browsers) -> None:
    authenticator = await added(await new_browser(browsers).sign_in())
    advance(installation, 100 * DAY)
    assert (await sign_in(new_browser(browsers), authenticator)).status_code == 303

"""A consent that is renewed, that cannot be renewed, and that ends: what is told, to whom, and that no sale is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from connector_sdk.authorisation import Credentials, Grant, OAuth
from connector_sdk.errors import NotAuthorised, TillUnavailable
from connector_sdk.http import ConnectionShare
from connectors.domain.clock import DAY, HOUR, MINUTE, moment
from connectors.domain.connection import Connection, Health
from connectors.domain.renewal import LEASE, failure_pause, plan_renewal, trouble_after
from connectors.store import connections
from connectors.store.connections.renewals import Busy, Leased
from square_connector import SquareConnector
from square_connector.sandbox import UNAVAILABLE, Failure, SquareSandbox
from square_connector.sandbox_seller import Seller
from square_connector.sandbox_ticket import Ticket
from tests.installation import ANNA, Installation, build
from tests.web.clock import MovableClock


@pytest.fixture
async def square(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Installation]:
    clock = MovableClock()
    seller = Seller(now=lambda: moment(clock.now()))
    sandbox = SquareSandbox(seller, now=lambda: moment(clock.now()))
    async with build(tmp_path, monkeypatch, square=sandbox, time=clock, public_url="https://host.test") as installation:
        sandbox.post_to("https://host.test/hooks/tills/square")
        await installation.connect(grant=await installation.consent())
        yield installation


def clock_of(square: Installation) -> MovableClock:
    clock = square.host.store.clock
    assert isinstance(clock, MovableClock)
    return clock


async def the(square: Installation) -> Connection:
    return await square.host.services.connections.get(square.connection.id)


async def grant_of(square: Installation) -> Grant:
    credentials = square.host.tills.credentials_of(await the(square))
    assert credentials is not None
    return credentials.grant


def token_calls(square: Installation) -> int:
    return sum(call.path == "/oauth2/token" for call in square.till.calls)


async def renew(square: Installation) -> None:
    """Renew what is due, as the scheduler does."""
    for connection_id in await square.host.store.read(lambda tx: connections.renewals.due(tx, 10)):
        try:
            await square.host.reader.renew(connection_id)
        except (NotAuthorised, TillUnavailable):
            continue


# --- times ------------------------------------------------------------------------------------------------------------


def test_a_renewal_comes_within_a_quarter_of_the_lifetime_and_not_all_at_once() -> None:
    for days in (1, 30, 90):
        end = days * DAY
        moments = [plan_renewal(0, end, renewable=True, spread=spread).renew_at for spread in (0.0, 0.5, 1.0)]
        assert all(at is not None and end // 6 < at < end // 4 for at in moments)
        assert len(set(moments)) == 3
    assert plan_renewal(0, None, renewable=True, spread=0) == (plan_renewal(0, None, renewable=False, spread=0))
    assert plan_renewal(0, 40 * DAY, renewable=False, spread=0).trouble_at == 30 * DAY


def test_a_failure_is_tried_again_with_growing_pauses_and_told_long_before_the_end() -> None:
    pauses = [failure_pause(number) for number in range(1, 8)]
    assert pauses == sorted(pauses)
    assert pauses[0] == MINUTE
    for lifetime in (HOUR, DAY, 30 * DAY):
        assert lifetime // 4 + trouble_after(0, lifetime) <= lifetime // 2


# --- renewing ---------------------------------------------------------------------------------------------------------


async def test_what_was_granted_is_renewed_by_itself_and_is_no_edit(square: Installation) -> None:
    before, lines = await grant_of(square), await square.journal()
    clock_of(square).ahead = 8 * DAY
    await renew(square)
    after = await grant_of(square)
    assert after.secret("access_token") != before.secret("access_token")
    assert after.expires_at is not None
    assert before.expires_at is not None
    assert after.expires_at > before.expires_at
    assert await square.journal() == lines
    assert not await square.host.store.read(lambda tx: connections.renewals.due(tx, 10))


async def test_a_token_that_is_refused_early_is_renewed_once_for_all_who_ask_at_the_same_time(
    square: Installation,
) -> None:
    for token in square.till.square_application.access_tokens.values():
        token.expires_at = moment(clock_of(square).now())
    till = square.host.tills.of(await the(square))
    square.till.calls.clear()
    await asyncio.gather(*(till.check() for _ in range(8)))
    assert token_calls(square) == 1
    assert (await the(square)).health is Health.active


async def test_another_process_has_the_lease_until_it_ends(square: Installation) -> None:
    clock_of(square).ahead = 8 * DAY
    begin, id_ = connections.renewals.begin_renewal, square.connection.id
    first = await square.host.store.write(lambda tx: begin(tx, id_, None))
    assert isinstance(first, Leased)
    assert isinstance(await square.host.store.write(lambda tx: begin(tx, id_, first.grant)), Busy)
    clock_of(square).ahead += LEASE
    assert isinstance(await square.host.store.write(lambda tx: begin(tx, id_, first.grant)), Leased)


async def test_whoever_stops_waiting_does_not_stop_the_renewal(square: Installation) -> None:
    clock_of(square).ahead = 8 * DAY
    before = await grant_of(square)
    waiting = asyncio.create_task(square.host.reader.renew(square.connection.id))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await square.host.tills.renewer.aclose()
    assert (await grant_of(square)).secret("access_token") != before.secret("access_token")


async def test_a_paused_connection_keeps_its_consent(square: Installation) -> None:
    await square.host.services.connections.pause(square.connection.id)
    before = await grant_of(square)
    clock_of(square).ahead = 8 * DAY
    await renew(square)
    assert (await grant_of(square)).secret("access_token") != before.secret("access_token")


async def test_a_new_consent_is_not_overwritten_by_a_renewal_that_began_before_it(square: Installation) -> None:
    clock_of(square).ahead = 8 * DAY
    begun = await square.host.store.write(lambda tx: connections.renewals.begin_renewal(tx, square.connection.id, None))
    assert isinstance(begun, Leased)
    newest = await square.consent()
    await square.host.services.connections.edit(square.connection.id, {}, grant=newest)
    late = replace(begun.grant, secrets={**begun.grant.secrets})
    counts = await square.host.store.write(lambda tx: connections.renewals.finish_renewal(tx, begun, late))
    assert counts.secret("access_token") == newest.secret("access_token")
    assert (await grant_of(square)).secret("access_token") == newest.secret("access_token")


async def test_a_title_that_changes_during_a_renewal_costs_no_token(square: Installation) -> None:
    clock_of(square).ahead = 8 * DAY
    begun = await square.host.store.write(lambda tx: connections.renewals.begin_renewal(tx, square.connection.id, None))
    assert isinstance(begun, Leased)
    await square.host.services.connections.edit(square.connection.id, {}, title="Another")
    traded = replace(begun.grant, secrets={**begun.grant.secrets, "access_token": SecretStr("traded")})
    await square.host.store.write(lambda tx: connections.renewals.finish_renewal(tx, begun, traded))
    assert (await grant_of(square)).secret("access_token") == "traded"


async def test_a_draft_by_consent_is_previewed_with_it(square: Installation) -> None:
    order = square.cafe.sell(Ticket(customer=square.cafe.customer_of(ANNA)))
    square.till.calls.clear()
    credentials = Credentials(await square.consent())
    account = (await the(square)).account
    recent = await square.host.services.sync.recent_receipts("square", {}, account, credentials)
    assert order in [sale.receipt_id for sale in recent.sales]
    assert (await square.host.services.sync.recent_receipts_of(await the(square))).source != "unread"


# --- failing ----------------------------------------------------------------------------------------------------------


async def test_a_renewal_that_fails_is_tried_again_told_after_a_day_and_well_again_by_itself(
    square: Installation,
) -> None:
    clock_of(square).ahead = 8 * DAY
    square.till.fail_next[:] = [UNAVAILABLE] * 50
    await renew(square)
    first = await the(square)
    assert first.renew_at == pytest.approx(clock_of(square).now() + MINUTE, abs=30_000_000)
    assert first.consent_trouble_at is not None
    assert first.consent_trouble_at > clock_of(square).now()  # not yet: most of it is a till that is restarted
    assert sum("could not be renewed" in line for line in await square.journal()) == 1
    for _ in range(30):
        clock_of(square).ahead += HOUR
        await renew(square)
    troubled = await the(square)
    assert troubled.consent_trouble_at is not None
    assert troubled.consent_trouble_at <= clock_of(square).now()
    assert troubled.health is Health.active
    assert sum("could not be renewed" in line for line in await square.journal()) == 1
    square.till.fail_next.clear()
    clock_of(square).ahead += 5 * HOUR
    await renew(square)
    assert (await the(square)).consent_trouble_at is None
    assert any("renewed again" in line for line in await square.journal())


async def test_a_till_that_asks_to_slow_down_is_not_asked_before(square: Installation) -> None:
    clock_of(square).ahead = 8 * DAY
    square.till.fail_next[:] = [Failure(429, "RATE_LIMIT_ERROR", "RATE_LIMITED", retry_after="1800", path="/oauth2")]
    await renew(square)
    renew_at = (await the(square)).renew_at
    assert renew_at is not None
    assert renew_at >= clock_of(square).now() + 29 * MINUTE


async def test_a_renewal_that_is_refused_for_good_is_told_at_once_and_sales_wait_for_a_new_consent(
    square: Installation,
) -> None:
    square.till.square_application.refresh_tokens.clear()
    clock_of(square).ahead = 8 * DAY
    await renew(square)
    told = await the(square)
    assert told.health is Health.active  # the access is still good for three quarters of its time
    assert told.consent_trouble_at is not None
    assert told.consent_trouble_at <= clock_of(square).now()
    assert any("does not renew its consent any more" in line for line in await square.journal())
    # nobody does anything: the access ends, and hooks go on being taken
    square.till.square_application.access_tokens.clear()
    await square.sync_quietly()
    assert (await the(square)).health is Health.needs_authorisation
    order = square.cafe.sell(Ticket(customer=square.cafe.customer_of(ANNA)))
    hook = square.till.hook(order)
    answer = await square.hook(hook.body, path="/hooks/tills/square", headers=dict(hook.headers))
    assert answer.status_code == 200
    # four days: longer than a hint is followed
    clock_of(square).ahead += 4 * DAY
    await square.host.services.connections.edit(square.connection.id, {}, grant=await square.consent())
    await square.sync()
    assert square.stamps(ANNA) == 1


@pytest.mark.parametrize("error", [NotAuthorised, TillUnavailable])
async def test_a_token_that_the_till_quotes_in_its_refusal_is_told_to_nobody(
    square: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: type[Exception]
) -> None:
    shown = (await grant_of(square)).secret("refresh_token")

    async def refuses(*_arguments: object) -> Grant:
        raise error(f"the token {shown} is not welcome")

    (oauth,) = [way for way in SquareConnector.authorisation if isinstance(way, OAuth)]
    monkeypatch.setattr(SquareConnector, "authorisation", (replace(oauth, refresh=refuses),))
    clock_of(square).ahead = 8 * DAY
    await renew(square)
    told = "\n".join([*await square.journal(), caplog.text])
    assert "is not welcome" in told
    assert shown not in told


async def test_an_answer_that_is_lost_is_asked_for_again_where_the_token_is_good_again(square: Installation) -> None:
    clock_of(square).ahead = 8 * DAY
    await _lose_the_answer(square)
    clock_of(square).ahead += 2 * MINUTE
    before = await grant_of(square)
    await renew(square)
    assert (await grant_of(square)).secret("access_token") != before.secret("access_token")


async def test_an_answer_that_is_lost_is_not_asked_for_again_where_the_token_is_good_once(
    square: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SQUARE_APPLICATION_SECRET")
    await square.host.services.connections.edit(square.connection.id, {}, grant=await square.consent())
    clock_of(square).ahead = 8 * DAY
    await _lose_the_answer(square)
    told = await the(square)
    assert told.consent_trouble_at is not None
    assert told.consent_trouble_at <= clock_of(square).now()
    square.till.calls.clear()
    for _ in range(20):
        clock_of(square).ahead += DAY
        await renew(square)
    assert token_calls(square) == 0
    # just before the end there is nothing left to lose
    clock_of(square).ahead = 30 * DAY - HOUR
    await renew(square)
    assert token_calls(square) == 1


async def test_a_gateway_that_gave_up_is_an_answer_that_is_lost(
    square: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SQUARE_APPLICATION_SECRET")
    await square.host.services.connections.edit(square.connection.id, {}, grant=await square.consent())
    clock_of(square).ahead = 8 * DAY
    square.till.fail_next[:] = [UNAVAILABLE]
    square.till.calls.clear()
    await renew(square)
    for _ in range(5):
        clock_of(square).ahead += DAY
        await renew(square)
    assert token_calls(square) == 1
    # and where the till refuses the access meanwhile, it is not shown either
    refused = await grant_of(square)
    with pytest.raises(NotAuthorised):
        await square.host.tills.renewer.renew(square.connection.id, refused)
    assert token_calls(square) == 1


async def test_a_grant_that_has_ended_already_is_not_stored_and_asked_for_again_at_once(square: Installation) -> None:
    clock_of(square).ahead = 8 * DAY
    square.till.square_application.now = lambda: moment(clock_of(square).now() - 90 * DAY)
    before = await grant_of(square)
    await renew(square)
    assert (await grant_of(square)).secrets == before.secrets
    assert any("clock" in line for line in await square.journal())
    assert not await square.host.store.read(lambda tx: connections.renewals.due(tx, 10))


async def _lose_the_answer(square: Installation) -> None:
    """Renew while the connection is cut after the till has answered."""
    tills, transport = square.host.tills, square.host.tills.transport("square")

    class _Cut(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await (await transport.handle_async_request(request)).aread()
            raise httpx.ReadError("cut")

    shares = tills._shares.copy()
    tills._shares["square"] = ConnectionShare(_Cut(), 1)
    await renew(square)
    tills._shares = shares


# --- ending -----------------------------------------------------------------------------------------------------------


async def test_a_connection_that_is_removed_tells_the_till_unless_another_one_shares_the_account(
    square: Installation,
) -> None:
    application, first = square.till.square_application, square.connection
    grants = list(application.grants)
    await square.host.services.connections.edit(first.id, {}, locations=[next(iter(square.cafe.locations))])
    await square.connect(grant=await square.consent(), locations=[list(square.cafe.locations)[1]])
    await square.host.services.connections.remove(first.id)
    assert not any(grant.revoked for grant in application.grants)
    await square.host.services.connections.remove(square.connection.id)
    assert all(grant.revoked for grant in grants)


@pytest.mark.embedded
async def test_no_secret_of_a_grant_is_in_the_database_or_the_file_for_support(
    square: Installation, tmp_path: Path
) -> None:
    clock_of(square).ahead = 8 * DAY
    before = await grant_of(square)
    await renew(square)
    after = await grant_of(square)
    await square.host.store.clear_log()
    stored = (tmp_path / "ledger.db").read_bytes()
    bundle = await square.host.services.connections.diagnostics(square.connection.id)
    for grant in (before, after):
        for secret in grant.secrets.values():
            assert secret.get_secret_value().encode() not in stored
            assert secret.get_secret_value().encode() not in bundle
        assert grant.secret("access_token") not in repr(grant)
        assert grant.secret("access_token") not in repr(await the(square))

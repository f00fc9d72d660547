"""Behaviours of the account: what it is, its venues, and a token that is refused."""

from __future__ import annotations

from connector_sdk.authorisation import Token
from connector_sdk.connector import Location
from connector_sdk.errors import ConnectorError, NotAuthorised
from connector_sdk.testing.behaviour_trial import NotAsked, Trial, demand, fail
from connector_sdk.testing.behaviours.declared import behaviour


@behaviour(
    "The account is the till's own, in its currency and zone",
    guards="stamps by amount in the wrong currency, and business days that end at the wrong hour",
    fix="let `check` read id, currency and time zone from the till, and give the same id every time",
)
async def account(trial: Trial) -> None:
    """Demand the stub's currency and zone, and the same account id from two instances."""
    first, second = await trial.build().check(), await trial.build().check()
    demand(first.id == second.id, "check names another account each time")
    demand(first.currency == trial.stub.currency, f"the currency is {first.currency}, not {trial.stub.currency}")
    demand(first.zone == trial.stub.zone, f"the zone is {first.zone}, not {trial.stub.zone}")


@behaviour(
    "A refused token is said to be one",
    guards="a connection that fails for ever instead of asking its cafe for a new token",
    fix="raise `NotAuthorised` where the till refuses what it is shown (`TillClient` does for 401)",
)
async def refused_token(trial: Trial) -> None:
    """Demand `NotAuthorised` from `check` with settings that the till refuses."""
    if not any(isinstance(way, Token) for way in trial.stub.connector.authorisation):
        raise NotAsked("token that is pasted")
    settings = trial.stub.wrong_settings()
    try:
        await trial.build(settings).check()
    except NotAuthorised:
        return
    except ConnectorError as error:
        fail(f"check raises {type(error).__name__} for a token that the till refuses")
    fail("check accepts a token that the till refuses")


@behaviour(
    "Each venue keeps its own time",
    guards="double stamps by another city's clock, and a business day that ends at noon",
    fix="give each `Location` of `check` its `zone`, where the till has one, and each sale its `location_id`",
)
async def venue_zones(trial: Trial) -> None:
    """Open a venue in another zone, and demand that `check` lists it with that zone."""
    zone = _another_zone(trial)
    venue_id = trial.stub.open_venue("Harbour", zone)
    venue = await _venue(trial, venue_id)
    account = await trial.build().check()
    demand(account.zone_of(venue.id) == zone, f"a venue in {zone} is said to be in {account.zone_of(venue.id)}")


def _another_zone(trial: Trial) -> str:
    return "America/New_York" if trial.stub.zone != "America/New_York" else "Europe/Helsinki"


async def _venue(trial: Trial, venue_id: str) -> Location:
    venues = (await trial.build().check()).locations
    found = next((venue for venue in venues if venue.id == venue_id), None)
    if found is None:
        fail("check does not list a venue that the till has opened")
    return found


@behaviour(
    "A venue that is opened later is listed, and its sales are read",
    guards="a new venue whose sales are lost in silence",
    fix="ask the till for its venues at every `check`, and read all venues of `self.account`",
)
async def venue_opened(trial: Trial) -> None:
    """Open a venue after a first `check`, sell there, and demand both from whoever connects then."""
    connector = trial.build()
    before = await connector.check()
    venue_id = trial.stub.open_venue("Harbour", trial.stub.zone)
    after = await connector.check()
    demand(after.id == before.id, "the account is another one, because it has one venue more")
    demand(venue_id in {venue.id for venue in after.locations}, "the same connector's second check lists no new venue")
    receipt = trial.sell(location_id=venue_id)
    for method, sale in (await trial.read_by_each_method(receipt)).items():
        demand(sale.location_id == venue_id, f"{method} says that a sale of the new venue was at {sale.location_id}")

"""Behaviours of the till's consent page: where it leads, what is traded there, and how that is renewed.

The host owns state, PKCE, storage and the times of renewal; what is demanded here is the connector's part.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qs, urlsplit

from connector_sdk.authorisation import Consent, Credentials, Returned
from connector_sdk.errors import BadPayload, ConnectorError, NotAuthorised
from connector_sdk.testing.behaviour_trial import REDIRECT_URI, StubCredentials, Trial, demand, fail
from connector_sdk.testing.behaviours.declared import behaviour


@behaviour(
    "A cafe that presses Allow is let in",
    guards="a button that leads nowhere, or into somebody else's account",
    fix="send `redirect_uri` and `state` as they are, and trade the code that comes back for a `Grant`",
)
async def consent(trial: Trial) -> None:
    """Go to the consent page, come back, trade the code, and demand that the grant opens the stub's account."""
    grant = await trial.consent()
    demand(grant.secrets, "exchange returns a grant without secrets")
    # without renewal: what was granted must do by itself
    account = await trial.build({}, credentials=Credentials(grant)).check()
    own = await trial.build().check()
    demand(account.id == own.id, "the grant opens another account than the one that said yes")


@behaviour(
    "The way back is the host's own, to the letter",
    guards="a till that refuses every cafe, because the address is not the registered one",
    fix="put `consent.redirect_uri` into the address unchanged; what the till does not carry goes beside it",
)
async def redirect_address(trial: Trial) -> None:
    """Look at the address of the consent page, and demand the redirect address in it, and the state."""
    oauth = trial.oauth()
    url = oauth.authorise_url(trial.stub.app(), Consent(REDIRECT_URI, "state-of-the-suite", "challenge"))
    query = {name: values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    back = [value for value in query.values() if value.split("?")[0] == REDIRECT_URI]
    demand(back, "the address of the consent page does not hold the redirect address")
    demand(any("state-of-the-suite" in value for value in query.values()), "the address does not hold the state")


@behaviour(
    "A code that the till refuses is said to be refused",
    guards="an error page, or a connection that opens nothing",
    fix="raise `NotAuthorised` with the till's reason where it refuses the code",
)
async def refused_code(trial: Trial) -> None:
    """Trade codes that nobody gave, and demand `NotAuthorised`."""
    oauth = trial.oauth()
    query = trial.stub.consent(oauth.authorise_url(trial.stub.app(), Consent(REDIRECT_URI, "state", "challenge")))
    for code in ("", "nobody-gave-this"):
        returned = Returned({**query, "code": code}, REDIRECT_URI, "verifier")
        try:
            await oauth.exchange(trial.stub.app(), returned, trial.stub.transport())
        except (NotAuthorised, BadPayload):
            continue
        except ConnectorError as error:
            fail(f"exchange raises {type(error).__name__} for a code that the till refuses")
        fail("exchange accepts a code that the till refuses")


@behaviour(
    "A grant that ends is renewed, and the read goes on",
    guards="a connection that dies on the day its first token ends",
    fix="give `OAuth` a `refresh`, and read through `TillClient(credentials=self.credentials)`",
)
async def renewal(trial: Trial) -> None:
    """Let the access end between two reads, and demand that the second one renews it, once, and goes on."""
    grant = await trial.consent()
    if grant.expires_at is None:
        return  # a grant that does not end is not renewed
    demand(trial.oauth().refresh is not None, "the grant ends, and the connector cannot renew it")
    credentials = StubCredentials(trial.stub, grant)
    account = await trial.build({}, credentials=credentials).check()
    connector = trial.build({}, account=account, credentials=credentials)
    receipt = trial.sell()
    for round_ in range(1, 3):  # twice: a refresh token that is good once must have been replaced
        trial.stub.expire_access()
        for method in trial.read_methods()[:1]:
            reading = await trial.read(method, connector=connector)
            demand(receipt in reading.ids, f"{method} does not go on after the access ended")
        demand(
            credentials.renewals == round_, f"the access ended {round_} times, and was renewed {credentials.renewals}"
        )
    newest = credentials.grant
    demand(newest.expires_at is not None, "a renewed grant does not say when it ends")
    late = newest.expires_at is not None and newest.expires_at < trial.now + timedelta(minutes=1)
    demand(not late, "a renewed grant has ended already")


@behaviour(
    "A cafe that ends our access is asked to consent anew",
    guards="a connection that tries for ever to renew what its cafe has ended",
    fix="raise `NotAuthorised` from `refresh` where the till refuses for good",
)
async def revoked_access(trial: Trial) -> None:
    """Let the cafe end the access, and demand `NotAuthorised` from a read and from `refresh`."""
    grant = await trial.consent()
    credentials = StubCredentials(trial.stub, grant)
    account = await trial.build({}, credentials=credentials).check()
    connector = trial.build({}, account=account, credentials=credentials)
    trial.stub.revoke_access()
    refresh = trial.oauth().refresh
    for what in ("the read", "refresh"):
        try:
            if what == "refresh" and refresh is not None:
                await refresh(trial.stub.app(), grant, trial.stub.transport())
            elif what != "refresh":
                await trial.read(trial.read_methods()[0], connector=connector)
            else:
                continue
        except NotAuthorised:
            continue
        except ConnectorError as error:
            fail(f"{what} raises {type(error).__name__} after the cafe ended our access")
        fail(f"{what} goes on after the cafe ended our access")

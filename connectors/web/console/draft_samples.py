"""The requests that a draft's till has sent: listed for its page, tried with its settings, and read for previews.

Owns which requests count for what; how they are masked and worded is `sample_view`'s, the checks are
`connectors.services.checks`'.
"""

from __future__ import annotations

from dataclasses import dataclass

from connector_sdk.sale import Sale
from connector_sdk.teaching import ReadyMade, as_texts
from connectors.domain.clock import moment
from connectors.isolation.runner import RemoteTeaching
from connectors.services import Refusal, SettingValues, UnusableSettings
from connectors.sync.previews import RecentReceipts, recent_of
from connectors.web.console.onboarding import Onboarding
from connectors.web.console.sample_view import ArrivedRequest, SampleReading, read_sample, show_request
from connectors.web.console.visit import Visit


@dataclass(frozen=True, slots=True)
class TeachingView:
    """Teaching as the first step shows it: the till's address, what it has sent, and the chosen sample as read."""

    address: str
    requests: tuple[ArrivedRequest, ...]
    read: SampleReading | None
    """The sample as the settings read it; `None` until one is chosen."""
    lives: int
    """How many requests are kept at most."""


async def teaching_view(visit: Visit, onboarding: Onboarding, values: SettingValues) -> TeachingView | None:
    """Show what a till being taught has sent; `None` for connectors that learn nothing."""
    token, teaching = onboarding.content.hook_token, visit.teaching(onboarding.connector_class)
    if teaching is None or token is None:
        return None
    # a pasted sample has no id, and marks none of the requests as chosen
    sample = onboarding.content.sample
    chosen_id = sample.id if sample is not None else ""
    captured = await visit.services.drafts.captured_requests(onboarding.draft)
    return TeachingView(
        address=visit.services.connections.draft_hook_url(onboarding.draft.connector, token),
        requests=tuple([await show_request(teaching, request, chosen_id) for request in captured]),
        read=await read_draft_sample(teaching, onboarding, values),
        lives=visit.host.store.quotas.captured,
    )


async def read_draft_sample(
    teaching: RemoteTeaching, onboarding: Onboarding, values: SettingValues
) -> SampleReading | None:
    """Read a draft's sample with some settings; `None` where none was chosen."""
    sample = onboarding.content.sample
    if sample is None:
        return None
    return await read_sample(teaching, onboarding.connector_class, values, sample.content)


async def check_draft_samples(visit: Visit, onboarding: Onboarding, values: SettingValues) -> None:
    """See that settings of a taught till were tried before they are saved. Raises `Refusal`, `UnusableSettings`."""
    teaching = visit.teaching(onboarding.connector_class)
    # connectors that are not taught read their tills, which `check_till` has tried already
    if teaching is None or onboarding.content.hook_token is None:
        return
    connector = onboarding.draft.connector
    if any(_holds(values, ready_made) for ready_made in onboarding.connector_class.ready_made):
        # we have tried a ready-made mapping on a sample of its own; what this till sent may have another currency
        captured = await visit.services.drafts.captured_requests(onboarding.draft)
        bodies = [request.body for request in captured]
        await visit.services.checks.check_samples(connector, values, bodies, tenant=visit.owner_id)
        return
    sample = onboarding.content.sample
    if sample is None:
        raise Refusal(
            "send one sale to the address above, or paste one, and choose it: what was never tried is not saved"
        )
    await visit.services.checks.check_samples(connector, values, [sample.content], tenant=visit.owner_id)
    # settings may read a request and still not believe it: the proof is tried on the request with its headers
    reason = await teaching.unproven(as_texts(values), sample.as_request())
    if reason is not None:
        raise UnusableSettings(onboarding.info.title, {teaching.secret: reason})


def _holds(values: SettingValues, ready_made: ReadyMade) -> bool:
    return ready_made.settings.items() <= values.items()


async def recent_sales(visit: Visit, onboarding: Onboarding) -> RecentReceipts:
    """Return the receipts that a till being taught has sent meanwhile, for the preview of a rule."""
    teaching = visit.teaching(onboarding.connector_class)
    if teaching is None:
        return RecentReceipts((), 0, "nothing")
    captured = await visit.services.drafts.captured_requests(onboarding.draft)
    bodies = [request.body for request in captured]
    if onboarding.content.sample is not None:
        bodies.append(onboarding.content.sample.content)
    values = as_texts(onboarding.content.values)

    async def read() -> list[Sale]:
        # oldest first, so that of two requests about one receipt the newer one stays
        return [sale for body in reversed(bodies) for sale in (await teaching.sketch(values, body)).sales]

    # a rule is tried at every key that is pressed: the requests are read once for what they and the settings are
    key = f"{onboarding.id} {hash(tuple(bodies))} {hash(tuple(sorted(values.items())))}"
    sales = await visit.console.till_cache.captured_sales(key, read)
    # a till that sends a receipt again sends its newer state: the last one read counts
    newest = {sale.receipt_id: sale for sale in sales}
    return recent_of(list(newest.values()), moment(visit.host.store.clock.now()), "hooks")

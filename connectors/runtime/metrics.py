"""Metrics for Prometheus: how long things take, and what waits.

Owns their names, which dashboards and alerts rely on. Times come from the parts as they happen; what waits is counted
when somebody looks, at most once in a few seconds however often that is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric

from connectors.runtime.counter_names import CLOCK_JUMPS, REFUSED
from connectors.store import queries
from connectors.store.engine import Store
from connectors.store.errors import StoreError
from connectors.store.queries.load import Load

_REFRESH_SECONDS = 5.0
_LATENCIES = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 30, 60, 300, 1800)
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """All metrics of one process: what parts measure, and what waits."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._registry = CollectorRegistry()
        self._read_at = -_REFRESH_SECONDS
        self._load: Load | None = None
        self._late = self._histogram("read_lateness_seconds", "How long after it was due a read of a till began")
        self._till = self._histogram("till_call_seconds", "How long a till took", "connector", "call")
        self._hook = self._histogram("hook_to_sale_seconds", "From a hook to its receipt in the ledger")
        self._stamp = self._histogram("sale_to_stamp_seconds", "From a planned operation to an applied one")
        self._sevenstamp = self._histogram(
            "sevenstamp_call_seconds", "How long 7stamp took for an operation", "outcome"
        )
        self._outcomes = Counter(
            "connectors_operations",
            "Operations that were sent, by how that ended",
            ["outcome"],
            registry=self._registry,
        )
        self._registry.register(self)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(f"connectors_{name}", text, labels, buckets=_LATENCIES, registry=self._registry)

    # --- what parts measure, as `Measures` --------------------------------------------------------------------

    def read_late(self, seconds: float) -> None:
        """Take how long after it was due a read of a till began."""
        self._late.observe(max(0.0, seconds))

    def till_call(self, connector: str, call: str, seconds: float) -> None:
        """Take how long a till took for a `poll`, a `look-back` or a `fetch`."""
        self._till.labels(connector, call).observe(seconds)

    def hook_to_sale(self, seconds: float) -> None:
        """Take how long after a hook its receipt was in the ledger."""
        self._hook.observe(max(0.0, seconds))

    def sale_to_stamp(self, seconds: float) -> None:
        """Take how long after it was planned an operation was applied."""
        self._stamp.observe(max(0.0, seconds))

    def sevenstamp_call(self, outcome: str, seconds: float) -> None:
        """Take how long 7stamp took for an operation, and how it ended."""
        self._sevenstamp.labels(outcome).observe(seconds)
        self._outcomes.labels(outcome).inc()

    # --- what waits --------------------------------------------------------------------------------------------

    async def text(self) -> bytes:
        """Return all metrics in Prometheus' text format; without a database those of this process alone."""
        now, embedded = time.monotonic(), self._store.embedded
        if now - self._read_at > _REFRESH_SECONDS:
            self._read_at, self._load = now, None
            with contextlib.suppress(StoreError):
                self._load = await self._store.read(lambda tx: queries.load.load(tx, embedded=embedded))
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yield what waits, as it was last read."""
        load = self._load
        if load is None:
            return
        yield _by_label("open_operations", "Operations that are not settled", "state", load.operations)
        yield _gauge("oldest_due_operation_seconds", "For how long the oldest due operation waits", load.oldest_pending)
        yield _gauge("due_hints", "Receipts that hooks named and that are to be fetched", load.hints)
        yield _gauge("oldest_due_hint_seconds", "For how long the oldest such receipt waits", load.oldest_hint)
        yield _gauge("due_card_searches", "Customers whose card is to be looked for", load.searches)
        yield _by_label("connections", "Connections by health", "health", load.connections)
        yield _gauge("paused_businesses", "Businesses whose plan is used up", load.paused_businesses)
        refused = {name.removeprefix(REFUSED): n for name, n in load.counters.items() if name.startswith(REFUSED)}
        yield _by_label(
            "refused_requests", "Requests that a limit refused, since the database was made", "limit", refused
        )
        yield _gauge("clock_jumps", "How often the clock jumped", load.counters.get(CLOCK_JUMPS, 0))
        if load.queue is not None:
            yield _by_label(
                "jobs", "Jobs of the cluster", "state", {"waiting": load.queue.waiting, "running": load.queue.running}
            )
            yield _gauge("oldest_job_seconds", "For how long the oldest job waits", load.queue.oldest_seconds)
            yield _by_label("members", "Members of the cluster by role", "role", load.members)


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(f"connectors_{name}", text, value=value)


def _by_label(name: str, text: str, label: str, values: Mapping[str, int]) -> Metric:
    family = GaugeMetricFamily(f"connectors_{name}", text, labels=[label])
    for value, number in values.items():
        family.add_metric([value], number)
    return family

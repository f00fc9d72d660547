"""Services: what people ask of connections, once for the console and the commands.

Owns the checks before anything is stored, and the words of each refusal; each service has one subject.
"""

from __future__ import annotations

from connectors.plugins import ConnectorClass
from connectors.services.agreement import AgreementService
from connectors.services.cards import CardService
from connectors.services.checks import ConnectionChecks, require_known_fields
from connectors.services.claims import ClaimService
from connectors.services.commands import (
    Command,
    CommandKind,
    CommandService,
    backfill_command,
    import_command,
    reconcile_command,
    replan_command,
    retry_command,
    rotate_command,
    sync_command,
)
from connectors.services.connections import ConnectionService
from connectors.services.consents import ConsentService
from connectors.services.context import ServiceContext, SettingValues, nearest
from connectors.services.counter import CounterService
from connectors.services.drafts import DraftService
from connectors.services.imports import ImportService, ImportWish
from connectors.services.onboarding import ConnectOptions, OnboardingService
from connectors.services.people import PeopleService, PersonCount
from connectors.services.plans import PlanService
from connectors.services.refusal import KeyRefused, Refusal, UnusableSettings, WrongFields
from connectors.services.results import (
    ConnectionDetails,
    ImportResult,
    Progress,
    ProgressReport,
    ReconcileResult,
    ReplanCounts,
    ReplanResult,
    RetryResult,
    RotationResult,
    SyncResult,
)
from connectors.services.review import ReviewService
from connectors.services.subscriptions import SubscriptionRequest, SubscriptionService
from connectors.services.sync import PreviewedReceipt, SyncService
from connectors.services.tokens import TokenService
from connectors.sevenstamp.client import SevenStamp

__all__ = [
    "Command",
    "CommandKind",
    "ConnectOptions",
    "ConnectionDetails",
    "ConnectorClass",
    "ImportResult",
    "ImportWish",
    "KeyRefused",
    "PersonCount",
    "PreviewedReceipt",
    "Progress",
    "ProgressReport",
    "ReconcileResult",
    "Refusal",
    "ReplanCounts",
    "ReplanResult",
    "RetryResult",
    "RotationResult",
    "ServiceContext",
    "Services",
    "SettingValues",
    "SubscriptionRequest",
    "SyncResult",
    "UnusableSettings",
    "WrongFields",
    "backfill_command",
    "import_command",
    "nearest",
    "reconcile_command",
    "replan_command",
    "require_known_fields",
    "retry_command",
    "rotate_command",
    "sync_command",
]


class Services:
    """All services over one context, composed; `by` gives the services of somebody who asks."""

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self.checks = ConnectionChecks(context)
        self.onboarding = OnboardingService(context, self.checks)
        self.drafts = DraftService(context)
        self.consents = ConsentService(context)
        self.connections = ConnectionService(context, self.checks)
        self.sync = SyncService(context)
        self.review = ReviewService(context)
        self.people = PeopleService(context)
        self.plans = PlanService(context)
        self.cards = CardService(context)
        self.claims = ClaimService(context)
        self.counter = CounterService(context, self.cards)
        self.subscriptions = SubscriptionService(context)
        self.tokens = TokenService(context)
        self.agreement = AgreementService(context, self.sync)
        self.imports = ImportService(context, self.sync)
        self.commands = CommandService(context, self.sync, self.review, self.agreement, self.imports)

    def by(self, person: str) -> Services:
        """Return services whose changes are journalled with the name of this person."""
        return Services(self._context.on_behalf_of(person))

    def connector_class(self, name: str) -> ConnectorClass:
        """Return the connector of that name. Raises `Refusal`, which names the known ones, nearest first."""
        return self._context.connector_class(name)

    def offered_connectors(self) -> list[ConnectorClass]:
        """List the connectors for which the operator has set what they cannot do without, by name."""
        return self._context.offered_connectors()

    @property
    def sevenstamp(self) -> SevenStamp:
        """The client of 7stamp. Raises `Refusal` where its address is not set."""
        return self._context.sevenstamp

    def require_sevenstamp(self) -> None:
        """Refuse what cannot be done where the operator has not said where 7stamp is. Raises `Refusal`."""
        self._context.require_sevenstamp()

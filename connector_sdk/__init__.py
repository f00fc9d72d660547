"""What an integrator sees: everything a connector for a till is made of."""

from connector_sdk.connector import (
    Connector,
    ConnectorInfo,
    HookAddress,
    Location,
    MenuItem,
    OAuth,
    TillAccount,
    Token,
)
from connector_sdk.errors import (
    Ambiguous,
    BadPayload,
    ConnectorError,
    Forged,
    MissingRight,
    NotAuthorised,
    NotConfigured,
    NotSupported,
    RateLimited,
    TillUnavailable,
)
from connector_sdk.hooks import (
    Account,
    AccountChanged,
    Answer,
    Hint,
    Hints,
    HookRequest,
    Ignored,
    Received,
    Sales,
)
from connector_sdk.hookspecs import ConnectionFacts, OperationFacts, hookimpl
from connector_sdk.messages import Message
from connector_sdk.money import Money
from connector_sdk.rule import StampRule
from connector_sdk.sale import Checkpoint, Customer, Line, Sale, SalePage, SaleStatus, Unreadable
from connector_sdk.till_client import RateLimit, TillClient

__all__ = [
    "Account",
    "AccountChanged",
    "Ambiguous",
    "Answer",
    "BadPayload",
    "Checkpoint",
    "ConnectionFacts",
    "Connector",
    "ConnectorError",
    "ConnectorInfo",
    "Customer",
    "Forged",
    "Hint",
    "Hints",
    "HookAddress",
    "HookRequest",
    "Ignored",
    "Line",
    "Location",
    "MenuItem",
    "Message",
    "MissingRight",
    "Money",
    "NotAuthorised",
    "NotConfigured",
    "NotSupported",
    "OAuth",
    "OperationFacts",
    "RateLimit",
    "RateLimited",
    "Received",
    "Sale",
    "SalePage",
    "SaleStatus",
    "Sales",
    "StampRule",
    "TillAccount",
    "TillClient",
    "TillUnavailable",
    "Token",
    "Unreadable",
    "hookimpl",
]

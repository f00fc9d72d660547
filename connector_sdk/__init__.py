"""The public face of the SDK: every name that an integrator needs to write a connector for a till.

Owns the list of public names; the modules beside it own what they mean. A name that is not exported here, in
`hookspecs`, `signatures`, `sandbox`, `teaching` or `testing` may change without notice.
"""

from connector_sdk.connector import (
    FIRST,
    TAUGHT,
    Connector,
    ConnectorInfo,
    HookAddress,
    Location,
    MenuItem,
    OAuth,
    ReadyMade,
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
    NotFound,
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
from connector_sdk.numbers import decimal_of, plain_quantity, quantity_of, whole_of
from connector_sdk.rule import StampRule
from connector_sdk.sale import Checkpoint, Customer, Line, Sale, SalePage, SaleStatus, Unreadable
from connector_sdk.till_client import RateLimit, TillClient

__all__ = [
    "FIRST",
    "TAUGHT",
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
    "NotFound",
    "NotSupported",
    "OAuth",
    "OperationFacts",
    "RateLimit",
    "RateLimited",
    "ReadyMade",
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
    "decimal_of",
    "hookimpl",
    "plain_quantity",
    "quantity_of",
    "whole_of",
]

"""The public face of the SDK: every name that an integrator needs to write a connector for a till.

Owns the list of public names, and imports the module of each at its first use, so that `import connector_sdk` costs
next to nothing; the modules beside it own what they mean. A name that is not exported here, and not documented in
`forms`, `hookspecs`, `json_text`, `loyalty`, `messages`, `numbers`, `rule`, `sandbox`, `signatures`, `teaching`,
`testing` or `token_endpoint`, may change without notice.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for type checkers and editors; at run time `__getattr__` finds the names
    from connector_sdk.authorisation import Consent, Grant, OAuth, Returned, Token
    from connector_sdk.connector import Connector, ConnectorInfo, HookAddress, Location, MenuItem, TillAccount
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
    from connector_sdk.hooks import Account, AccountChanged, Answer, Hint, Hints, HookRequest, Ignored, Received, Sales
    from connector_sdk.hookspecs import hookimpl
    from connector_sdk.loyalty import LoyaltyEvent
    from connector_sdk.money import Money
    from connector_sdk.numbers import decimal_of, quantity_of
    from connector_sdk.rate_limit import RateLimit
    from connector_sdk.sale import Customer, Line, Sale, SalePage, SaleStatus, Unreadable
    from connector_sdk.till_client import Cursor, Link, TillClient

__version__ = "1.0"
"""The SDK's version: what is public here changes only as `docs/reference.md` promises."""

__all__ = [
    "Account",
    "AccountChanged",
    "Ambiguous",
    "Answer",
    "BadPayload",
    "Connector",
    "ConnectorError",
    "ConnectorInfo",
    "Consent",
    "Cursor",
    "Customer",
    "Forged",
    "Grant",
    "Hint",
    "Hints",
    "HookAddress",
    "HookRequest",
    "Ignored",
    "Line",
    "Link",
    "Location",
    "LoyaltyEvent",
    "MenuItem",
    "MissingRight",
    "Money",
    "NotAuthorised",
    "NotConfigured",
    "NotFound",
    "NotSupported",
    "OAuth",
    "RateLimit",
    "RateLimited",
    "Received",
    "Returned",
    "Sale",
    "SalePage",
    "SaleStatus",
    "Sales",
    "TillAccount",
    "TillClient",
    "TillUnavailable",
    "Token",
    "Unreadable",
    "__version__",
    "decimal_of",
    "hookimpl",
    "quantity_of",
]

# Which module each public name is from: the imports above once more, for a test holds the two together.
_NAMES_BY_MODULE = {
    "authorisation": (
        "Consent",
        "Grant",
        "OAuth",
        "Returned",
        "Token",
    ),
    "connector": (
        "Connector",
        "ConnectorInfo",
        "HookAddress",
        "Location",
        "MenuItem",
        "TillAccount",
    ),
    "errors": (
        "Ambiguous",
        "BadPayload",
        "ConnectorError",
        "Forged",
        "MissingRight",
        "NotAuthorised",
        "NotConfigured",
        "NotFound",
        "NotSupported",
        "RateLimited",
        "TillUnavailable",
    ),
    "hooks": (
        "Account",
        "AccountChanged",
        "Answer",
        "Hint",
        "Hints",
        "HookRequest",
        "Ignored",
        "Received",
        "Sales",
    ),
    "hookspecs": ("hookimpl",),
    "loyalty": ("LoyaltyEvent",),
    "money": ("Money",),
    "numbers": (
        "decimal_of",
        "quantity_of",
    ),
    "sale": (
        "Customer",
        "Line",
        "Sale",
        "SalePage",
        "SaleStatus",
        "Unreadable",
    ),
    "till_client": (
        "Cursor",
        "Link",
        "RateLimit",
        "TillClient",
    ),
}
_OF_0_1 = frozenset(
    "Checkpoint FIRST TAUGHT ReadyMade ConnectionFacts OperationFacts Message StampRule plain_quantity whole_of".split()
)
"""Names that were public in 0.1, and are elsewhere now or gone."""
_MODULE_BY_NAME = {name: module for module, names in _NAMES_BY_MODULE.items() for name in names}


def __getattr__(name: str) -> object:
    """Import a public name's module at the first use of the name (PEP 562). Raises `AttributeError` for others."""
    if name in _OF_0_1:
        # no `AttributeError`: Python would hide this text behind its own
        raise ImportError(f"connector_sdk.{name} is of SDK 0.1: docs/from-0.1-to-1.md says where it went")
    if name not in _MODULE_BY_NAME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(import_module(f"{__name__}.{_MODULE_BY_NAME[name]}"), name)
    globals()[name] = value  # the next use of the name does not come here any more
    return value


def __dir__() -> list[str]:
    """Name the public names too, which are not in the module before their first use."""
    return sorted({*globals(), *__all__})

"""The behaviours that a connector promises, each with what it guards against and how to mend it.

Owns what is demanded, by subject in the modules beside; how a till is driven and read is `behaviour_trial`'s.
"""

# ruff: noqa: I001 - imported in the order in which they are tried and reported
from connector_sdk.testing.behaviours import account
from connector_sdk.testing.behaviours import consent
from connector_sdk.testing.behaviours import reading
from connector_sdk.testing.behaviours import sales
from connector_sdk.testing.behaviours import refunds
from connector_sdk.testing.behaviours import hooks
from connector_sdk.testing.behaviours import secrecy
from connector_sdk.testing.behaviours.declared import BEHAVIOURS

__all__ = ["BEHAVIOURS", "account", "consent", "hooks", "reading", "refunds", "sales", "secrecy"]

"""What the operator sets for all connections of a connector, from the connector's own environment variables.

Owns how it is read; its names and checks are the connector's.
"""

from __future__ import annotations

from pydantic import BaseModel

from connector_sdk.authorisation import OperatorSettings
from connector_sdk.connector import Connector


def app_settings(connector_class: type[Connector[BaseModel]]) -> OperatorSettings:
    """Return what the operator set for all of a connector's connections; `None` where it has no such settings."""
    return connector_class.app_model() if connector_class.app_model is not None else None

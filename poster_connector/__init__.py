"""Poster POS: receipts by poll and by thin hook."""

from connector_sdk.hookspecs import Register, hookimpl
from poster_connector.connector import PosterConnector

__all__ = ["PosterConnector", "register_connectors"]


@hookimpl
def register_connectors(register: Register) -> None:
    register(PosterConnector)

"""A stand-in 7stamp that speaks our contract, with faults, over a state in memory or in a file.

Owns the behaviour that the OpenAPI file describes; serving it on a port is the caller's.
"""

from connectors.sevenstamp.sandbox.application import ConnectionCut, Sandbox
from connectors.sevenstamp.sandbox.faults import Faults
from connectors.sevenstamp.sandbox.state import Operation

__all__ = ["ConnectionCut", "Faults", "Operation", "Sandbox"]

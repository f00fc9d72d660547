"""Test a connector: a stub of the till, written by the author, and the conformance suite that runs over it.

Owns the list of public names. `TillStub` is the contract between stub and suite; `Conformance` runs the suite under
pytest, `examine` anywhere.
"""

from connector_sdk.testing.behaviour_trial import Behaviour, Level
from connector_sdk.testing.behaviours import BEHAVIOURS
from connector_sdk.testing.faults import ORDINARY, Faulty
from connector_sdk.testing.stub import CannotShow, Fault, Sold, SoldLine, TillStub
from connector_sdk.testing.suite import Conformance, Outcome, Report, Result, examine
from connector_sdk.testing.times import awkward_moments, written

__all__ = [
    "BEHAVIOURS",
    "ORDINARY",
    "Behaviour",
    "CannotShow",
    "Conformance",
    "Fault",
    "Faulty",
    "Level",
    "Outcome",
    "Report",
    "Result",
    "Sold",
    "SoldLine",
    "TillStub",
    "awkward_moments",
    "examine",
    "written",
]

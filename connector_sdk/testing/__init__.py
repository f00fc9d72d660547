"""What a connector's author tests with: a stub of the till, and the conformance suite that is run over it.

`TillStub` is the contract between the two; `Conformance` runs the suite under pytest, `examine` anywhere.
"""

from connector_sdk.testing.behaviours import BEHAVIOURS
from connector_sdk.testing.faults import ORDINARY, Faulty
from connector_sdk.testing.stub import CannotShow, Fault, Sold, TillStub
from connector_sdk.testing.suite import Conformance, Outcome, Report, Result, examine
from connector_sdk.testing.times import awkward_moments, written
from connector_sdk.testing.trial import Behaviour, Level

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
    "TillStub",
    "awkward_moments",
    "examine",
    "written",
]

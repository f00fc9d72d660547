"""What people ask of connections, in one place for the command line and the console.

Owns the checks before anything is stored, and the words in which they are refused; each action is one method.
"""

from __future__ import annotations

from connectors.desk.deciding import Deciding
from connectors.desk.forgetting import Forgetting, Forgotten
from connectors.desk.ground import nearest
from connectors.desk.joining import Joining, known_fields
from connectors.desk.keeping import Keeping
from connectors.desk.refusal import KeyRefused, Refusal, Unfit, WrongFields
from connectors.desk.working import Previewed, Progress, Working

__all__ = [
    "Desk",
    "Forgotten",
    "KeyRefused",
    "Previewed",
    "Progress",
    "Refusal",
    "Unfit",
    "WrongFields",
    "known_fields",
    "nearest",
]


class Desk(Joining, Keeping, Working, Deciding, Forgetting):
    """All actions."""

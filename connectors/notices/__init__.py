"""Messages to a cafe: by email and to phones, when something has needed a person for a while, of its plan, its week.

Owns that neither way waits for the other; each module here is one of them.
"""

from __future__ import annotations

import asyncio

from connectors.notices.emails import Emails
from connectors.notices.pushes import Pushes

__all__ = ["Emails", "Notices", "Pushes"]


class Notices:
    """Sends what is due."""

    def __init__(self, emails: Emails, pushes: Pushes) -> None:
        self._emails = emails
        self.pushes = pushes

    async def round(self) -> int:
        """Send what is due now, and return how many messages went out."""
        # side by side: neither a mail server nor a push service that hangs holds up the other
        counts = await asyncio.gather(self.pushes.round(), self._emails.round(), return_exceptions=True)
        for error in counts:
            if isinstance(error, BaseException):
                raise error
        return sum(count for count in counts if isinstance(count, int))

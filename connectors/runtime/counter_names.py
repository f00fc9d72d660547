"""Names of the counters by which a running host tells other processes of itself.

Owns the names; the counters are rows of `connectors.store.counters`.
"""

from __future__ import annotations

STARTED = "what the running host says of itself"
"""Holds `Host.started`: by it a look from outside tells this host from another."""
UNTRUSTED_PROXY = "requests forwarded by a proxy that is not trusted"
"""Counted since the last start, at most once an hour, and only while no proxy is trusted."""
CLOCK_JUMPS = "jumps of the clock"
"""How often the clock was put forward or back by a second or more while a host ran."""
CLOCK_TO_MAKE_UP = "jump of the clock that members may have missed"
"""Microseconds by which the clock was put back (a negative number), until whoever lives goes by the right time."""
REFUSED = "refused: "
"""What the counters of refused requests begin with; the name of the limit follows."""

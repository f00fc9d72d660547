"""Whether what a database server says is committed is still there after it failed.

Owns which settings of PostgreSQL that takes: those of a session are set, those of the server are named to its operator.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection as Session
from sqlalchemy import text

from connectors.domain.finding import Finding

_LOSING = {
    "fsync": "a power cut can destroy the database",
    "full_page_writes": "a power cut can leave half-written pages",
}
# other values than `off` wait for a disk, or for that of a standby, and are the operator's to choose
_KEEP_COMMITS = (
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
)


# `Any`: the driver's own connection, which is not imported where no server is used
def keep_commits(connection: Any) -> None:
    """Have this connection's commits wait for the disk, whatever the server's default is.

    A server that acknowledges a commit before forgets the last ones when it fails: a stamp that was on its way would
    be sent once more, and a hook that was acknowledged would be gone.
    """
    with connection.cursor() as cursor:
        cursor.execute(_KEEP_COMMITS)
    connection.commit()


def find_problems(session: Session) -> list[Finding]:
    """List the settings of the server with which it may lose what it has; empty on a file of ours."""
    if session.dialect.name != "postgresql":
        return []
    query = text("SELECT name FROM pg_settings WHERE name = ANY(:names) AND setting = 'off' ORDER BY name")
    return [
        Finding("database", False, f"the database server runs with {name} = off: {_LOSING[name]}; set it to on")
        for name in session.execute(query, {"names": list(_LOSING)}).scalars()
    ]

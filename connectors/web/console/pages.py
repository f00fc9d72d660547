"""All pages of the console, as the routers of the modules that own them.

Owns the list and nothing else; `connectors.web.app` mounts it.
"""

from __future__ import annotations

from connectors.web.console import (
    connecting,
    forgetting,
    keeping,
    live,
    login,
    operating,
    passkeys,
    quotas_page,
    receipts,
    security_log,
    teaching,
)

ROUTERS = (
    login.router,
    passkeys.router,
    security_log.router,
    connecting.router,
    teaching.router,
    live.router,
    receipts.router,
    keeping.router,
    forgetting.router,
    operating.router,
    quotas_page.router,
)

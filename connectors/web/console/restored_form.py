"""What somebody had typed on a page before they had to sign in again, or had to look elsewhere first.

Owns only the reading back; the forms are saved where `Visit.park` and the sign-in page save them.
"""

from __future__ import annotations

from connectors.web.console.frame import Form, Visit


def restored_form(visit: Visit) -> Form:
    """Return the form saved under the address's `kept` for this very page; an empty one where there is none."""
    saved_name = visit.request.query_params.get("kept", "")
    return Form(visit.console.parked.take(saved_name, visit.request.url.path))

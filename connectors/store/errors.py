"""Errors of the store: a database that cannot be used, and requests that it refuses; each is a sentence to act on."""

from __future__ import annotations


class StoreError(Exception):
    """The database cannot be used; the text says why and what to do."""


class Unusable(StoreError):
    """The database itself failed: whoever else asks at the same time is told the same."""


class StoreBusy(Unusable):
    """Another process keeps the database locked, or the disk is full: nothing was written."""


class Conflict(Unusable):
    """Another transaction stood in the way, or the connection was lost before the commit: it can be tried again."""


class WrongKey(StoreError):
    """What is kept was encrypted with another key."""

    def __init__(self, key_id: str) -> None:
        super().__init__(
            f"this database was made with another secret key (key id {key_id}): set CONNECTORS_SECRET_KEY to the one "
            "it was made with (or name that one in CONNECTORS_SECRET_KEYS_OLD), or put its key file back beside it"
        )


class NewerDatabase(StoreError):
    """The schema is of a later version of this software."""

    def __init__(self, revision: str) -> None:
        super().__init__(f"this database was made by a newer version (schema {revision}): upgrade this software first")


class Moved(StoreError):
    """The installation was moved to a database server."""

    def __init__(self, to: str) -> None:
        super().__init__(
            f"this installation was moved to {to}: set CONNECTORS_DATABASE_URL to it; `connectors move --back` has the "
            "file used again, without what happened since"
        )


class Moving(StoreError):
    """An installation is being moved into this database, and not all of it is there."""

    def __init__(self) -> None:
        super().__init__(
            "an installation is being moved into this database: run `connectors move` again where it is moved from, "
            "until it says that it is done"
        )


class NotFound(StoreError):
    """No row of that name."""


class QuotaMet(StoreError):
    """A quota of the business is used up: `most` of what it counts."""

    def __init__(self, most: int, what: str = "connections") -> None:
        super().__init__(f"a business has at most {most} {what} here")
        self.most = most


class AlreadyConnected(StoreError):
    """The till account or location belongs to another connection: `connection_id` where it is the same business'."""

    def __init__(self, text: str, connection_id: str | None = None) -> None:
        super().__init__(text)
        self.connection_id = connection_id

"""The relay: events of 7stamp and our own, signed and replayable, to whoever subscribed to them.

`recording` writes them beside what caused them, `bodies` says what they look like, `delivering` sends them.
"""

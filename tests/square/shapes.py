"""The shape of an answer: the names of its members and the types of their values, without the values."""

from __future__ import annotations


def shape(value: object) -> object:
    """Return the shape of a JSON value: members by name, a list by its first entry, anything else by its type."""
    if isinstance(value, dict):
        return {name: shape(member) for name, member in value.items()}
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    return type(value).__name__

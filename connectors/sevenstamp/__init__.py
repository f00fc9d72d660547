"""Everything that speaks 7stamp: client, models, the OpenAPI file both sides are checked against, and a sandbox.

The REST contract is ours until 7stamp publishes its own; what differs then is changed in this package alone.
"""

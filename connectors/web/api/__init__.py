"""The JSON API at `/api/v1`: what programs may ask and do for a business, with a bearer token.

`access` says who asks and what they may, `problems` how a refusal looks, `bodies` what goes in and out. The calls are
in `calls` and `subscription_calls`, over the same services as console and commands.
"""

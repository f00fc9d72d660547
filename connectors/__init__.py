"""The host: loads connectors, keeps sales, plans stamps and makes 7stamp agree."""

"""The store: tables, queries, migrations and encryption. The only SQL of the host, and one module a table."""

"""Alembic's way in: the session that `connectors.store.migrate` opened, in its transaction."""

from alembic import context

from connectors.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata, transactional_ddl=True)
context.run_migrations()

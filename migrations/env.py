"""Alembic's entry: the connection is handed in by goalworker.postgres.migrations."""

from alembic import context

from goalworker.postgres import tables

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=tables.metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()

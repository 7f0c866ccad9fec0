"""Alembic's entry point; goalworker.postgres.migrations hands over the connection."""

from alembic import context

from goalworker.postgres import tables

connection = context.config.attributes["connection"]
context.configure(connection=connection, target_metadata=tables.metadata, transaction_per_migration=True)
with context.begin_transaction():
    context.run_migrations()

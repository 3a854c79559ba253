"""Alembic's entry: runs on the connection that the caller opened, inside its transaction."""

from alembic import context

from iotbill_pipelines.storage.models import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
)
context.run_migrations()

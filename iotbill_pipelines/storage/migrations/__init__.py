"""Alembic migrations, run by :func:`iotbill_pipelines.storage.database.migrate`."""

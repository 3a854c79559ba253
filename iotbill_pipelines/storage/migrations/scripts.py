"""Running a migration's SQL file."""

from __future__ import annotations

from pathlib import Path

from alembic import op


def run_script(migration: str, name: str) -> None:
    """Execute the SQL file ``name`` beside the migration, as one batch in its transaction."""
    statements = (Path(migration).parent / name).read_text("utf-8")
    cursor = op.get_bind().connection.cursor()
    # Straight to the driver: SQLAlchemy would read the percent signs and colons of the SQL.
    cursor.execute(statements)
    cursor.close()

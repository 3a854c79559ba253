"""Files, reference data, ledger, journals, vendors, close and audit."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0001_functions.sql")
    run_script(__file__, "0001_tables.sql")
    run_script(__file__, "0001_guards.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")

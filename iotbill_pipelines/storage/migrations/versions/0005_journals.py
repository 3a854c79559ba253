"""Journals in functional currency, accruals that reverse, answers of the ERP."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0005_journals.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")

"""Signatures of periods, and closed periods that nothing changes."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0004_periods.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")

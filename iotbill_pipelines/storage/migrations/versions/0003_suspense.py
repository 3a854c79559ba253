"""Waivers of suspended records."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0003_suspense.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")

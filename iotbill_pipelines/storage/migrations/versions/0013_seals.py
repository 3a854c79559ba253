"""Guards that stay on, seals of closed periods, several signatures under a closing."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0013_seals.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")

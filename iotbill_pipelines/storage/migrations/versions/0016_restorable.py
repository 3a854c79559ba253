"""A function of generated columns that finds what it calls while a backup is restored."""

from iotbill_pipelines.storage.migrations.scripts import run_script

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    run_script(__file__, "0016_restorable.sql")


def downgrade() -> None:
    raise RuntimeError("a ledger is not downgraded: restore the backup made before the upgrade")
